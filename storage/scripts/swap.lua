-- Write a record over the version that was read, and all that follows from it, or nothing at all.
--
-- KEYS  1 job  2 appointments  3 channel  4 payload  5 in progress  6 queue  7 delivery queue
--       8 delivery wake  9 tenant's deliveries  10 bill  11 tenant's bills  12 committed  13 seats  14 taken
--       15 standing  16 all standing  17 flows  18 wake  19 timely wake
--       then per delivery: record, payload
-- ARGV  1 version read  2 document  3 id  4 ended (1 or 0)  5 next appointment (s)  6 news  7 delivery
--       life (ms)  8-11 for the bill: jobs, images, jobs of unknown cost, money  12 name of the bill
--       13 its day as a number  14 money to commit, or 0  15 job prefix
--       then per delivery: id, document, payload, created (µs), due (ms)
-- Returns 1 when written, or when exactly this was written before; 0 when somebody else wrote first;
-- -1 when there is no such record.

local BILL_LIFE_DAYS = 760
local AT_ONCE = 8  -- jobs seated after one that has ended; there are more only after a limit was raised

local version, flow = unpack(redis.call('HMGET', KEYS[1], 'version', 'flow'))
if not version then return -1 end
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  -- The reply to a first try may have been lost on the way.
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'version', following, 'document', ARGV[2])
if ARGV[4] == '1' then
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[3])
  redis.call('DEL', KEYS[4], KEYS[5])
  redis.call('ZREM', KEYS[6], ARGV[3])
  if ARGV[12] ~= '' then
    local sums = redis.call('BITFIELD', KEYS[10], 'INCRBY', 'i64', '#0', ARGV[8], 'INCRBY', 'i64', '#1', ARGV[9],
      'INCRBY', 'i64', '#2', ARGV[10], 'INCRBY', 'i64', '#3', ARGV[11])
    if sums[1] == 1 then  -- the first of its day
      redis.call('PEXPIRE', KEYS[10], BILL_LIFE_DAYS * 86400000)
      redis.call('ZADD', KEYS[11], ARGV[13], ARGV[12])
      redis.call('ZREMRANGEBYSCORE', KEYS[11], '-inf', ARGV[13] - 20000)  -- more than a year ago
    end
  end
  if ARGV[14] ~= '0' and redis.call('EXISTS', KEYS[12]) == 1 then redis.call('INCRBY', KEYS[12], ARGV[14]) end
  if flow then  -- its tenant's jobs are counted
    if redis.call('SREM', KEYS[14], ARGV[3]) == 0 and redis.call('ZREM', KEYS[15], ARGV[3]) == 1 then
      redis.call('DECR', KEYS[16])
    end
    seat(KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[6], KEYS[17], KEYS[18], KEYS[19], ARGV[15], AT_ONCE)
  end
  local key = 20
  for at = 16, #ARGV, 5 do
    redis.call('HSET', KEYS[key], 'version', 0, 'document', ARGV[at + 1])
    redis.call('PEXPIRE', KEYS[key], ARGV[7])
    redis.call('SET', KEYS[key + 1], ARGV[at + 2])
    redis.call('ZADD', KEYS[9], ARGV[at + 3], ARGV[at])
    redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', ARGV[at + 3] - ARGV[7] * 1000)  -- their records are gone
    redis.call('ZADD', KEYS[7], ARGV[at + 4], ARGV[at])
    redis.call('LPUSH', KEYS[8], 1)
    key = key + 2
  end
end
redis.call('PUBLISH', KEYS[3], ARGV[6])
return 1
