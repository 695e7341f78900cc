-- A worker is there. ARGV: name, for how long (ms), what it says of itself (JSON).

redis.call('SET', worker_of(ARGV[1]), ARGV[3], 'PX', ARGV[2])
redis.call('ZADD', WORKERS, now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)
