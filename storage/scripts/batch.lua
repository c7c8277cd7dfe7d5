-- Write a batch over the version that was read, or for the first time, and what follows from it.
--
-- KEYS  1 record  2 tenant's batches  3 payload  4 in progress  5 queue  6 wake
--       and with a delivery: 7 its record  8 its payload  9 delivery queue  10 delivery wake  11 deliveries
-- ARGV  1 version read, or -1 for a new batch  2 document  3 id  4 ended (1 or 0)  5 life (ms)
--       6 created (µs)  7 payload  8 moment to be run (ms)
--       and with a delivery: 9 id  10 document  11 payload  12 created (µs)  13 due (ms)  14 life (ms)
-- Returns 1 when written, or when exactly this was written before; 0 when somebody else wrote first.

local version = redis.call('HGET', KEYS[1], 'version') or '-1'
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
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
  if KEYS[7] then
    redis.call('HSET', KEYS[7], 'version', 0, 'document', ARGV[10])
    redis.call('PEXPIRE', KEYS[7], ARGV[14])
    redis.call('SET', KEYS[8], ARGV[11])
    redis.call('ZADD', KEYS[11], ARGV[12], ARGV[9])
    redis.call('ZADD', KEYS[9], ARGV[13], ARGV[9])
    redis.call('LPUSH', KEYS[10], 1)
  end
end
return 1
