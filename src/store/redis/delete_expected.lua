-- Deletes a value of `kv::` if it is the expected one. ARGV: key, value. Returns 1, or 0 when it was another or none.

if redis.call('GET', ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('DEL', ARGV[1])
