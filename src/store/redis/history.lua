-- The history of what has ended, which is bounded.

local function forget(ids)
  if #ids == 0 then return end
  local runs = {}
  for n, id in ipairs(ids) do
    runs[n] = run_of(id)
    changed(id)
  end
  redis.call('ZREM', ENDED, unpack(ids))
  redis.call('ZREM', HISTORY, unpack(ids))
  redis.call('HDEL', REDELIVERED, unpack(ids))
  redis.call('DEL', unpack(runs))
end

-- Drops up to `most` of the oldest ended runs that are more than `kept`.
local function drop_oldest(kept, most)
  local excess = math.min(redis.call('ZCARD', ENDED) - kept, most)
  if excess > 0 then forget(redis.call('ZRANGE', ENDED, 0, excess - 1)) end
end
