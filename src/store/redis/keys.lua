-- The names of the keys, and the clock. This stands in front of every script; `keys.rs` has the names that Rust uses.
-- `PREFIX` stands in front of every key and channel, `RESULT_PREFIX` in front of Celery's results; see `script.rs`.
-- Everything is compared by the clock of Redis, so that the clocks of the machines do not matter.

local LEASE = PREFIX .. 'umbel:lease'             -- zset: batch -> when its lease ends, ms
local CLAIMS = PREFIX .. 'umbel:claims'           -- hash: batch -> the step and the queue that it was claimed from
local ACKNOWLEDGED = PREFIX .. 'umbel:acknowledged' -- set: tokens whose message is never handed out again
local BEGUN = PREFIX .. 'umbel:begun'             -- hash: token whose script has begun -> its id
local REDELIVERED = PREFIX .. 'umbel:redelivered' -- hash: id of what came back -> when its process died while it ran, ms,...
local REVOKED = PREFIX .. 'umbel:revoked'         -- zset: id -> when it was revoked, or was still to be met, ms
local DUE = PREFIX .. 'umbel:due'                 -- zset: queue -> due time of its first delayed message, ms; also a channel
local QUEUES = PREFIX .. 'umbel:queues'           -- set: every queue that was pushed to or claimed from
local PAUSED = PREFIX .. 'umbel:paused'           -- set: queues of which nothing is claimed
local INBOXES = PREFIX .. 'umbel:inboxes'         -- zset: process:list -> until when its owner lives for sure, ms
local HISTORY = PREFIX .. 'umbel:history'         -- zset: id -> when the task became known, us
local ENDS = PREFIX .. 'umbel:ends'               -- list: `time id` of each end, the first one first; the time in ms
local DEAD = PREFIX .. 'umbel:dead'               -- list: messages that could not be read, newest first
local TICKS = PREFIX .. 'umbel:tick'              -- hash: entry -> fingerprint|due, us
local BATCH = PREFIX .. 'umbel:batch'             -- the number of the last batch
local SWEPT = PREFIX .. 'umbel:swept'             -- when a sweep ran last, ms
local WALKED = PREFIX .. 'umbel:walked'           -- how much of the history this round of sweeps has looked at
local TERMINATE = PREFIX .. 'umbel:terminate'     -- zset: id of a running task that is to end -> since when, ms; also a channel
local WATCHED = PREFIX .. 'umbel:watched'         -- zset: id -> until when somebody wants to hear of each change, ms
local SOURCES = PREFIX .. 'umbel:sources'         -- hash: hash of a task's code -> its files, JSON
local SOURCES_KEPT = PREFIX .. 'umbel:sources:kept' -- zset: the same hash -> when it was kept last, ms
local SOURCES_SIZE = PREFIX .. 'umbel:sources:size' -- how many bytes all of them are
local WORKERS = PREFIX .. 'umbel:workers'         -- zset: name -> until when the worker lives for sure, ms

local STEPS = { '0', '3', '6', '9' }
local DAY = 86400000

-- Kombu's list of a priority step.
local function list_of(queue, step)
  if step == '0' then return PREFIX .. queue end
  return PREFIX .. queue .. '\6\22' .. step
end

local function due_of(queue) return PREFIX .. 'umbel:due:' .. queue end         -- zset: place -> due time, ms
local function delayed_of(queue) return PREFIX .. 'umbel:delayed:' .. queue end -- hash: place -> step and envelope
local function claimed_of(batch) return PREFIX .. 'umbel:claimed:' .. batch end -- list: envelopes, the oldest first
local function open_of(batch) return PREFIX .. 'umbel:open:' .. batch end       -- set: those of them that are in hand
local function inbox_of(member) return PREFIX .. 'umbel:inbox:' .. member end   -- list: what an idle process was given
local function run_of(id) return PREFIX .. 'umbel:run:' .. id end               -- hash: what is kept of a task
local function meta_of(id) return RESULT_PREFIX .. 'celery-task-meta-' .. id end       -- string and channel: Celery's result
local function changed_of(id) return PREFIX .. 'umbel:changed:' .. id end       -- channel: it changed, and no such result tells
local function worker_of(name) return PREFIX .. 'umbel:worker:' .. name end     -- string: what a worker says of itself

local clock = redis.call('TIME')
-- Writing a number anew for each command costs as much as the command.
local now_us_text = clock[1] .. ('%06d'):format(clock[2])
local now_text = now_us_text:sub(1, -4)
local now, now_us = tonumber(now_text), tonumber(now_us_text)

-- Redis takes nothing back of what a script did before it failed, so whatever may hold another kind of thing than ours
-- (somebody else wrote there) is looked at before the first change. Raises, in words for who can mend it.
local function must_be(kind, ...)
  for _, key in ipairs({ ... }) do
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error(('under `%s` lies a %s, where a %s of umbel belongs; rename it or delete it'):format(key, found, kind), 0)
    end
  end
end

-- What a command answers; nil where another kind of thing lies under its key.
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if answer.err:find('WRONGTYPE', 1, true) then return nil end
  return redis.call(...)
end

-- A command with many arguments: Lua hands over some thousands at once at the most.
local function in_parts(command, key, arguments)
  for from = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, from, math.min(from + 999, #arguments)))
  end
end

-- The words of a failure of that kind; any other one (no memory, a replica) is raised again.
local function of_another_kind(why)
  local said = type(why) == 'table' and why.err or why
  if said:find('WRONGTYPE', 1, true) or said:find('^under `') then return said end
  error(why, 0)
end

local function is_final(state)
  return state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED'
end

-- What one claim takes from one list is a batch, which has one lease: to keep a lease for each message would cost more
-- than most tasks do. A token is the number of its batch and behind that three digits, its own number in the batch. The
-- oldest message, which is the first of its list, is this one:
local FIRST = 100

local function parts_of(token) return token:sub(1, -4), token:sub(-3) end

-- Where a message lies in the list of its batch.
local function index_of(number) return number - FIRST end

-- Of each token: its receipt is good. It is until a sweep takes the lease away: one that is merely over has gone to
-- nobody else, and what was done under it while Redis stood still need not be done again.
local function are_held(tokens)
  local numbers, places, held = {}, {}, {}
  for n, token in ipairs(tokens) do
    local batch, number = parts_of(token)
    if not numbers[batch] then numbers[batch], places[batch] = {}, {} end
    table.insert(numbers[batch], number)
    table.insert(places[batch], n)
  end
  for batch, of_batch in pairs(numbers) do
    for n, is_held in ipairs(redis.call('SMISMEMBER', open_of(batch), unpack(of_batch))) do
      held[places[batch][n]] = is_held == 1
    end
  end
  return held
end

local function is_held(token) return are_held({ token })[1] end

-- The id in an envelope, for the rare paths that have nothing but the envelope. Protocol 1 has it in the body, and as
-- every client of Celery also as the correlation's.
local function id_in(envelope)
  local read, message = pcall(cjson.decode, envelope)
  if read and type(message) == 'table' and type(message.headers) == 'table' then
    local id = message.headers.id
    if id == nil and type(message.properties) == 'table' then id = message.properties.correlation_id end
    if type(id) == 'string' then return id end
  end
end
