-- Takes up to `most` messages, most urgent step first, and leases them.
-- KEYS: where it is noted what this claim is granted; `take_back.lua` reads that.
-- ARGV: process, most, lease (ms), '1' when the caller will wait in its inboxes if there is nothing; queues.
-- Returns the wait until the next due time (ms, -1 for none), the first token, of each message the number of its
-- queue and its envelope, the numbers of the queues of which nothing is claimed, the time (ms), 1 when something is
-- known of some ids, which may be these, and the keys where something else lies than what belongs there.

local process, most, lease, waits = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

must_be('string', TOKEN)
must_be('zset', LEASE)
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

-- A queue is left out where something else lies under its list, or where its claimed messages are to lie.
local odd, seen = {}, {}
local function leave_out(q, key)
  odd[#odd + 1] = key
  close(q)
  return {}
end
local function pop(q, step, room)
  local list, claimed = list_of(ARGV[q], step), claimed_of(ARGV[q], step)
  local envelopes = try('RPOP', list, room)
  if envelopes == nil then return leave_out(q, list) end
  if not envelopes then return {} end
  if not seen[claimed] and not try('HLEN', claimed) then
    for back = #envelopes, 1, -1 do redis.call('RPUSH', list, envelopes[back]) end
    return leave_out(q, claimed)
  end
  seen[claimed] = true
  return envelopes
end

local taken, bytes = {}, 0
for _, step in ipairs(any_exists(lists) and STEPS or {}) do
  for q = 5, #ARGV do
    local list, all_taken = list_of(ARGV[q], step), closed[q]
    while not all_taken and #taken < most and bytes < ENOUGH do
      local room = math.min(most - #taken, PART)
      local envelopes = pop(q, step, room)
      all_taken = #envelopes < room
      for n, envelope in ipairs(envelopes) do
        if bytes >= ENOUGH then
          for back = #envelopes, n, -1 do redis.call('RPUSH', list, envelopes[back]) end
          break
        end
        envelope = cut(envelope)
        bytes = bytes + #envelope
        taken[#taken + 1] = { q, step, envelope }
      end
    end
  end
end

local answer = {}
local first = 0
if #taken > 0 then
  -- Not below the clock: a Redis that lost what it had would else give out again what old receipts have.
  first = math.max((tonumber(redis.call('GET', TOKEN)) or 0) + 1, now_us)
  redis.call('SET', TOKEN, first + #taken - 1)
  redis.call('SET', KEYS[1], ('%.0f'):format(first) .. ' ' .. #taken, 'PX', lease)
  local leases, kept, claimed_from = {}, {}, {}
  local ends = ('%.0f'):format(now + lease)
  for n, message in ipairs(taken) do
    local q, step, envelope = message[1], message[2], message[3]
    local token = ('%.0f'):format(first + n - 1)
    leases[2 * n - 1], leases[2 * n] = ends, token
    local claimed = claimed_of(ARGV[q], step)
    local of_list = kept[claimed] or {}
    of_list[#of_list + 1] = token
    of_list[#of_list + 1] = envelope
    kept[claimed] = of_list
    claimed_from[ARGV[q]] = true
    answer[2 * n - 1], answer[2 * n] = q - 5, envelope
  end
  redis.call('ZADD', LEASE, unpack(leases))
  for claimed, of_list in pairs(kept) do redis.call('HSET', claimed, unpack(of_list)) end
  for queue in pairs(claimed_from) do redis.call('SADD', QUEUES, queue) end
elseif waits then
  redis.call('SADD', QUEUES, unpack(ARGV, 5))
  local lives = {}
  for n, member in ipairs(members) do lives[2 * n - 1], lives[2 * n] = now + lease, member end
  in_parts('ZADD', INBOXES, lives)
end

local next_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
local any_known = redis.call('EXISTS', REVOKED, REDELIVERED) > 0
return { next_due and math.max(0, next_due - now) or -1, first, answer, numbers, now, any_known and 1 or 0, odd }
