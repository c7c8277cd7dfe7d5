-- Take in a job, once: idempotency, record, index, queue entry and wake-up, or nothing at all.
--
-- KEYS  1 job  2 tenant's jobs  3 appointments  4 payload  5 queue  6 wake  7 flows  8 idempotency (optional)
-- ARGV  1 id  2 document  3 created (µs)  4 first appointment (s)  5 payload  6 flow  7 step
--       8 fingerprint  9 idempotency life (ms)
-- Returns {1} when added, {0, id} for the job that this key made before, {-1} when the key was used for
-- another request.

if KEYS[8] then
  local known = redis.call('GET', KEYS[8])
  if known then
    local fingerprint, id = string.match(known, '^(%S+) (%S+)$')
    if fingerprint ~= ARGV[8] then return {-1} end
    return {0, id}
  end
  redis.call('SET', KEYS[8], ARGV[8] .. ' ' .. ARGV[1], 'PX', ARGV[9])
end

-- Start-time fair queueing: a flow's next job comes one step after its last one, and never before the
-- place that is being served now.
local served = redis.call('HMGET', KEYS[7], 'served', ARGV[6])
local place = math.max(tonumber(served[1] or 0), tonumber(served[2] or 0))
redis.call('HSET', KEYS[7], ARGV[6], place + tonumber(ARGV[7]))

redis.call('HSET', KEYS[1], 'version', 0, 'document', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('SET', KEYS[4], ARGV[5])
redis.call('ZADD', KEYS[5], place, ARGV[1])
redis.call('LPUSH', KEYS[6], 1)
return {1}
