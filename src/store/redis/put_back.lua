-- Returns deliveries that did not start to the front of their queue, or lets them wait before.
-- ARGV: wait (ms); of each: token, queue, id; the one that is to come first stands last. Without a wait the id may be
-- '' for one that nobody was told of.

local wait = tonumber(ARGV[1])

for i = 2, #ARGV, 3 do
  local token, queue, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  -- One that was revoked meanwhile need not wait for its end.
  local waits = wait > 0 and not redis.call('ZSCORE', REVOKED, id)
  if is_held(token) and give_back(queue, token, id, waits and now + wait or nil) then
    waits_again(id, waits and 'SCHEDULED' or 'QUEUED')
  end
end
