-- Returns deliveries that did not start to the front of their queue, or lets them wait before.
-- ARGV: wait (ms); of each: token, id; the one that is to come first stands last. Without a wait the id may be ''
-- for one that nobody was told of.

local wait = tonumber(ARGV[1])

must_let_go()
local refused
for i = 2, #ARGV, 2 do
  local token, id = ARGV[i], ARGV[i + 1]
  -- One that was revoked meanwhile need not wait for its end.
  local waits = wait > 0 and not redis.call('ZSCORE', REVOKED, id)
  local good, given = pcall(give_back, token, id, waits and now + wait or nil)
  -- What cannot go back because something else lies there does not keep the others.
  if not good then refused = of_another_kind(given) end
  if good and given then waits_again(id, waits and 'SCHEDULED' or 'QUEUED') end
end
if refused then error(refused, 0) end
