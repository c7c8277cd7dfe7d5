-- Give a leased task back and let it wait before gates, in their fair order, until one lets it in.
--
-- KEYS  1 queue  2 in progress  3 wake  4 job  then per gate: state, leases, room, order
-- ARGV  1 id  2 token  3 delay (ms) after which it asks again in any case  4 in-progress prefix
--       5 first (1: it was taken out of the line as the first of it)
--       6 count of flows  then the flows: its own first, then those before it
--       then per gate: limit, interval, tolerance
-- Returns 1, or 0 when the lease is somebody else's by now.

if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
local now = moment()
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[3]), ARGV[1])
local step = tonumber(redis.call('HGET', KEYS[4], 'step') or 1)
local flows = tonumber(ARGV[6])
for i = 1, (#KEYS - 4) / 4 do
  local gate = gate_at(4 * i + 1, 7 + flows + 3 * (i - 1))
  if ARGV[5] == '1' then
    redis.call('ZADD', gate.room, tonumber(redis.call('HGET', gate.order, 'served') or 0), ARGV[1])
  elseif not redis.call('ZSCORE', gate.room, ARGV[1]) then
    local place = 0
    for _, taken in ipairs(redis.call('HMGET', gate.order, 'served', unpack(ARGV, 7, 6 + flows))) do
      place = math.max(place, tonumber(taken or 0))
    end
    redis.call('HSET', gate.order, ARGV[7], place + step)
    redis.call('ZADD', gate.room, place, ARGV[1])
  end
  let_in(gate, now, KEYS[1], KEYS[3], ARGV[4])
end
return 1
