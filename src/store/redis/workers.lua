-- What each worker that is there says of itself (JSON).

redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)
local facts = {}
for _, name in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  facts[#facts + 1] = redis.call('GET', worker_of(name)) or nil
end
return facts
