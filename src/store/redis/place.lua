-- Where messages go: to the list of their step, or to the delayed ones until they are due.

-- What nobody settles (a worker of another kind has it, or it waits for long) is forgotten after this, in seconds.
local UNSETTLED = 30 * 86400

-- The place of a delayed message among those of its queue: its id, and where another message of this id waits already
-- (a client of Celery may send two) that with a number behind it.
local function put_aside(delayed, id, kept)
  local place, number = id, now_us
  while redis.call('HSETNX', delayed, place, kept) == 0 and redis.call('HGET', delayed, place) ~= kept do
    place, number = id .. '\6' .. ('%.0f'):format(number), number + 1
  end
  if place ~= id then redis.call('HSET', run_of(id), 'twin', '1') end
  return place
end

local function place(queue, step, id, due, envelope)
  if due <= now then
    redis.call('LPUSH', list_of(queue, step), envelope)
    return false
  end
  redis.call('ZADD', due_of(queue), due, put_aside(delayed_of(queue), id, step .. envelope))
  if redis.call('ZADD', DUE, 'LT', 'CH', due, queue) == 1 then
    redis.call('PUBLISH', DUE, '') -- whoever sleeps until the next due time has a new one
  end
  return true
end

-- Raises where `place` could not lay a message.
local function must_take(queue, step, due)
  if due <= now then return must_be('list', list_of(queue, step)) end
  must_be('zset', due_of(queue), DUE)
  must_be('hash', delayed_of(queue))
end

-- Raises where `store` could not, so that nothing is done that would have to be taken back.
local function must_store(starts)
  must_be('set', QUEUES)
  must_be('zset', HISTORY)
  local seen = {}
  for _, at in ipairs(starts) do
    local _, queue, step, due = unpack(ARGV, at, at + 3)
    local is_due = tonumber(due) <= now
    local place = queue .. (is_due and '\6' .. step or '')
    if not seen[place] then must_take(queue, step, tonumber(due)) end
    seen[place] = true
  end
end

-- New messages, and the records of their runs: of each in ARGV id, queue, step, due (ms), envelope, brief.
local function store(starts)
  local lists, names, known, queues = {}, {}, {}, {}
  for n, at in ipairs(starts) do
    local id, queue, step, due, envelope, brief = unpack(ARGV, at, at + 5)
    local state = 'QUEUED'
    if tonumber(due) > now then
      state = 'SCHEDULED'
      place(queue, step, id, tonumber(due), envelope)
    else
      local name = list_of(queue, step)
      if not lists[name] then
        lists[name] = {}
        names[#names + 1] = name
      end
      table.insert(lists[name], envelope)
    end
    redis.call('HSET', run_of(id), 'brief', brief, 'queue', queue, 'queued_at', now_text, 'state', state)
    if state == 'SCHEDULED' then redis.call('EXPIRE', run_of(id), UNSETTLED + math.ceil((due - now) / 1000)) end
    known[2 * n - 1], known[2 * n] = now_us + n, id -- one microsecond keeps them in their order
    queues[queue] = true
    changed(id)
  end
  for queue in pairs(queues) do redis.call('SADD', QUEUES, queue) end
  for _, name in ipairs(names) do in_parts('LPUSH', name, lists[name]) end
  in_parts('ZADD', HISTORY, known)
end

-- The next due time may have changed for `queue`.
local function index_due(queue)
  local first = redis.call('ZRANGE', due_of(queue), 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', DUE, first[2], queue)
  else
    redis.call('ZREM', DUE, queue)
  end
end

local function promote_in(queue, most)
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', due_of(queue), '-inf', now, 'LIMIT', 0, most)) do
    local kept, id = redis.call('HGET', delayed_of(queue), place), place:match('^[^\6]*')
    if kept then
      redis.call('LPUSH', list_of(queue, kept:sub(1, 1)), kept:sub(2))
      redis.call('HDEL', delayed_of(queue), place)
    end
    redis.call('ZREM', due_of(queue), place)
    if try('HGET', run_of(id), 'state') == 'SCHEDULED' then
      redis.call('HSET', run_of(id), 'state', 'QUEUED')
      changed(id)
    end
  end
  index_due(queue)
end

-- Moves up to `most` messages of each queue whose time has come.
local function promote(most)
  for _, queue in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now)) do
    local good, why = pcall(promote_in, queue, most)
    -- Something else lies under a key of the queue: it is looked at again later, and the others go on.
    if not good and of_another_kind(why) then redis.call('ZADD', DUE, now + 10000, queue) end
  end
end

-- The claimed message of this token, and the queue and the step that it came from; nothing where there is none.
local function claimed(token)
  local batch, number = parts_of(token)
  local from = redis.call('HGET', CLAIMS, batch)
  if not from or not is_held(token) then return end
  local envelope = redis.call('LINDEX', claimed_of(batch), index_of(number))
  return envelope, from:sub(2), from:sub(1, 1)
end

-- Raises where a message could not be let go.
local function must_let_go()
  must_be('zset', LEASE)
  must_be('hash', CLAIMS)
end

local function end_batch(batch)
  redis.call('DEL', claimed_of(batch))
  redis.call('ZREM', LEASE, batch)
  redis.call('HDEL', CLAIMS, batch)
end

-- These of a batch are claimed no longer. Their envelopes go with the last of them.
local function close_in(batch, numbers)
  redis.call('SREM', open_of(batch), unpack(numbers))
  if redis.call('EXISTS', open_of(batch)) == 0 then end_batch(batch) end
end

local function let_go(token)
  local batch, number = parts_of(token)
  close_in(batch, { number })
end

-- Gives a claimed message back to the front of its list, or to the delayed ones when `due` (ms) is to come; false when
-- there is none under this token. A time to come needs the `id`.
local function give_back(token, id, due)
  local envelope, queue, step = claimed(token)
  if not envelope then return false end
  if due and due > now then
    must_take(queue, step, due)
    place(queue, step, id, due, envelope)
  else
    redis.call('RPUSH', list_of(queue, step), envelope)
  end
  let_go(token)
  try('SREM', ACKNOWLEDGED, token)
  try('HDEL', BEGUN, token)
  return true
end

-- Queue -> how many of its messages are claimed.
local function claimed_by_queue()
  local counts = {}
  local claims = try('HGETALL', CLAIMS) or {}
  for n = 1, #claims, 2 do
    local queue = claims[n + 1]:sub(2)
    counts[queue] = (counts[queue] or 0) + (try('SCARD', open_of(claims[n])) or 0)
  end
  return counts
end

-- The task waits again in this state, unless it is not known or has ended (was revoked) meanwhile.
local function waits_again(id, state)
  if redis.call('HGET', run_of(id), 'state') == 'STARTED' then
    redis.call('HSET', run_of(id), 'state', state)
    changed(id)
  end
end

-- When processes died while the task ran, of those times that still count (ms).
local function deaths_of(id, suspected_for)
  local times = {}
  for time in (redis.call('HGET', REDELIVERED, id) or ''):gmatch('%d+') do
    if tonumber(time) > now - suspected_for then times[#times + 1] = time end
  end
  return times
end

-- What an idle process was given goes back to the front of its list, in the order it came; it stays where it is while
-- something else lies there.
local function empty_inbox(member, list)
  while try('LMOVE', inbox_of(member), list, 'LEFT', 'RIGHT') do end
end
