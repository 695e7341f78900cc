-- The history of what has ended, which is bounded. Who writes down that a task ended says so here as well, and gives its
-- record `ended`, the time; a task that ends again, because it was sent twice, has a second entry, and the first one is
-- nobody's. So is that of a run that somebody deleted; each keeps its place among the ended ones all the same.

local ends = {}

local function ended(id) ends[#ends + 1] = now_text .. ' ' .. id end

local function forget(ids)
  if #ids == 0 then return end
  local runs = {}
  local any_revoked = redis.call('EXISTS', REVOKED) == 1
  for n, id in ipairs(ids) do
    runs[n] = run_of(id)
    changed(id)
    if any_revoked and redis.call('ZSCORE', REVOKED, id) and try('HGET', runs[n], 'state') == 'REVOKED' then
      -- Nobody has met its message yet, and soon nobody knows any more that it was revoked.
      redis.call('ZADD', REVOKED, now + 365 * DAY, id)
    end
  end
  redis.call('ZREM', HISTORY, unpack(ids))
  try('HDEL', REDELIVERED, unpack(ids))
  redis.call('DEL', unpack(runs))
end

local function forget_ended(entries)
  local ids = {}
  for _, entry in ipairs(entries) do
    local time, id = entry:match('^(%d+) (.+)$')
    if id and try('HGET', run_of(id), 'ended') == time then ids[#ids + 1] = id end
  end
  forget(ids)
end

-- Drops up to `most` of the oldest ended runs that are more than `kept`.
local function drop_oldest(kept, most)
  local excess = math.min(redis.call('LLEN', ENDS) - kept, most)
  if excess > 0 then forget_ended(redis.call('LPOP', ENDS, excess)) end
end

-- When the first one ended, ms; nil where there is none.
local function first_ended_at()
  local entry = redis.call('LINDEX', ENDS, 0)
  return entry and (tonumber(entry:match('^%d+')) or 0)
end

-- Drops up to `most` of those that ended before this time (ms).
local function drop_aged(before, most)
  local aged = {}
  while #aged < most and (first_ended_at() or before) < before do aged[#aged + 1] = redis.call('LPOP', ENDS) end
  forget_ended(aged)
end

-- Writes down what has ended in this script; then no more than `kept` are kept.
local function close_history(kept)
  if #ends == 0 then return end
  in_parts('RPUSH', ENDS, ends)
  drop_oldest(kept, #ends)
end
