-- Give a leased task back, to be run again after a while, or take it off the queue.
--
-- KEYS  1 queue  2 in progress  3 payload  4 wake
-- ARGV  1 id  2 token  3 delay (ms), or -1 when it is done
-- Returns 1, or 0 when the lease is somebody else's by now.

if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
if ARGV[3] == '-1' then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[1], ARGV[1])
  return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[3]), ARGV[1])
redis.call('LPUSH', KEYS[4], 1)  -- also when deferred: whoever wakes learns when it is due
return 1
