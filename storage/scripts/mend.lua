-- Call on who waits for a lane in which nobody is left to call; needed only where an entry was lost.
--
-- KEYS  1 queue  2 wake  3 full lanes
-- ARGV  1 lanes prefix  2 most in a lane  3 most of a tenant  4 quiet for (ms)  5 most lanes
-- Returns how many deliveries were called.

local now = moment()
local hall = {queue = KEYS[1], wake = KEYS[2], full = KEYS[3], prefix = ARGV[1]}
local called = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[4], 'LIMIT', 0, ARGV[5])) do
  local most = tonumber(string.find(name, ':', 1, true) and ARGV[2] or ARGV[3])
  redis.call('ZREMRANGEBYSCORE', hall.prefix .. name .. ':active', '-inf', now)
  if call_next(hall, name, most, now) then called = called + 1 end
end
return called
