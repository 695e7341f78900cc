-- Gives back what was granted to a claim whose answer never came.
-- KEYS: where `claim.lua` noted it.
-- Returns 1, or 0 when nothing is known of such a claim: it granted nothing, or was not heard yet.

local first, count = (redis.call('GET', KEYS[1]) or ''):match('^(%d+) (%d+)$')
if not first then return 0 end
must_let_go()
redis.call('DEL', KEYS[1])
-- The oldest last, so that it comes first.
for n = count - 1, 0, -1 do
  local batch = ('%.0f'):format(first + n)
  local numbers = redis.call('SMEMBERS', open_of(batch))
  table.sort(numbers)
  for number = #numbers, 1, -1 do give_back(batch .. numbers[number]) end
end
return 1
