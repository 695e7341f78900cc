-- Removes up to `most` messages that wait in a queue. ARGV: queue, most. Returns how many; called until it is 0.

local queue, most = ARGV[1], tonumber(ARGV[2])
local removed = 0

local function drop(id)
  if id and not is_final(redis.call('HGET', run_of(id), 'state')) then
    redis.call('DEL', run_of(id))
    redis.call('ZREM', HISTORY, id)
    redis.call('HDEL', REDELIVERED, id)
    changed(id)
  end
end

for _, step in ipairs(STEPS) do
  local envelopes = removed < most and redis.call('RPOP', list_of(queue, step), most - removed)
  for _, envelope in ipairs(envelopes or {}) do
    drop(id_in(envelope))
    removed = removed + 1
  end
end
if removed < most then
  for _, id in ipairs(redis.call('ZRANGE', due_of(queue), 0, most - removed - 1)) do
    redis.call('ZREM', due_of(queue), id)
    redis.call('HDEL', delayed_of(queue), id)
    drop(id)
    removed = removed + 1
  end
  index_due(queue)
end
return removed
