-- Every queue that holds something or is paused; what is named like a queue and is none holds nothing.
-- Returns of each: name, ready, delayed, claimed, '1' when it is paused.
-- Known are those that were pushed to, claimed from or paused, and those that Celery bound to its default exchange.

-- Of more names than this, those of empty queues are forgotten.
local MOST = 1000

local names, seen = {}, {}
local function know(name)
  if name and not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
for _, name in ipairs(redis.call('SMEMBERS', QUEUES)) do know(name) end
local known = #names
local paused = {}
for _, name in ipairs(redis.call('SMEMBERS', PAUSED)) do
  paused[name] = true
  know(name)
end
for _, binding in ipairs(redis.call('SMEMBERS', PREFIX .. '_kombu.binding.celery')) do
  know(binding:match('\6\22([^\6\22]+)$'))
end

local answer, all_claimed = {}, claimed_by_queue()
for _, name in ipairs(names) do
  local ready, claimed = 0, all_claimed[name] or 0
  for _, step in ipairs(STEPS) do
    ready = ready + (try('LLEN', list_of(name, step)) or 0)
  end
  local delayed = try('ZCARD', due_of(name)) or 0
  if paused[name] or ready + delayed + claimed > 0 then
    answer[#answer + 1] = { name, ready, delayed, claimed, paused[name] and '1' or '0' }
  elseif known > MOST then
    redis.call('SREM', QUEUES, name)
  end
end
return answer
