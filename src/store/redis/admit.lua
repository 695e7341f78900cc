-- Decides on messages that were just claimed, now that they have been read, and writes down who runs them.
-- ARGV: worker, how long a death counts (ms); then of each message: token, queue, id, due (ms), from when
-- on it may no longer start (ms, 0 for never), brief.
-- Returns for each: 'start', 'again' and how many processes died while it ran, 'revoked' or
-- 'expired' (to be settled as such), or 'gone'.

must_let_go()
local worker, suspected_for = ARGV[1], tonumber(ARGV[2])
local any_revoked = redis.call('EXISTS', REVOKED) == 1
local any_redelivered = redis.call('EXISTS', REDELIVERED) == 1

local tokens, runs = {}, {}
for i = 3, #ARGV, 6 do
  tokens[#tokens + 1] = ARGV[i]
  runs[#runs + 1] = run_of(ARGV[i + 2])
end
local held = are_held(tokens)
local all_known = redis.call('EXISTS', unpack(runs)) == #runs

local function decide(n, token, queue, id, due, expires, brief)
  if not held[n] then return 'gone' end
  local function drop()
    let_go(token)
    return 'gone'
  end

  local run = runs[n]
  if not all_known and redis.call('HEXISTS', run, 'brief') == 0 then -- it came from outside
    redis.call('HSET', run, 'queue', queue, 'brief', brief)
    redis.call('ZADD', HISTORY, now_us, id)
  end
  if any_revoked and redis.call('ZSCORE', REVOKED, id) then
    if redis.call('HGET', run, 'state') ~= 'REVOKED' then return 'revoked' end
    if redis.call('HEXISTS', run, 'twin') == 0 then redis.call('ZREM', REVOKED, id) end
    return drop()
  end
  if expires > 0 and expires <= now then return 'expired' end
  redis.call('HDEL', run, 'ended') -- its sender sent twice what has ended
  if due > now then
    -- A Celery client pushes a task with an eta as any other; it waits here, not in a worker.
    local envelope, _, step = claimed(token)
    place(queue, step, id, due, envelope)
    redis.call('HSET', run, 'state', 'SCHEDULED')
    redis.call('EXPIRE', run, UNSETTLED + math.ceil((due - now) / 1000))
    changed(id)
    return drop()
  end
  redis.call('HSET', run, 'state', 'STARTED', 'token', token, 'worker', worker, 'started_at', now_text)
  changed(id)
  if any_redelivered and redis.call('HEXISTS', REDELIVERED, id) == 1 then
    return 'again ' .. #deaths_of(id, suspected_for)
  end
  return 'start'
end

local answers = {}
for n = 1, #tokens do
  local at = 6 * n - 3
  local token, queue, id, due, expires, brief = unpack(ARGV, at, at + 5)
  answers[n] = decide(n, token, queue, id, tonumber(due), tonumber(expires), brief)
end
return answers
