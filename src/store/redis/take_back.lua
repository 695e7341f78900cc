-- Gives back what was granted to a claim whose answer never came.
-- KEYS: where `claim.lua` noted it. ARGV: the queues.
-- Returns 1, or 0 when nothing is known of such a claim: it granted nothing, or was not heard yet.

local first, count = (redis.call('GET', KEYS[1]) or ''):match('^(%d+) (%d+)$')
if not first then return 0 end
redis.call('DEL', KEYS[1])
-- The oldest last, so that it comes first.
for n = count - 1, 0, -1 do
  local token = ('%.0f'):format(first + n)
  for _, queue in ipairs(is_held(token) and ARGV or {}) do
    if give_back(queue, token) then break end
  end
end
return 1
