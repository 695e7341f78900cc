-- Writes down what tasks came to that workers of another kind ran, so that they are known when Celery's result is gone,
-- and count in the history. What one of us has in hand, or has ended, is left as it is.
-- ARGV: how many ended runs are kept; then of each: id, state, attempt (JSON), when it ended (ms, 0 for now).

local over = {}
for at = 2, #ARGV, 4 do
  local id, state, attempt, ended_at = unpack(ARGV, at, at + 3)
  local run = run_of(id)
  local known = redis.call('HGET', run, 'state')
  if known == 'QUEUED' or known == 'RETRY' then
    redis.call('HSET', run, 'state', state, 'attempt', attempt)
    redis.call('PERSIST', run)
    ended_at = tonumber(ended_at)
    over[#over + 1] = ended_at > 0 and math.min(now, ended_at) or now
    over[#over + 1] = id
    changed(id)
  end
end
if #over > 0 then
  in_parts('ZADD', ENDED, over)
  drop_oldest(tonumber(ARGV[1]), #over / 2)
end
