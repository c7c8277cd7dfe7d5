-- Write a record over the version that was read, and all that follows from it, or nothing at all.
--
-- KEYS  1 job  2 appointments  3 channel  4 payload  5 in progress  6 queue  7 bill  8 tenant's bills
--       9 committed  10 seats  11 taken  12 standing  13 all standing  14 flows  15 wake
--       16 timely wake  17 committed by the key  then what `owe` takes
-- ARGV  1 version read  2 document  3 id  4 ended (1 or 0)  5 next appointment (s)  6 news
--       7-11 for the bill: jobs, images, jobs of unknown cost, money, money at risk  12 name of the bill
--       13 its day as a number  14 money to commit, or 0  15 job prefix  16 money to commit by the key, or 0
--       then what `owe` takes
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
    local sums = redis.call('BITFIELD', KEYS[7], 'INCRBY', 'i64', '#0', ARGV[7], 'INCRBY', 'i64', '#1', ARGV[8],
      'INCRBY', 'i64', '#2', ARGV[9], 'INCRBY', 'i64', '#3', ARGV[10], 'INCRBY', 'i64', '#4', ARGV[11])
    if sums[1] == 1 then  -- the first of its day
      redis.call('PEXPIRE', KEYS[7], BILL_LIFE_DAYS * 86400000)
      redis.call('ZADD', KEYS[8], ARGV[13], ARGV[12])
      redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', ARGV[13] - 20000)  -- more than a year ago
    end
  end
  if ARGV[14] ~= '0' and redis.call('EXISTS', KEYS[9]) == 1 then redis.call('INCRBY', KEYS[9], ARGV[14]) end
  if ARGV[16] ~= '0' and redis.call('EXISTS', KEYS[17]) == 1 then redis.call('INCRBY', KEYS[17], ARGV[16]) end
  if flow then  -- its tenant's jobs are counted
    if redis.call('SREM', KEYS[11], ARGV[3]) == 0 and redis.call('ZREM', KEYS[12], ARGV[3]) == 1 then
      redis.call('DECR', KEYS[13])
    end
    seat(KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[6], KEYS[14], KEYS[15], KEYS[16], ARGV[15], AT_ONCE)
  end
end
if #ARGV > 16 then owe(KEYS[1], 18, 17) end
redis.call('PUBLISH', KEYS[3], ARGV[6])
return 1
