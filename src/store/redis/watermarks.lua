-- The last tick of each entry; one that is new or has changed begins at `begin`.
-- ARGV: begin (us); then of each entry: name, fingerprint. Returns a time (us) for each.

local answers = {}
for i = 2, #ARGV, 2 do
  local entry, fingerprint = ARGV[i], ARGV[i + 1]
  local kept = redis.call('HGET', TICKS, entry)
  local bar = kept and kept:find('|[^|]*$')
  if kept and kept:sub(1, bar - 1) == fingerprint then
    answers[#answers + 1] = kept:sub(bar + 1)
  else
    redis.call('HSET', TICKS, entry, fingerprint .. '|' .. ARGV[1])
    answers[#answers + 1] = ARGV[1]
  end
end
return answers
