-- Lease the first job of those that wait before a gate to a worker whose place at it will soon be free.
--
-- KEYS  1 state  2 leases  3 room  4 order  5 queue
-- ARGV  1 limit  2 interval  3 tolerance  4 in-progress prefix  5 payload prefix  6 token  7 lease (ms)
-- Returns {id, payload or false}, or nothing while the gate is shut, or so few wait that any place which
-- becomes free should find them there.

local now = moment()
local gate = gate_at(1, 1)
local paused, tripped = numbers(gate.state, 'paused', 'tripped')
if now < paused or tripped > 0 or redis.call('ZCARD', gate.room) <= gate.limit then return {} end
local found, served = {}, nil
for _ = 1, LOOK_AT do
  local first = redis.call('ZPOPMIN', gate.room)
  if #first == 0 then break end
  local id = first[1]
  served = first[2]
  if waits(id, now, KEYS[5], ARGV[4]) then
    redis.call('SET', ARGV[4] .. id, ARGV[6], 'PX', ARGV[7])
    redis.call('ZADD', KEYS[5], now + tonumber(ARGV[7]), id)
    found = {id, redis.call('GET', ARGV[5] .. id)}
    break
  end
end
turn_to(gate, served)
return found
