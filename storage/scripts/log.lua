-- Read a stretch of a tenant's deliveries, of several statuses at one moment.
--
-- KEYS  the indexes
-- ARGV  1 from (µs)  2 to (µs)  3 most of each  4 the newest first (1 or 0)
-- Returns for each index its entries, each followed by when it was created.

local found = {}
for at, index in ipairs(KEYS) do
  if ARGV[4] == '1' then
    found[at] = redis.call('ZREVRANGEBYSCORE', index, ARGV[2], ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  else
    found[at] = redis.call('ZRANGEBYSCORE', index, ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  end
end
return found
