-- Puts an answer of remote control where its client waits, as kombu finds it: in the queues that are bound to an
-- exchange under a routing key.
-- ARGV: exchange, routing key, envelope, how long it lies unread (s).

local key, between = ARGV[2], '\6\22'
for _, bound in ipairs(redis.call('SMEMBERS', PREFIX .. '_kombu.binding.' .. ARGV[1])) do
  -- routing key, pattern, queue
  local rest = bound:sub(1, #key + 2) == key .. between and bound:sub(#key + 3)
  local queue = rest and rest:match('^.*' .. between .. '(.*)$')
  if queue and queue ~= '' then
    local list = PREFIX .. queue
    redis.call('LPUSH', list, ARGV[3])
    redis.call('EXPIRE', list, ARGV[4])
  end
end
