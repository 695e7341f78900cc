-- The timer of every process: renews its leases, takes back what dead processes held, drops what is too old.
-- ARGV: lease (ms); how long (ms) and how many ended runs are kept; how long a death counts (ms), and at how many
-- deaths a task is poisoned; how many inboxes are waited in, and each as process:list; the tokens that are held.
-- Returns the tokens that were lost; of each message that must not be handed out again although its process died:
-- token, queue, envelope and why ('lost' or 'poisoned'); how many messages are handed out again; and in how many of the
-- inboxes there was something, which is in its list again. The caller has the lease of what is not handed out now, and
-- is to settle it.

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
  for _, token in ipairs(redis.call('ZRANGE', LEASE, 0, -1)) do redis.call('ZINCRBY', LEASE, gap, token) end
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

local lost = {}
for i = 7 + inboxes, #ARGV do
  if is_held(ARGV[i]) then
    redis.call('ZADD', LEASE, 'GT', now + lease, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end

local over = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, MOST)
table.sort(over, function(a, b) return tonumber(a) > tonumber(b) end) -- the oldest last, so that it comes first
local queues = #over > 0 and redis.call('SMEMBERS', QUEUES) or {}
local orphans, again = {}, 0

-- The caller has the lease now.
local function adopt(token, queue, envelope, why)
  redis.call('ZADD', LEASE, now + lease, token)
  orphans[#orphans + 1] = { token, queue, envelope, why }
end

-- One death more of a task that ran; how many they are.
local function count_death(id)
  local times = deaths_of(id, suspected_for)
  times[#times + 1] = now_text
  redis.call('HSET', REDELIVERED, id, table.concat(times, ','))
  return #times
end

local function recover(token, queue, envelope)
  if redis.call('SISMEMBER', ACKNOWLEDGED, token) == 1 then return adopt(token, queue, envelope, 'lost') end
  local id = id_in(envelope)
  if id and redis.call('SISMEMBER', STARTED, token) == 1 then
    local poisoned = count_death(id) >= most_deaths
    if poisoned and not redis.call('ZSCORE', REVOKED, id) then return adopt(token, queue, envelope, 'poisoned') end
  end
  again = again + 1
  give_back(queue, token)
  if id then
    redis.call('HSETNX', REDELIVERED, id, '')
    waits_again(id, 'QUEUED')
  end
end

for _, token in ipairs(over) do
  redis.call('ZREM', LEASE, token)
  for _, queue in ipairs(queues) do
    local kept = redis.call('HGET', claimed_of(queue), token)
    if kept then recover(token, queue, kept:sub(2)) end
  end
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', INBOXES, '-inf', now)) do
  empty_inbox(member, list_in(member))
end
-- Only after a day: an owner that was thought dead may still be given something.
redis.call('ZREMRANGEBYSCORE', INBOXES, '-inf', now - DAY)

promote(MOST)

forget(redis.call('ZRANGEBYSCORE', ENDED, '-inf', now - history_keep, 'LIMIT', 0, MOST))
drop_oldest(history, MOST)
-- What nobody settled; a delayed one has a time to live of its own.
local unsettled = math.max(UNSETTLED * 1000, history_keep) * 1000
for _, id in ipairs(redis.call('ZRANGEBYSCORE', HISTORY, '-inf', now_us - unsettled, 'LIMIT', 0, MOST)) do
  redis.call('ZREM', HISTORY, id)
  if redis.call('TTL', run_of(id)) == -1 then forget({ id }) end
end
redis.call('ZREMRANGEBYSCORE', REVOKED, '-inf', now - 3 * DAY)
-- A connection is made again within this, or else its process has lost its leases.
redis.call('ZREMRANGEBYSCORE', TERMINATE, '-inf', now - 600000)
redis.call('ZREMRANGEBYSCORE', WATCHED, '-inf', now)
return { lost, orphans, again, found }
