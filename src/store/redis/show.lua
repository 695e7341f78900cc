-- Shows under Celery's key what a running task is at; nothing when the receipt is void.
-- ARGV: id, token, Celery's result, for how long it is kept (s).

local run = redis.call('HMGET', run_of(ARGV[1]), 'token', 'state')
if run[1] == ARGV[2] and run[2] == 'STARTED' then tell(ARGV[1], ARGV[3], ARGV[4]) end
