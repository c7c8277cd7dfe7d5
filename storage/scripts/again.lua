-- Send a delivery on its way anew, unless a try at it is under way.
--
-- KEYS  1 record  2 payload  3 in progress  4 queue  5 wake  6 index of its old status  7 pending index
-- ARGV  1 version read  2 document  3 id  4 payload  5 lane  6 lanes prefix  7 created (µs)  8 index entry
--       9 life (ms)  10 record of the delivery that should be sent before, or empty
-- Returns 1 when written, or when exactly this was written before; 0 when somebody else wrote first; -1 when a
-- try is under way.

local version = redis.call('HGET', KEYS[1], 'version')
if not version then return 0 end
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
end
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end

local now = moment()
redis.call('HSET', KEYS[1], 'version', following, 'document', ARGV[2], 'ended', 0, 'due', now)
redis.call('HDEL', KEYS[1], 'free')
redis.call('PEXPIRE', KEYS[1], ARGV[9])
redis.call('SET', KEYS[2], ARGV[4])
redis.call('ZREM', KEYS[4], ARGV[3])
if KEYS[6] ~= KEYS[7] then
  redis.call('ZREM', KEYS[6], ARGV[8])
  redis.call('ZADD', KEYS[7], ARGV[7], ARGV[8])
end
if ARGV[10] ~= '' and holds_up(ARGV[10]) then
  redis.call('HSET', ARGV[10], 'next', ARGV[3])
else
  push({queue = KEYS[4], wake = KEYS[5], prefix = ARGV[6]}, ARGV[5], ARGV[3], now)
end
return 1
