-- The history of what has ended, which is bounded.

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
  redis.call('ZREM', ENDED, unpack(ids))
  redis.call('ZREM', HISTORY, unpack(ids))
  try('HDEL', REDELIVERED, unpack(ids))
  redis.call('DEL', unpack(runs))
end

-- Drops up to `most` of the oldest ended runs that are more than `kept`.
local function drop_oldest(kept, most)
  local excess = math.min(redis.call('ZCARD', ENDED) - kept, most)
  if excess > 0 then forget(redis.call('ZRANGE', ENDED, 0, excess - 1)) end
end
