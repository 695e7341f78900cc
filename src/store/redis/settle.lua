-- Ends deliveries, each in one step: receipt checked, outcome stored, follow-ups pushed, lease ended.
-- ARGV: how long results are kept (s), how many ended runs are kept; then of each delivery: token, queue, id, state,
-- attempt (JSON), log (JSON, '' to leave it as it is), Celery's result ('' when nothing is published), the retry as
-- step, due (ms), retries and envelope ('' for none); how many
-- follow-ups, and of each: id, queue, step, due (ms), envelope, brief.
-- Returns 1 or 0 for each: stored, or the lease was lost.

local keep, history = ARGV[1], tonumber(ARGV[2])
local any_acknowledged = redis.call('EXISTS', ACKNOWLEDGED) == 1
local any_redelivered = redis.call('EXISTS', REDELIVERED) == 1
local any_started = redis.call('EXISTS', STARTED) == 1

-- Where each delivery begins.
local starts, tokens = {}, {}
local next_start = 3
while next_start <= #ARGV do
  starts[#starts + 1] = next_start
  tokens[#tokens + 1] = ARGV[next_start]
  next_start = next_start + 12 + 6 * ARGV[next_start + 11]
end

local held = are_held(tokens)
local settled, of_queue, over = {}, {}, {}

local function settle(at)
  local token, queue, id, state, attempt, log, meta = unpack(ARGV, at, at + 6)
  local step, due, retries, envelope, followers = unpack(ARGV, at + 7, at + 11)
  settled[token] = true
  of_queue[queue] = of_queue[queue] or {}
  table.insert(of_queue[queue], token)
  if any_redelivered then redis.call('HDEL', REDELIVERED, id) end

  local run = run_of(id)
  -- Apart from the rest, because a search reads the rest of many runs.
  if log ~= '' then redis.call('HSET', run, 'log', log) end
  if envelope ~= '' then
    redis.call('HSET', run, 'state', state, 'attempt', attempt, 'retries', retries, 'eta', due)
    redis.call('EXPIRE', run, UNSETTLED + math.max(0, math.ceil((due - now) / 1000)))
    place(queue, step, id, tonumber(due), envelope)
  else
    -- It ages by its place among the ended ones, not by a time to live of its own.
    redis.call('HSET', run, 'state', state, 'attempt', attempt)
    over[#over + 1] = now_text
    over[#over + 1] = id
    if state == 'REVOKED' then redis.call('ZREM', REVOKED, id) end
  end
  tell(id, meta, keep)
  local new = {}
  for follower = at + 12, at + 6 + 6 * followers, 6 do
    -- A second run of the same task, after a death, does not send its fixed followers twice.
    if redis.call('EXISTS', run_of(ARGV[follower])) == 0 then new[#new + 1] = follower end
  end
  if #new > 0 then store(new) end
end

local answers = {}
for n, at in ipairs(starts) do
  local good = held[n] and not settled[tokens[n]]
  if good then settle(at) end
  answers[n] = good and 1 or 0
end
for queue, ended in pairs(of_queue) do
  redis.call('ZREM', LEASE, unpack(ended))
  redis.call('HDEL', claimed_of(queue), unpack(ended))
  if any_acknowledged then redis.call('SREM', ACKNOWLEDGED, unpack(ended)) end
  if any_started then redis.call('SREM', STARTED, unpack(ended)) end
end
if #over > 0 then
  redis.call('ZADD', ENDED, unpack(over))
  drop_oldest(history, #over)
end
return answers
