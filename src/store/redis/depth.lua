-- How much of a queue is ready, delayed and claimed. ARGV: queue.

local queue, ready = ARGV[1], 0
for _, step in ipairs(STEPS) do ready = ready + redis.call('LLEN', list_of(queue, step)) end
return { ready, redis.call('ZCARD', due_of(queue)), claimed_by_queue()[queue] or 0 }
