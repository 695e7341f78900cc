-- Somebody wants to hear of each change of a task. ARGV: id, for how long (ms).

redis.call('ZADD', WATCHED, 'GT', now + ARGV[2], ARGV[1])
