-- Write a batch over the version that was read, or for the first time, and what follows from it.
--
-- KEYS  1 record  2 tenant's batches  3 payload  4 in progress  5 queue  6 wake  7 appointments
--       then what `owe` takes
-- ARGV  1 version read, or -1 for a new batch  2 document  3 id  4 ended (1 or 0)  5 life (ms)
--       6 created (µs)  7 payload  8 moment to be run (ms)  9 next appointment (s)
--       then what `owe` takes
-- Returns 1 when written, or when exactly this was written before; 0 when somebody else wrote first.

local version = redis.call('HGET', KEYS[1], 'version') or '-1'
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
end
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[7], ARGV[3])
else
  redis.call('ZADD', KEYS[7], ARGV[9], ARGV[3])
end
redis.call('HSET', KEYS[1], 'version', following, 'document', ARGV[2])
if ARGV[1] == '-1' then
  redis.call('ZADD', KEYS[2], ARGV[6], ARGV[3])
  redis.call('SET', KEYS[3], ARGV[7])
  redis.call('ZADD', KEYS[5], ARGV[8], ARGV[3])
  redis.call('LPUSH', KEYS[6], 1)
end
if ARGV[4] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('DEL', KEYS[3], KEYS[4])
  redis.call('ZREM', KEYS[5], ARGV[3])
end
if #ARGV > 9 then owe(nil, 8, 10) end
return 1
