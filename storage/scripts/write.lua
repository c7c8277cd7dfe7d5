-- Write a delivery over the version that was read; when it has ended, its queue entry goes too.
--
-- KEYS  1 record  2 payload  3 in progress  4 queue
-- ARGV  1 version read  2 document  3 id  4 ended (1 or 0)
-- Returns 1 when written, or when exactly this was written before; 0 otherwise.

local version = redis.call('HGET', KEYS[1], 'version')
if not version then return 0 end
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'version', following, 'document', ARGV[2])
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[3])
end
return 1
