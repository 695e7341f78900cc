-- Revokes up to `most` messages that wait in a queue.
-- ARGV: queue, most, attempt (JSON), Celery's result up to whose it is, how long results are kept (s), how many ended
-- runs are kept.
-- Returns how many; called until it is 0.

must_be('list', ENDS)

local queue, most, attempt, meta = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local keep, history = tonumber(ARGV[5]), tonumber(ARGV[6])
local removed = 0

-- `"name":"value",` of JSON; nothing where there is no such text.
local function part(name, value)
  return type(value) == 'string' and '"' .. name .. '":' .. cjson.encode(value) .. ',' or ''
end

-- What a claim would have written down of a message from outside, as far as its headers say; see `record.rs`. Protocol 1
-- says it in the body, which is not read here.
local function brief_of(headers, properties)
  local priority = type(properties) == 'table' and tonumber(properties.priority) or 0
  return '{' .. part('task', type(headers.task) == 'string' and headers.task or 'unknown') .. part('parent_id', headers.parent_id) .. part('root_id', headers.root_id)
    .. part('group_id', headers.group) .. ('"priority":%d}'):format(math.max(0, math.min(9, priority)))
end

local function drop(envelope)
  removed = removed + 1
  local id = id_in(envelope)
  local state = id and redis.call('HGET', run_of(id), 'state')
  -- A second message of a task that runs or has ended says nothing of that one.
  if not id or state == 'STARTED' or is_final(state) then return end

  local message = cjson.decode(envelope)
  local headers = message.headers
  if redis.call('HEXISTS', run_of(id), 'brief') == 0 then
    redis.call('HSET', run_of(id), 'queue', queue, 'brief', brief_of(headers, message.properties))
    redis.call('ZADD', HISTORY, now_us + removed, id)
  end
  redis.call('HSET', run_of(id), 'state', 'REVOKED', 'attempt', attempt, 'ended', now_text)
  redis.call('PERSIST', run_of(id))
  redis.call('HDEL', REDELIVERED, id)
  redis.call('ZREM', REVOKED, id)
  ended(id)
  local whose = part('group_id', headers.group) .. part('parent_id', headers.parent_id)
    .. '"task_id":' .. cjson.encode(id) .. '}'
  tell(id, headers.ignore_result == true and '' or meta .. whose, keep)
end

for _, step in ipairs(STEPS) do
  local envelopes
  while removed < most and not (envelopes and #envelopes == 0) do
    -- A few at a time: each may be large.
    envelopes = try('RPOP', list_of(queue, step), math.min(most - removed, 16)) or {}
    for _, envelope in ipairs(envelopes) do drop(envelope) end
  end
end
if removed < most then
  for _, place in ipairs(redis.call('ZRANGE', due_of(queue), 0, most - removed - 1)) do
    local kept = redis.call('HGET', delayed_of(queue), place)
    redis.call('ZREM', due_of(queue), place)
    redis.call('HDEL', delayed_of(queue), place)
    drop(kept and kept:sub(2) or '')
  end
  index_due(queue)
end
close_history(history)
return removed
