-- Keep the places of one worker at a gate, strike out those whose worker died, and let in who waits.
--
-- KEYS  1 state  2 leases  3 room  4 order  5 queue  6 wake
-- ARGV  1 limit  2 interval  3 tolerance  4 in-progress prefix  5 lease (ms)  6 holds the probe (1 or 0)
--       then the tokens of its places
-- Returns {how many wait, ms until the next place comes free by itself or -1}

local now = moment()
local gate = gate_at(1, 1)
local until_ = now + tonumber(ARGV[5])
local held = {}
for i = 7, #ARGV do
  held[#held + 1] = until_
  held[#held + 1] = ARGV[i]
end
if #held > 0 then redis.call('ZADD', gate.leases, unpack(held)) end
if ARGV[6] == '1' then redis.call('HSET', gate.state, 'probe', until_) end
if gate.limited then redis.call('ZREMRANGEBYSCORE', gate.leases, '-inf', now) end
let_in(gate, now, KEYS[5], KEYS[6], ARGV[4])
local first = redis.call('ZRANGEBYSCORE', gate.leases, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {redis.call('ZCARD', gate.room), first[2] and math.ceil(first[2] - now) or -1}
