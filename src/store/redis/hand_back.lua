-- What came to this process while it ends its waits goes back to where it came from, for it may have no room for it.
-- ARGV: process; lists.

for n = 2, #ARGV do empty_inbox(ARGV[1] .. ':' .. ARGV[n], ARGV[n]) end
