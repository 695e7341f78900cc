-- Writes down how far a running task is; nothing when the receipt is void. ARGV: id, token, progress (JSON).

local id, token = ARGV[1], ARGV[2]
local run = redis.call('HMGET', run_of(id), 'token', 'state')
if run[1] == token and run[2] == 'STARTED' then
  redis.call('HSET', run_of(id), 'progress', token .. ' ' .. ARGV[3])
  changed(id)
end
