-- The timer of every process: renews its leases, takes back what dead processes held, drops what is too old.
-- ARGV: lease (ms); how long (ms) and how many ended runs are kept; how long a death counts (ms), and at how many
-- deaths a task is poisoned; how many inboxes are waited in, and each as process:list; the tokens that are held.
-- Returns the tokens that were lost; of each message that must not be handed out again although its process died:
-- token, queue, envelope and why ('lost' or 'poisoned'); how many messages are handed out again; the ids of tasks that
-- have a result of Celery's and no end here; and in how many of the inboxes there was something, which is in its list
-- again. The caller has the lease of what is not handed out now, and is to settle it.

local function list_in(member) return member:sub(member:find(':', 1, true) + 1) end

-- The most of a kind that one sweep works off, so that it never keeps others waiting for long.
local MOST = 1000

local lease, history_keep, history = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local suspected_for, most_deaths = tonumber(ARGV[4]), tonumber(ARGV[5])

-- When nobody swept for a while the store was away, or everybody was. Nobody could renew then, so nobody is judged
-- by that time. The bound is above the pace of the timers: else one process alone would extend without end. A clock
-- that was set, forth or back, is such a gap too.
local swept = tonumber(redis.call('GET', SWEPT) or now)
local gap = now - swept
if math.abs(gap) > math.max(5000, lease / 2) then
  for _, batch in ipairs(redis.call('ZRANGE', LEASE, 0, -1)) do redis.call('ZINCRBY', LEASE, gap, batch) end
  for _, member in ipairs(redis.call('ZRANGE', INBOXES, 0, -1)) do redis.call('ZINCRBY', INBOXES, gap, member) end
end
redis.call('SET', SWEPT, now)

local inboxes = tonumber(ARGV[6])
local lives = {}
for n = 1, inboxes do lives[2 * n - 1], lives[2 * n] = now + lease, ARGV[6 + n] end
in_parts('ZADD', INBOXES, lives)

-- Who is awake has emptied them. What lies there all the same was brought by a wait whose connection is lost.
local found = 0
for n = 1, inboxes do
  if redis.call('EXISTS', inbox_of(ARGV[6 + n])) == 1 then
    empty_inbox(ARGV[6 + n], list_in(ARGV[6 + n]))
    found = found + 1
  end
end

local mine, lost, alive = {}, {}, {}
for i = 7 + inboxes, #ARGV do mine[#mine + 1] = ARGV[i] end
for n, is_held in ipairs(are_held(mine)) do
  if is_held then
    local batch = parts_of(mine[n])
    alive[batch] = true
  else
    lost[#lost + 1] = mine[n]
  end
end
for batch in pairs(alive) do redis.call('ZADD', LEASE, 'GT', now + lease, batch) end

local over = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, MOST)
table.sort(over, function(a, b) return tonumber(a) > tonumber(b) end) -- the oldest last, so that it comes first
local orphans, again, looked_at = {}, 0, 0

-- One death more of a task that ran; how many they are.
local function count_death(id)
  local times = deaths_of(id, suspected_for)
  times[#times + 1] = now_text
  redis.call('HSET', REDELIVERED, id, table.concat(times, ','))
  return #times
end

-- The caller has the lease of what it is to settle.
local function recover(token)
  local envelope, queue, step = claimed(token)
  if not envelope then return end
  local function adopt(why) orphans[#orphans + 1] = { token, queue, envelope, why } end
  must_be('list', list_of(queue, step))
  if redis.call('SISMEMBER', ACKNOWLEDGED, token) == 1 then return adopt('lost') end
  -- What has begun was read before, which may take more than is done here.
  local begun = redis.call('HGET', BEGUN, token)
  local id = begun or id_in(envelope)
  if begun then
    local poisoned = count_death(id) >= most_deaths
    if poisoned and not redis.call('ZSCORE', REVOKED, id) then return adopt('poisoned') end
  end
  again = again + 1
  give_back(token)
  if id then
    redis.call('HSETNX', REDELIVERED, id, '')
    waits_again(id, 'QUEUED')
  end
end

for _, batch in ipairs(over) do
  if looked_at >= MOST then break end
  local numbers = redis.call('SMEMBERS', open_of(batch))
  table.sort(numbers)
  looked_at = looked_at + #numbers
  -- What stays in it has one more lease: the caller is to settle it, or it cannot go back because something else lies
  -- there, and is looked at again then.
  redis.call('ZADD', LEASE, now + lease, batch)
  for n = #numbers, 1, -1 do
    local good, why = pcall(recover, batch .. numbers[n])
    if not good then of_another_kind(why) end
  end
  if #numbers == 0 then end_batch(batch) end
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', INBOXES, '-inf', now)) do
  empty_inbox(member, list_in(member))
end
-- Only after a day: an owner that was thought dead may still be given something.
redis.call('ZREMRANGEBYSCORE', INBOXES, '-inf', now - DAY)

promote(MOST)

drop_aged(now - history_keep, MOST)
drop_oldest(history, MOST)

-- The history is walked a piece at a time, by all processes together. What nobody settles is forgotten; a delayed one has
-- a time to live of its own. What a worker of another kind may have ended is for the caller to read.
local PIECE, MOST_ELSEWHERE = 500, 100
local elsewhere = {}
local first_end = first_ended_at() or math.huge
local function look_at(id, known_since)
  local run = run_of(id)
  local state, ended_at = unpack(try('HMGET', run, 'state', 'ended') or {})
  if not state then return redis.call('ZREM', HISTORY, id) end
  if is_final(state) then
    -- Of those the list tells nothing: somebody deleted it, or an older umbel wrote the record.
    if not ended_at or tonumber(ended_at) < first_end then
      redis.call('HSET', run, 'ended', now_text)
      ended(id)
    end
    return 0
  end
  if known_since < now_us - math.max(UNSETTLED * 1000, history_keep) * 1000 and redis.call('TTL', run) == -1 then
    forget({ id })
    return 1
  end
  if (state == 'QUEUED' or state == 'RETRY') and redis.call('EXISTS', meta_of(id)) == 1 then
    elsewhere[#elsewhere + 1] = id
  end
  return 0
end
local walked = tonumber(try('GET', WALKED) or 0) or 0
local piece = redis.call('ZRANGE', HISTORY, walked, walked + PIECE - 1, 'WITHSCORES')
for n = 1, #piece, 2 do
  if #elsewhere == MOST_ELSEWHERE then break end
  walked = walked + 1 - look_at(piece[n], tonumber(piece[n + 1]))
end
close_history(history)
redis.call('SET', WALKED, #piece < 2 * PIECE and #elsewhere < MOST_ELSEWHERE and 0 or walked)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', REVOKED, '-inf', now - 3 * DAY, 'LIMIT', 0, MOST)) do
  -- Its message still lies somewhere, or else this would be gone: a paused queue may hold it for long.
  if try('HGET', run_of(id), 'state') == 'REVOKED' then
    redis.call('ZADD', REVOKED, now, id)
  else
    redis.call('ZREM', REVOKED, id)
  end
end
-- A connection is made again within this, or else its process has lost its leases.
redis.call('ZREMRANGEBYSCORE', TERMINATE, '-inf', now - 600000)
redis.call('ZREMRANGEBYSCORE', WATCHED, '-inf', now)
return { lost, orphans, again, elsewhere, found }
