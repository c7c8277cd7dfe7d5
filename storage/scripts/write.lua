-- Write a delivery over the version that was read, after a try or instead of one, and leave its lanes; when it
-- has ended, its queue entry goes too. The delivery that waits for it is queued once it lets go.
--
-- KEYS  1 record  2 payload  3 in progress  4 queue  5 wake  6 full lanes  7 index of its old status  8 index of
--       its new status  9 its endpoint's counts
-- ARGV  1 version read  2 document  3 id  4 ended (1 or 0)  5 lets go (1 or 0)  6 next try in (ms)  7 lane
--       8 lanes prefix  9 most in a lane  10 most of a tenant  11 created (µs)  12 index entry  13 life (ms)
--       14 what to count, or empty
-- Returns 1 when written, or when exactly this was written before; 0 otherwise.

local version = redis.call('HGET', KEYS[1], 'version')
if not version then return 0 end
local following = tostring(tonumber(ARGV[1]) + 1)
if version ~= ARGV[1] then
  if version == following and redis.call('HGET', KEYS[1], 'document') == ARGV[2] then return 1 end
  return 0
end

local now = moment()
local hall = {
  queue = KEYS[4], wake = KEYS[5], full = KEYS[6], prefix = ARGV[8],
  most = {tonumber(ARGV[9]), tonumber(ARGV[10])},
}
redis.call('HSET', KEYS[1], 'version', following, 'document', ARGV[2], 'ended', ARGV[4], 'due', now + ARGV[6])
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[3])
  for _, name in ipairs(lanes_of(ARGV[7])) do  -- it may have been written off while it waited
    local waiting = hall.prefix .. name .. ':waiting'
    if redis.call('ZREM', waiting, ARGV[3]) == 1 and redis.call('EXISTS', waiting) == 0 then
      redis.call('ZREM', hall.full, name)
    end
  end
end
if KEYS[7] ~= KEYS[8] then
  redis.call('ZREM', KEYS[7], ARGV[12])
  redis.call('ZADD', KEYS[8], ARGV[11], ARGV[12])
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', ARGV[11] - ARGV[13] * 1000)  -- their records are gone
end
if ARGV[14] ~= '' then redis.call('HINCRBY', KEYS[9], ARGV[14], 1) end
leave(hall, ARGV[7], ARGV[3], now)
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'free', 1)
  local next = redis.call('HGET', KEYS[1], 'next')
  if next then
    redis.call('HDEL', KEYS[1], 'next')
    local records = string.sub(KEYS[1], 1, -#ARGV[3] - 1)
    local found = redis.call('HMGET', records .. next, 'version', 'ended')
    if found[1] and found[2] ~= '1' then push(hall, ARGV[7], next, now) end  -- else it went out of turn
  end
end
return 1
