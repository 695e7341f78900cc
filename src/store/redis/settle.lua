-- Ends deliveries, each in one step: receipt checked, outcome stored, follow-ups pushed, lease ended.
-- ARGV: how long results are kept (s), how many ended runs are kept; then of each delivery: token, queue, id, state,
-- attempt (JSON), Celery's result ('' when nothing is published), brief ('' when it is written down that it ran), and
-- how many arguments more there are. Most have none; else, and always where it waited for a time: log (JSON, '' to leave
-- it as it is), the retry as step, due (ms), retries and envelope ('' for none), and of each follow-up: id, queue, step,
-- due (ms), envelope, brief.
-- Returns for each '1' stored, '0' the lease was lost, or why it is refused; then nothing of it is done.

local keep, history = ARGV[1], tonumber(ARGV[2])
must_be('zset', HISTORY, ENDED)
local any_acknowledged = redis.call('EXISTS', ACKNOWLEDGED) == 1
local any_redelivered = redis.call('EXISTS', REDELIVERED) == 1
local any_begun = redis.call('EXISTS', BEGUN) == 1
local any_revoked = redis.call('EXISTS', REVOKED) == 1

-- Where each delivery begins, and the runs of which nothing is written down since their claim.
local starts, tokens, unwritten = {}, {}, {}
local next_start = 3
while next_start <= #ARGV do
  starts[#starts + 1] = next_start
  tokens[#tokens + 1] = ARGV[next_start]
  if ARGV[next_start + 6] ~= '' then unwritten[#unwritten + 1] = run_of(ARGV[next_start + 2]) end
  next_start = next_start + 8 + ARGV[next_start + 7]
end

local held = are_held(tokens)
local all_known, none_known = true, false
if #unwritten > 0 then
  local number = redis.call('EXISTS', unpack(unwritten))
  all_known, none_known = number == #unwritten, number == 0
end
local settled, of_queue, over, known = {}, {}, {}, {}

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

-- Whatever may be refused comes before the first change.
local function settle(at)
  local token, queue, id, state, attempt, meta, brief, more = unpack(ARGV, at, at + 7)
  local log, step, due, retries, envelope = '', '', '', '', ''
  local followers = {}
  if more ~= '0' then
    log, step, due, retries, envelope = unpack(ARGV, at + 8, at + 12)
    if envelope ~= '' then must_take(queue, step, tonumber(due)) end
    followers = new_followers(at + 13, at + 7 + more)
  end

  local run = run_of(id)
  -- Else the first change of the record would tell, though not where.
  if try('HLEN', run) == nil then must_be('hash', run) end
  if any_revoked and redis.call('ZSCORE', REVOKED, id) and redis.call('HGET', run, 'state') == 'REVOKED' then
    -- Revoked just after its claim, and everybody was told so: it stays so.
    redis.call('ZREM', REVOKED, id)
    return
  end
  local is_from_outside = brief ~= '' and not all_known and (none_known or redis.call('HEXISTS', run, 'brief') == 0)
  if is_from_outside then
    redis.call('HSET', run, 'brief', brief, 'queue', queue, 'state', state, 'attempt', attempt)
    known[#known + 1] = now_us_text
    known[#known + 1] = id
  else
    redis.call('HSET', run, 'state', state, 'attempt', attempt)
  end
  -- Apart from the rest, because a search reads the rest of many runs.
  if log ~= '' then redis.call('HSET', run, 'log', log) end
  if envelope ~= '' then
    redis.call('HSET', run, 'retries', retries, 'eta', due)
    redis.call('EXPIRE', run, UNSETTLED + math.max(0, math.ceil((due - now) / 1000)))
    place(queue, step, id, tonumber(due), envelope)
  else
    -- It ages by its place among the ended ones, not by a time to live of its own. What never waited has none.
    if more ~= '0' then redis.call('PERSIST', run) end
    over[#over + 1] = now_text
    over[#over + 1] = id
    if any_revoked and state == 'REVOKED' then redis.call('ZREM', REVOKED, id) end
  end
  tell(id, meta, keep)
  if #followers > 0 then store(followers) end
end

local answers = {}
for n, at in ipairs(starts) do
  if not held[n] or settled[tokens[n]] then
    answers[n] = '0'
  else
    local good, why = pcall(settle, at)
    answers[n] = good and '1' or of_another_kind(why)
    if good then
      settled[tokens[n]] = true
      local queue = ARGV[at + 1]
      of_queue[queue] = of_queue[queue] or {}
      table.insert(of_queue[queue], tokens[n])
      if any_redelivered then try('HDEL', REDELIVERED, ARGV[at + 2]) end
    end
  end
end
for queue, ended in pairs(of_queue) do
  let_go(queue, unpack(ended))
  if any_acknowledged then try('SREM', ACKNOWLEDGED, unpack(ended)) end
  if any_begun then try('HDEL', BEGUN, unpack(ended)) end
end
in_parts('ZADD', HISTORY, known)
if #over > 0 then
  redis.call('ZADD', ENDED, unpack(over))
  drop_oldest(history, #over)
end
return answers
