-- Stores all messages or none.
-- ARGV: entry and due (us) of a tick or two empty texts; then of each message: id, queue, step, due (ms),
-- envelope, brief.
-- Returns 0 stored, -1 the tick is taken, else the number of the message whose id is known.

local entry, due = ARGV[1], ARGV[2]
local fingerprint = ''
if entry ~= '' then
  local kept = redis.call('HGET', TICKS, entry)
  if kept then
    local bar = kept:find('|[^|]*$')
    fingerprint = kept:sub(1, bar - 1)
    if tonumber(due) <= tonumber(kept:sub(bar + 1)) then return -1 end
  end
end

local seen, starts, runs = {}, {}, {}
for i = 3, #ARGV, 6 do
  local id = ARGV[i]
  starts[#starts + 1] = i
  if seen[id] then return #starts end
  seen[id] = true
  runs[#runs + 1] = run_of(id)
end
for from = 1, #runs, 1000 do
  local to = math.min(from + 999, #runs)
  if redis.call('EXISTS', unpack(runs, from, to)) > 0 then
    for n = from, to do
      if redis.call('EXISTS', runs[n]) == 1 then return n end
    end
  end
end

must_store(starts)
store(starts)
if entry ~= '' then redis.call('HSET', TICKS, entry, fingerprint .. '|' .. due) end
return 0
