-- Begin a try at a claimed delivery: let it into its lanes, or let it wait for them outside the queue.
--
-- KEYS  1 record  2 payload  3 in progress  4 queue  5 wake  6 full lanes
-- ARGV  1 id  2 lanes prefix  3 most in a lane  4 most of a tenant  5 lease (ms)  6 how early a try may be (ms)
-- Returns {1, document} when it is let in, {2} when it waits, {3, ms} when its time has not come, {0} when it
-- has ended or its record is gone.

local now = moment()
local hall = {
  queue = KEYS[4], wake = KEYS[5], full = KEYS[6], prefix = ARGV[2],
  most = {tonumber(ARGV[3]), tonumber(ARGV[4])},
}
local document, lane, ended, due = unpack(redis.call('HMGET', KEYS[1], 'document', 'lane', 'ended', 'due'))
if not document then return {0} end
if ended == '1' then
  leave(hall, lane, ARGV[1], now)
  return {0}
end
if due and due - now > tonumber(ARGV[6]) then
  leave(hall, lane, ARGV[1], now)
  return {3, due - now}
end

local lanes = lanes_of(lane)
for at, name in ipairs(lanes) do
  local active = hall.prefix .. name .. ':active'
  redis.call('ZREMRANGEBYSCORE', active, '-inf', now)
  if not redis.call('ZSCORE', active, ARGV[1]) and redis.call('ZCARD', active) >= hall.most[at] then
    redis.call('ZADD', hall.prefix .. name .. ':waiting', now, ARGV[1])
    redis.call('ZADD', hall.full, now, name)
    redis.call('ZREM', hall.queue, ARGV[1])
    redis.call('DEL', KEYS[3])
    return {2}
  end
end
for _, name in ipairs(lanes) do
  redis.call('ZADD', hall.prefix .. name .. ':active', now + tonumber(ARGV[5]), ARGV[1])
end
return {1, document}
