-- Takes up to `most` messages, most urgent step first, and leases them.
-- KEYS: where it is noted what this claim is granted; `take_back.lua` reads that.
-- ARGV: process, most, lease (ms), '1' when the caller is to be known as waiting in its inboxes if there is nothing;
-- queues.
-- Returns the wait until the next due time (ms, -1 for none), the number of the first batch, of each batch the number of
-- its queue, how many messages it has, and their envelopes, the oldest first, or none where the caller is to get them
-- itself; the numbers of the queues of which nothing is claimed, the time (ms), 1 when something is known of some ids,
-- which may be these, and the lists where something else lies.

local process, most, lease, waits = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

local function next_due() return tonumber(redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]) end
local due = next_due()
if due and due <= now then
  promote(1000)
  due = next_due()
end

-- One look at many keys, because of most of them there is nothing.
local function any_exists(keys)
  for from = 1, #keys, 1000 do
    if redis.call('EXISTS', unpack(keys, from, math.min(from + 999, #keys))) > 0 then return true end
  end
  return false
end
local any_rare = any_exists({ PAUSED, REVOKED, REDELIVERED })

local closed, numbers = {}, {}
local function close(q)
  closed[q] = true
  numbers[#numbers + 1] = q - 5
end
if any_rare and any_exists({ PAUSED }) then
  for n, is_paused in ipairs(redis.call('SMISMEMBER', PAUSED, unpack(ARGV, 5))) do
    if is_paused == 1 then close(n + 4) end
  end
end

local lists, members, inboxes, places = {}, {}, {}, {}
for q = 5, #ARGV do
  for _, step in ipairs(STEPS) do
    local list = list_of(ARGV[q], step)
    local member = process .. ':' .. list
    local inbox = inbox_of(member)
    lists[#lists + 1], members[#members + 1], inboxes[#inboxes + 1] = list, member, inbox
    places[#places + 1], places[#places + 2] = list, inbox
  end
end

local anything = any_exists(places)
if anything then
  must_be('string', BATCH)
  must_be('zset', LEASE)
  must_be('hash', CLAIMS)
  must_be('set', QUEUES)
  if any_exists(inboxes) then
    for n, member in ipairs(members) do empty_inbox(member, lists[n]) end
  end
end

-- What is larger than any message is not handed over: its ends are, and its size. `dead.rs` reads that.
local MAX_WIRE, END = 33554432, 32768
local function cut(envelope)
  if #envelope <= MAX_WIRE then return envelope end
  return '\0cut ' .. #envelope .. ' ' .. envelope:sub(1, END) .. ' ... ' .. envelope:sub(-END)
end

-- Once a claim has so many bytes it ends, so that other answers do not wait for long behind large messages.
local ENOUGH = 1048576

-- The batches: of each the queue, the step, how many messages, and their envelopes where they are at hand.
local batches, count, bytes = {}, 0, 0
-- Not below the clock: a Redis that lost what it had would else give out again what old receipts have.
local first = anything and math.max((tonumber(redis.call('GET', BATCH)) or 0) + 1, now_us) or 0
local function next_batch() return ('%.0f'):format(first + #batches) end
local function add_batch(q, step, size, envelopes)
  batches[#batches + 1] = { q, step, size, envelopes }
  count = count + size
end

-- So many pass through here at a time: how large they are is known only then.
local FEW = 16
local function take_few(q, step, list, room)
  local envelopes = redis.call('RPOP', list, math.min(room, FEW))
  local kept = {}
  for n, envelope in ipairs(envelopes) do
    if bytes >= ENOUGH then
      for back = #envelopes, n, -1 do redis.call('RPUSH', list, envelopes[back]) end
      break
    end
    bytes, kept[n] = bytes + #envelope, envelope
  end
  redis.call('RPUSH', claimed_of(next_batch()), unpack(kept))
  add_batch(q, step, #kept, kept)
end

-- Many go to their batch as they are, because Lua would read each byte of what it is handed; the caller gets them there.
-- Before Redis 7, which has no such number, this would walk through all that wait.
local may_move = redis.REDIS_VERSION_NUM ~= nil
-- How large they are is known only then, too; after some that are small there are more at a time.
local MANY = 128
local part = FEW
local function move_many(q, step, list, room)
  local batch = claimed_of(next_batch())
  local moved = redis.pcall('SORT', list, 'BY', 'nosort', 'DESC', 'LIMIT', 0, math.min(room, part), 'STORE', batch)
  local size = redis.pcall('MEMORY', 'USAGE', batch, 'SAMPLES', 0)
  local fits = type(moved) == 'number' and type(size) == 'number' and size <= ENOUGH
  -- An ACL may refuse each of these commands.
  if not (fits and redis.pcall('LTRIM', list, 0, -1 - moved).ok) then
    may_move = false
    redis.call('DEL', batch)
    return false
  end
  bytes = bytes + size
  part = math.min(4 * part, MANY, math.max(1, math.floor((ENOUGH - bytes) * moved / size)))
  add_batch(q, step, moved, {})
  return true
end

-- A queue is left out where something else lies under its list.
local odd = {}
local function take(q, step)
  local list = list_of(ARGV[q], step)
  local length = try('LLEN', list)
  if not length then
    odd[#odd + 1] = list
    return close(q)
  end
  while length > 0 and count < most and bytes < ENOUGH do
    local room, before = math.min(most - count, length), count
    if not (may_move and room > FEW and move_many(q, step, list, room)) then take_few(q, step, list, room) end
    length = length - (count - before)
  end
end
for _, step in ipairs(anything and STEPS or {}) do
  for q = 5, #ARGV do
    if not closed[q] then take(q, step) end
  end
end

local answer = {}
if count > 0 then
  redis.call('SET', BATCH, first + #batches - 1)
  redis.call('SET', KEYS[1], ('%.0f'):format(first) .. ' ' .. #batches, 'PX', lease)
  for n, taken in ipairs(batches) do
    local q, step, size, envelopes = unpack(taken)
    local batch, open = ('%.0f'):format(first + n - 1), {}
    for number = 1, size do open[number] = FIRST - 1 + number end
    redis.call('SADD', open_of(batch), unpack(open))
    redis.call('ZADD', LEASE, now + lease, batch)
    redis.call('HSET', CLAIMS, batch, step .. ARGV[q])
    redis.call('SADD', QUEUES, ARGV[q])
    for number, envelope in ipairs(envelopes) do envelopes[number] = cut(envelope) end
    answer[n] = { q - 5, size, envelopes }
  end
elseif waits then
  must_be('set', QUEUES)
  must_be('zset', INBOXES)
  redis.call('SADD', QUEUES, unpack(ARGV, 5))
  local lives = {}
  for n, member in ipairs(members) do lives[2 * n - 1], lives[2 * n] = now + lease, member end
  in_parts('ZADD', INBOXES, lives)
end

local any_known = any_rare and any_exists({ REVOKED, REDELIVERED })
return { due and math.max(0, due - now) or -1, first, answer, numbers, now, any_known and 1 or 0, odd }
