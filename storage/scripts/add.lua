-- Take in a job, once: idempotency, budget, record, index, queue entry and wake-up, or nothing at all.
--
-- KEYS  1 job  2 tenant's jobs  3 appointments  4 payload  5 queue  6 wake  7 flows  8 committed
--       9 idempotency (optional)
-- ARGV  1 id  2 document  3 created (µs)  4 first appointment (s)  5 payload  6 step
--       7 fingerprint, or empty  8 idempotency life (ms)  9 limit of the day, or -1 for none  10 to set
--       aside  11 spent before anything was set aside  12 the job's own flow  then the flows before it
-- Returns {1} when added, also when exactly this job was added before, {0, id} for the job that this key
-- made before, {-1} when the key was used for another request, {-2} when the day's limit is reached.

if redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) == 0 then return {1} end  -- the reply to a first try was lost

local function refused(...)
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {...}
end

if KEYS[9] then
  local known = redis.call('GET', KEYS[9])
  if known then
    local fingerprint, id = string.match(known, '^(%S+) (%S+)$')
    if fingerprint ~= ARGV[7] then return refused(-1) end
    return refused(0, id)
  end
end
if ARGV[9] ~= '-1' then
  local committed = tonumber(redis.call('GET', KEYS[8]) or ARGV[11]) + tonumber(ARGV[10])
  if committed > tonumber(ARGV[9]) then return refused(-2) end
  redis.call('SET', KEYS[8], string.format('%.0f', committed), 'PX', 259200000)
end
if KEYS[9] then redis.call('SET', KEYS[9], ARGV[7] .. ' ' .. ARGV[1], 'PX', ARGV[8]) end

-- Start-time fair queueing: a flow's next job comes one step after its last one, after all that its
-- tenant holds more urgent, and never before the place that is being served now.
local place = 0
for _, taken in ipairs(redis.call('HMGET', KEYS[7], 'served', unpack(ARGV, 12))) do
  place = math.max(place, tonumber(taken or 0))
end
redis.call('HSET', KEYS[7], ARGV[12], place + tonumber(ARGV[6]))

redis.call('HSET', KEYS[1], 'version', 0, 'document', ARGV[2], 'step', ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('SET', KEYS[4], ARGV[5])
redis.call('ZADD', KEYS[5], place, ARGV[1])
redis.call('LPUSH', KEYS[6], 1)
return {1}
