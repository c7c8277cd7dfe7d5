-- Take in a job, once: idempotency, budget, record, index, queue entry, wake-up and the webhooks that it owes,
-- or nothing at all.
--
-- KEYS  1 job  2 tenant's jobs  3 appointments  4 payload  5 queue  6 wake  7 flows  8 committed
--       9 idempotency  10 seats  11 taken  12 standing  13 all standing  14 timely wake  15 committed by the key
--       then what `owe` takes
-- ARGV  1 id  2 document  3 created (µs)  4 first appointment (s)  5 payload  6 step
--       7 fingerprint, or empty  8 idempotency life (ms)  9 limit of the day, or -1 for none  10 to set
--       aside  11 spent before anything was set aside  12 most open jobs, -1 for any number, empty when they
--       are not counted  13 order among those that stand  14 generation of the endpoints that was
--       read  15 its field beside the flows  16 limit of the key's day, or -1 for none  17 how many flows
--       then the job's own flow and the flows before it, then what `owe` takes
-- Returns {1} when added, also when exactly this job was added before, {0, id} for the job that this key
-- made before, {-1} when the key was used for another request, {-2} when the day's limit is reached, {-3}
-- when the tenant has as many open jobs as it may have, {-4} when its endpoints are others by now, {-5} when
-- the limit of the API key's day is reached.

-- The reply to a first try may have been lost. A log that was cut short can also end between two lines of this
-- script: then there is a place in the list and no record, and the job is taken in as if it were new.
if redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then return {1} end

local function refused(...)
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {...}
end

local idempotency = ARGV[7] ~= '' and KEYS[9]
if idempotency then
  local known = redis.call('GET', idempotency)
  if known then
    local fingerprint, id = string.match(known, '^(%S+) (%S+)$')
    if redis.call('EXISTS', string.sub(KEYS[1], 1, -1 - #ARGV[1]) .. id) == 1 then
      if fingerprint ~= ARGV[7] then return refused(-1) end
      return refused(0, id)
    end  -- else the job was deleted: the key is free again
  end
end
local after_flows = 18 + tonumber(ARGV[17])
local places = redis.call('HMGET', KEYS[7], ARGV[15], 'served', unpack(ARGV, 18, after_flows - 1))
local generation = table.remove(places, 1)
if generation and generation ~= ARGV[14] then return refused(-4) end
local stands = false
if ARGV[12] ~= '' then
  local seats, taken, standing = KEYS[10], KEYS[11], KEYS[12]
  local seated, most = redis.call('SCARD', taken), tonumber(ARGV[12])
  if most >= 0 and seated + redis.call('ZCARD', standing) >= most then return refused(-3) end
  stands = seated >= tonumber(redis.call('GET', seats) or math.huge)
end
local committed
if ARGV[9] ~= '-1' then
  committed = tonumber(redis.call('GET', KEYS[8]) or ARGV[11]) + tonumber(ARGV[10])
  if committed > tonumber(ARGV[9]) then return refused(-2) end
end
if ARGV[16] ~= '-1' then
  local by_key = tonumber(redis.call('GET', KEYS[15]) or 0) + tonumber(ARGV[10])
  if by_key > tonumber(ARGV[16]) then return refused(-5) end
  redis.call('SET', KEYS[15], string.format('%.0f', by_key), 'PX', 259200000)
end
if committed then redis.call('SET', KEYS[8], string.format('%.0f', committed), 'PX', 259200000) end
if idempotency then redis.call('SET', idempotency, ARGV[7] .. ' ' .. ARGV[1], 'PX', ARGV[8]) end

redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])  -- first: whatever else is lost, somebody will look
redis.call('HSET', KEYS[1], 'version', 0, 'document', ARGV[2], 'step', ARGV[6])
redis.call('SET', KEYS[4], ARGV[5])
if #ARGV >= after_flows then owe(KEYS[1], 16, after_flows) end
if ARGV[12] ~= '' then
  redis.call('HSET', KEYS[1], 'flow', ARGV[18])
  if stands then
    redis.call('ZADD', KEYS[12], ARGV[13], ARGV[1])
    redis.call('INCR', KEYS[13])
    return {1}
  end
  redis.call('SADD', KEYS[11], ARGV[1])
end
queue_up(KEYS[5], KEYS[7], KEYS[6], KEYS[14], ARGV[1], ARGV[6], ARGV[18], places)
return {1}
