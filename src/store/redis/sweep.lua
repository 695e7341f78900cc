-- The timer of every process: renews its leases, takes back what dead processes held, drops what is too old.
-- ARGV: lease (ms), how long results are kept (ms), how many ended runs are kept; the tokens that are held.
-- Returns the tokens that were lost; and of each message that must not be handed out again although its process
-- died: token, queue, envelope. The caller has its lease now, and is to settle it.

-- The most of a kind that one sweep works off, so that it never keeps others waiting for long.
local MOST = 1000

local lease, keep, history = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- When nobody swept for a while the store was away, or everybody was. Nobody could renew then, so nobody is judged
-- by that time. The bound is above the pace of the timers: else one process alone would extend without end. A clock
-- that was set, forth or back, is such a gap too.
local swept = tonumber(redis.call('GET', SWEPT) or now)
local gap = now - swept
if math.abs(gap) > math.max(5000, lease * 2 / 3) then
  for _, token in ipairs(redis.call('ZRANGE', LEASE, 0, -1)) do redis.call('ZINCRBY', LEASE, gap, token) end
  for _, member in ipairs(redis.call('ZRANGE', INBOXES, 0, -1)) do redis.call('ZINCRBY', INBOXES, gap, member) end
end
redis.call('SET', SWEPT, now)

local lost = {}
for i = 4, #ARGV do
  if is_held(ARGV[i]) then
    redis.call('ZADD', LEASE, 'GT', now + lease, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end

local over = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, MOST)
table.sort(over, function(a, b) return tonumber(a) > tonumber(b) end) -- the oldest last, so that it comes first
local queues = #over > 0 and redis.call('SMEMBERS', QUEUES) or {}
local orphans = {}

local function adopt(token)
  for _, queue in ipairs(queues) do
    local kept = redis.call('HGET', claimed_of(queue), token)
    if kept then
      redis.call('ZADD', LEASE, now + lease, token)
      orphans[#orphans + 1] = { token, queue, kept:sub(2) }
    end
  end
end

local function take_back(token)
  for _, queue in ipairs(queues) do
    local envelope = give_back(queue, token)
    local id = envelope and id_in(envelope)
    if id then
      redis.call('HINCRBY', REDELIVERED, id, 1)
      waits_again(id)
    end
  end
end

for _, token in ipairs(over) do
  redis.call('ZREM', LEASE, token)
  if redis.call('SISMEMBER', ACKNOWLEDGED, token) == 1 then adopt(token) else take_back(token) end
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', INBOXES, '-inf', now)) do
  empty_inbox(member, member:sub(member:find(':', 1, true) + 1))
end
-- Only after a day: an owner that was thought dead may still be given something.
redis.call('ZREMRANGEBYSCORE', INBOXES, '-inf', now - DAY)

promote(MOST)

forget(redis.call('ZRANGEBYSCORE', ENDED, '-inf', now - keep, 'LIMIT', 0, MOST))
drop_oldest(history, MOST)
-- What nobody settled; a delayed one has a time to live of its own.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', HISTORY, '-inf', now_us - UNSETTLED * 1000000, 'LIMIT', 0, MOST)) do
  redis.call('ZREM', HISTORY, id)
  if redis.call('TTL', run_of(id)) == -1 then forget({ id }) end
end
redis.call('ZREMRANGEBYSCORE', REVOKED, '-inf', now - 3 * DAY)
return { lost, orphans }
