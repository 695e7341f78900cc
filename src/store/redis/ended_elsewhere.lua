-- Writes down what tasks came to that workers of another kind ran, so that they are known when Celery's result is gone,
-- and count in the history. What one of us has in hand, or has ended, is left as it is.
-- ARGV: how many ended runs are kept; then of each: id, state, attempt (JSON).

must_be('list', ENDS)

for at = 2, #ARGV, 3 do
  local id, state, attempt = unpack(ARGV, at, at + 2)
  local run = run_of(id)
  local known = redis.call('HGET', run, 'state')
  if known == 'QUEUED' or known == 'RETRY' then
    redis.call('HSET', run, 'state', state, 'attempt', attempt, 'ended', now_text)
    redis.call('PERSIST', run)
    ended(id)
    changed(id)
  end
end
close_history(tonumber(ARGV[1]))
