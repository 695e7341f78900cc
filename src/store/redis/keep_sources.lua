-- Keeps versions of code. ARGV of each: hash, files (JSON, '' when the caller only asks whether they are kept).
-- Returns the hashes of those that are not kept.

-- Beyond these the versions go whose hashes nobody has named for the longest time.
local MOST = 10000
local MOST_BYTES = 64 * 1048576

local missing = {}
for i = 1, #ARGV, 2 do
  local hash, files = ARGV[i], ARGV[i + 1]
  local kept = redis.call('HEXISTS', SOURCES, hash) == 1
  if not kept and files ~= '' then
    redis.call('HSET', SOURCES, hash, files)
    redis.call('INCRBY', SOURCES_SIZE, #files)
    kept = true
  end
  if kept then
    redis.call('ZADD', SOURCES_KEPT, now, hash)
  else
    missing[#missing + 1] = hash
  end
end

while redis.call('ZCARD', SOURCES_KEPT) > MOST or tonumber(redis.call('GET', SOURCES_SIZE) or 0) > MOST_BYTES do
  local oldest = redis.call('ZPOPMIN', SOURCES_KEPT)[1]
  if not oldest then break end
  redis.call('DECRBY', SOURCES_SIZE, redis.call('HSTRLEN', SOURCES, oldest))
  redis.call('HDEL', SOURCES, oldest)
end
return missing
