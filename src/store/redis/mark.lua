-- Writes down that scripts have begun. ARGV: tokens; those that are not held any more do not count.

local began = {}
for n, held in pairs(are_held(ARGV)) do
  if held then began[#began + 1] = ARGV[n] end
end
if #began > 0 then redis.call('SADD', STARTED, unpack(began)) end
