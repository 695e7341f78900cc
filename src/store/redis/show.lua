-- Shows under Celery's key what a running task is at; nothing when the receipt is void. Its record may not be written
-- yet, so that the lease is asked.
-- ARGV: id, token, Celery's result, for how long it is kept (s).

if is_held(ARGV[2]) then tell(ARGV[1], ARGV[3], ARGV[4]) end
