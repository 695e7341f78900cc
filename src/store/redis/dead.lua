-- Lays messages aside that cannot be run, and ends the tasks of those whose sender can be told.
-- ARGV: how long results are kept (s), how many ended runs are kept; then of each message: token, queue, its letter (a
-- JSON object without its time), id ('' when nobody can be told), brief, attempt (JSON), Celery's result ('' when it
-- is to be ignored).

-- The oldest dead letters go when there are more than this.
local MOST_DEAD = 10000

local keep, history = ARGV[1], tonumber(ARGV[2])

local tokens = {}
for at = 3, #ARGV, 7 do tokens[#tokens + 1] = ARGV[at] end
local held = are_held(tokens)

-- The task is in nobody's hands and has not ended, here or with Celery: then this message is the one that is waited for.
local function is_open(id)
  local state = redis.call('HGET', run_of(id), 'state')
  if state then return state == 'QUEUED' or state == 'SCHEDULED' or state == 'RETRY' end
  local read, known = pcall(cjson.decode, try('GET', meta_of(id)) or '')
  return not (read and type(known) == 'table' and is_final(known.status))
end

must_let_go()
must_be('list', DEAD, ENDS)
must_be('zset', HISTORY)
must_be('hash', REDELIVERED)
for n, token in ipairs(tokens) do
  if held[n] then
    local queue, letter, id, brief, attempt, meta = unpack(ARGV, 7 * n - 3, 7 * n + 2)
    local is_its_end = id ~= '' and is_open(id)
    redis.call('LPUSH', DEAD, '{"at":' .. now_text .. ',' .. letter:sub(2))
    if is_its_end then
      redis.call('HSET', run_of(id), 'queue', queue, 'brief', brief)
      redis.call('HSET', run_of(id), 'state', 'FAILURE', 'attempt', attempt, 'ended', now_text)
      redis.call('PERSIST', run_of(id))
      redis.call('ZADD', HISTORY, 'NX', now_us, id)
      redis.call('HDEL', REDELIVERED, id)
      tell(id, meta, keep)
      ended(id)
    end
    -- It may be large, and others of its batch may run for long.
    local batch, number = parts_of(token)
    redis.call('LSET', claimed_of(batch), index_of(number), '')
    let_go(token)
  end
end
redis.call('LTRIM', DEAD, 0, MOST_DEAD - 1)
close_history(history)
