-- Gives up the right of redelivery; what remains is the lease, and with it the right to settle. ARGV: token.

if not is_held(ARGV[1]) then return 0 end
redis.call('SADD', ACKNOWLEDGED, ARGV[1])
return 1
