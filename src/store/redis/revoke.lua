-- Takes care that a task does not start any more.
-- ARGV: id, '1' to stop a running one, attempt (JSON), Celery's result ('' when nothing is published), keep (s), '1'
-- when the caller knows the task, how many ended runs are kept.
-- Returns 'unknown', 'before', 'running', or the state in which it had ended; 'again' when nothing was done, because the
-- task is known and the caller has yet to learn of it.

must_be('list', ENDS)

-- How many revocations are remembered. The oldest is forgotten for one more, and its task may start.
local MOST = 1000000
-- The same of terminations; then a task whose process was not connected runs to its end.
local MOST_TERMINATED = 1000

local id, terminate, attempt, meta, keep = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], tonumber(ARGV[5])
local run = run_of(id)
local known = redis.call('HMGET', run, 'state', 'queue', 'brief', 'twin')
local state, queue = known[1], known[2]

if state and is_final(state) then return state end
if known[3] and ARGV[6] == '0' then return 'again' end
redis.call('ZADD', REVOKED, now, id)
redis.call('ZREMRANGEBYRANK', REVOKED, 0, -1 - MOST)
if terminate and (not state or state == 'STARTED') then
  -- Whoever runs it may be connecting again, or have claimed it just now; then it looks here.
  redis.call('ZADD', TERMINATE, now, id)
  redis.call('ZREMRANGEBYRANK', TERMINATE, 0, -1 - MOST_TERMINATED)
  if state then redis.call('PUBLISH', TERMINATE, id) end
end
if not state then return 'unknown' end
if state == 'STARTED' then return 'running' end

if redis.call('ZREM', due_of(queue), id) == 1 then
  redis.call('HDEL', delayed_of(queue), id)
  if not known[4] then redis.call('ZREM', REVOKED, id) end
  index_due(queue)
end
redis.call('HSET', run, 'state', 'REVOKED', 'attempt', attempt, 'ended', now_text)
redis.call('PERSIST', run)
ended(id)
close_history(tonumber(ARGV[7]))
tell(id, meta, keep)
return 'before'
