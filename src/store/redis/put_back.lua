-- Returns deliveries that did not start to the front of their queue. ARGV of each: token, queue, id; the one that is
-- to come first stands last.

for i = 1, #ARGV, 3 do
  local token, queue, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is_held(token) and give_back(queue, token) then waits_again(id) end
end
