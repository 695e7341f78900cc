-- Ends deliveries, each in one step: receipt checked, outcome stored, follow-ups pushed, message let go.
-- ARGV: how long results are kept (s), how many ended runs are kept; then of each batch: its number, its queue, how many
-- deliveries of it follow, and of each: its number in the batch, id, state, attempt (JSON), Celery's result ('' when
-- nothing is published), brief ('' when it is written down that it ran), and how many arguments more there are. Most have
-- none; else, and always where it waited for a time: log (JSON, '' to leave it as it is), the retry as step, due (ms),
-- retries and envelope ('' for none), and of each follow-up: id, queue, step, due (ms), envelope, brief.
-- Returns 'all' where all of them are stored; else for each '1' stored, '0' the lease was lost, or why it is refused:
-- then nothing of it is done.

local keep, history = ARGV[1], tonumber(ARGV[2])
must_let_go()
must_be('zset', HISTORY)
must_be('list', ENDS)
local any_rare = redis.call('EXISTS', ACKNOWLEDGED, BEGUN, REDELIVERED, REVOKED) > 0
local any_traces = any_rare and redis.call('EXISTS', ACKNOWLEDGED, BEGUN) > 0
local any_redelivered = any_rare and redis.call('EXISTS', REDELIVERED) == 1
local any_revoked = any_rare and redis.call('EXISTS', REVOKED) == 1

local known = {}

-- Those of these followers that are to be sent.
local function new_followers(first, last)
  local new, seen = {}, {}
  for follower = first, last, 6 do
    local id = ARGV[follower]
    -- A second run of the same task, after a death, does not send its fixed followers twice.
    if not seen[id] and redis.call('EXISTS', run_of(id)) == 0 then new[#new + 1] = follower end
    seen[id] = true
  end
  if #new > 0 then must_store(new) end
  return new
end

-- The first change of a record, which tells where something else lies. How many of the fields are new.
local function write(run, ...)
  return try('HSET', run, ...) or must_be('hash', run)
end

-- Whatever may be refused comes before the first change.
local function settle(at, queue)
  local id, state, attempt, meta, brief, more = unpack(ARGV, at + 1, at + 6)
  local run = run_of(id)
  local log, step, due, retries, envelope = '', '', '', '', ''
  local followers
  if more ~= '0' then
    log, step, due, retries, envelope = unpack(ARGV, at + 7, at + 11)
    if envelope ~= '' then must_take(queue, step, tonumber(due)) end
    followers = new_followers(at + 12, at + 6 + more)
  end

  if any_revoked and redis.call('ZSCORE', REVOKED, id) and try('HGET', run, 'state') == 'REVOKED' then
    -- Revoked just after its claim, and everybody was told so: it stays so.
    redis.call('ZREM', REVOKED, id)
    return
  end
  if brief == '' then
    write(run, 'state', state, 'attempt', attempt, 'ended', now_text)
  elseif write(run, 'state', state, 'attempt', attempt, 'ended', now_text, 'brief', brief, 'queue', queue) == 5 then
    known[#known + 1] = now_us_text -- it came from outside, for not one of these was there
    known[#known + 1] = id
  end
  -- Apart from the rest, because a search reads the rest of many runs.
  if log ~= '' then redis.call('HSET', run, 'log', log) end
  if envelope ~= '' then
    redis.call('HSET', run, 'retries', retries, 'eta', due)
    redis.call('HDEL', run, 'ended')
    redis.call('EXPIRE', run, UNSETTLED + math.max(0, math.ceil((due - now) / 1000)))
    place(queue, step, id, tonumber(due), envelope)
  else
    -- It ages by its place among the ended ones, not by a time to live of its own. What never waited has none.
    if more ~= '0' then redis.call('PERSIST', run) end
    ended(id)
    if any_revoked and state == 'REVOKED' then redis.call('ZREM', REVOKED, id) end
  end
  tell(id, meta, keep)
  if followers and #followers > 0 then store(followers) end
end

local answers, all_stored, traced = {}, true, {}
local function settle_batch(at, batch, queue, count)
  local starts, numbers = {}, {}
  for n = 1, count do
    starts[n], numbers[n] = at, ARGV[at]
    at = at + 7 + ARGV[at + 6]
  end
  local held = redis.call('SMISMEMBER', open_of(batch), unpack(numbers))
  local settled, closed = {}, {}
  for n, number in ipairs(numbers) do
    local answer = '0'
    if held[n] == 1 and not settled[number] then
      local good, why = pcall(settle, starts[n], queue)
      if good then
        settled[number] = true
        answer, closed[#closed + 1] = '1', number
        if any_traces then traced[#traced + 1] = batch .. number end
        if any_redelivered then try('HDEL', REDELIVERED, ARGV[starts[n] + 1]) end
      else
        answer = of_another_kind(why)
      end
    end
    answers[#answers + 1] = answer
    all_stored = all_stored and answer == '1'
  end
  if #closed > 0 then close_in(batch, closed) end
  return at
end

local at = 3
while at <= #ARGV do at = settle_batch(at + 3, ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])) end

if #traced > 0 then
  try('SREM', ACKNOWLEDGED, unpack(traced))
  try('HDEL', BEGUN, unpack(traced))
end
in_parts('ZADD', HISTORY, known)
close_history(history)
return all_stored and { 'all' } or answers
