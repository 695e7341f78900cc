-- Writes down what runs, and which scripts have begun; what is not held any more does not count.
-- ARGV: worker; then of each: token, '1' when its script has begun, id, queue, brief ('' when it is written down that it
-- runs).

local worker = ARGV[1]
local tokens = {}
for i = 2, #ARGV, 5 do tokens[#tokens + 1] = ARGV[i] end
local any_revoked = redis.call('EXISTS', REVOKED) == 1
local any_terminate = redis.call('EXISTS', TERMINATE) == 1

local began, known = {}, {}

local function runs(token, id, queue, brief)
  local run = run_of(id)
  local state = redis.call('HGET', run, 'state')
  if any_revoked and state == 'REVOKED' and redis.call('ZSCORE', REVOKED, id) then
    -- Revoked between its claim and now. What comes of it is not kept, so it need not go on.
    redis.call('PUBLISH', TERMINATE, id)
    return
  end
  if not state then -- it came from outside
    redis.call('HSET', run, 'queue', queue, 'brief', brief)
    known[#known + 1] = now_us_text
    known[#known + 1] = id
  end
  redis.call('HSET', run, 'state', 'STARTED', 'token', token, 'worker', worker, 'started_at', now_text)
  if state and is_final(state) then redis.call('HDEL', run, 'ended') end -- its sender sent twice what has ended
  changed(id)
  if any_terminate and redis.call('ZSCORE', TERMINATE, id) then redis.call('PUBLISH', TERMINATE, id) end
end

for n, is_held in pairs(are_held(tokens)) do
  if is_held then
    local token, has_begun, id, queue, brief = unpack(ARGV, 5 * n - 3, 5 * n + 1)
    if has_begun == '1' then began[#began + 1], began[#began + 2] = token, id end
    if brief ~= '' then runs(token, id, queue, brief) end
  end
end
in_parts('HSET', BEGUN, began)
in_parts('ZADD', HISTORY, known)
