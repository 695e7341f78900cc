-- Takes up to `most` messages, most urgent step first, and leases them.
-- KEYS: where it is noted what this claim is granted; `take_back.lua` reads that.
-- ARGV: process, most, lease (ms), '1' when the caller will wait in its inboxes if there is nothing; queues.
-- Returns the wait until the next due time (ms, -1 for none), the number of the first batch, of each batch the number of
-- its queue and its envelopes, the oldest first, the numbers of the queues of which nothing is claimed, the time (ms), 1
-- when something is known of some ids, which may be these, and the lists where something else lies.

local process, most, lease, waits = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

must_be('string', BATCH)
must_be('zset', LEASE)
must_be('hash', CLAIMS)
must_be('set', QUEUES)

local closed, numbers = {}, {}
local function close(q)
  closed[q] = true
  numbers[#numbers + 1] = q - 5
end
if redis.call('EXISTS', PAUSED) == 1 then
  for n, is_paused in ipairs(redis.call('SMISMEMBER', PAUSED, unpack(ARGV, 5))) do
    if is_paused == 1 then close(n + 4) end
  end
end

local lists, members, inboxes = {}, {}, {}
for q = 5, #ARGV do
  for _, step in ipairs(STEPS) do
    local list = list_of(ARGV[q], step)
    local member = process .. ':' .. list
    lists[#lists + 1], members[#members + 1], inboxes[#inboxes + 1] = list, member, inbox_of(member)
  end
end

-- One look at many keys, because of most of them there is nothing.
local function any_exists(keys)
  for from = 1, #keys, 1000 do
    if redis.call('EXISTS', unpack(keys, from, math.min(from + 999, #keys))) > 0 then return true end
  end
  return false
end

promote(1000)
if any_exists(inboxes) then
  for n, member in ipairs(members) do empty_inbox(member, lists[n]) end
end

-- What is larger than any message is not handed over: its ends are, and its size. `dead.rs` reads that.
local MAX_WIRE, END = 33554432, 32768
local function cut(envelope)
  if #envelope <= MAX_WIRE then return envelope end
  return '\0cut ' .. #envelope .. ' ' .. envelope:sub(1, END) .. ' ... ' .. envelope:sub(-END)
end

-- Once a claim has so many bytes it ends, so that other answers do not wait for long behind large messages.
local ENOUGH = 1048576
-- So many are taken from a list at a time: how large they are is known only then.
local PART = 16

-- A queue is left out where something else lies under its list.
local odd = {}
local function pop(q, list, room)
  local envelopes = try('RPOP', list, room)
  if envelopes == nil then
    odd[#odd + 1] = list
    close(q)
  end
  return envelopes or {}
end

-- The batches: of each the queue, the step and the envelopes, the oldest first.
local batches, count, bytes = {}, 0, 0
local function take(q, step)
  local list, envelopes = list_of(ARGV[q], step), {}
  local all_taken = false
  while not all_taken and count < most and bytes < ENOUGH do
    local room = math.min(most - count, PART)
    local some = pop(q, list, room)
    all_taken = #some < room
    for n, envelope in ipairs(some) do
      if bytes >= ENOUGH then
        for back = #some, n, -1 do redis.call('RPUSH', list, some[back]) end
        break
      end
      count, bytes = count + 1, bytes + #envelope
      envelopes[#envelopes + 1] = envelope
    end
  end
  if #envelopes > 0 then batches[#batches + 1] = { q, step, envelopes } end
end
for _, step in ipairs(any_exists(lists) and STEPS or {}) do
  for q = 5, #ARGV do
    if not closed[q] then take(q, step) end
  end
end

local answer = {}
local first = 0
if count > 0 then
  -- Not below the clock: a Redis that lost what it had would else give out again what old receipts have.
  first = math.max((tonumber(redis.call('GET', BATCH)) or 0) + 1, now_us)
  redis.call('SET', BATCH, first + #batches - 1)
  redis.call('SET', KEYS[1], ('%.0f'):format(first) .. ' ' .. #batches, 'PX', lease)
  for n, taken in ipairs(batches) do
    local q, step, envelopes = unpack(taken)
    local batch, open = ('%.0f'):format(first + n - 1), {}
    for number = 1, #envelopes do open[number] = FIRST - 1 + number end
    redis.call('LPUSH', claimed_of(batch), unpack(envelopes))
    redis.call('SADD', open_of(batch), unpack(open))
    redis.call('ZADD', LEASE, now + lease, batch)
    redis.call('HSET', CLAIMS, batch, step .. ARGV[q])
    redis.call('SADD', QUEUES, ARGV[q])
    for number, envelope in ipairs(envelopes) do envelopes[number] = cut(envelope) end
    answer[n] = { q - 5, envelopes }
  end
elseif waits then
  redis.call('SADD', QUEUES, unpack(ARGV, 5))
  local lives = {}
  for n, member in ipairs(members) do lives[2 * n - 1], lives[2 * n] = now + lease, member end
  in_parts('ZADD', INBOXES, lives)
end

local next_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
local any_known = redis.call('EXISTS', REVOKED, REDELIVERED) > 0
return { next_due and math.max(0, next_due - now) or -1, first, answer, numbers, now, any_known and 1 or 0, odd }
