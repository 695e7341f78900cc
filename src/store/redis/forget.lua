-- Drops what is kept of an ended task. ARGV: id. Returns 1, or 0 when there was none.

local id = ARGV[1]
if not is_final(redis.call('HGET', run_of(id), 'state')) then return 0 end
redis.call('DEL', meta_of(id))
forget({ id })
return 1
