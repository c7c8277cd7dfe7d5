-- Keep a replay and queue it, unless its tenant has too many running.
--
-- KEYS  1 record  2 the tenant's running replays  3 payload  4 queue  5 wake
-- ARGV  1 id  2 document  3 life (ms)  4 payload  5 most
-- Returns 1 when it is kept, also when it was before; 0 otherwise.

if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[5]) then return 0 end
local time = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[4])
redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('LPUSH', KEYS[5], 1)
return 1
