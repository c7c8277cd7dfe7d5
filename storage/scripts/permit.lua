-- Let a job pass the first of several gates that lets it.
--
-- KEYS  per gate: state, leases, room, order
-- ARGV  1 job  2 token  3 lease (ms)  4 pressing (1: the upstream is at work already, so it passes anyhow;
--       2: it was the first of those that wait)
--       then per gate: limit, interval, tolerance, places wanted, calls to come
-- Returns {which gate, places, 1 as a probe}, or {0} when all are closed.

local now = moment()
local until_ = now + tonumber(ARGV[3])
local pressing = ARGV[4] == '1'

local gates, kept = {}, nil
for i = 1, #KEYS / 4 do
  local gate = gate_at(4 * i - 3, 5 * i)
  gate.number, gate.wanted, gate.calls = i, tonumber(ARGV[5 * i + 3]), tonumber(ARGV[5 * i + 4])
  if not kept and gate.limited and redis.call('ZREM', gate.leases, ARGV[1]) == 1 then
    kept = gate
    table.insert(gates, 1, gate)
  else
    gates[#gates + 1] = gate
  end
end

for _, gate in ipairs(gates) do
  local places, probe, tat = gate.wanted, false, now
  if not pressing then
    places, probe, tat = passing(gate, now, gate.wanted, gate == kept)
    if places > 0 and gate.limited and gate ~= kept and ARGV[4] ~= '2' and redis.call('EXISTS', gate.room) == 1 then
      places = 0  -- nobody overtakes those that wait
    end
  end
  if places > 0 then
    if gate.limit > 0 then
      local held = {}
      for n = 1, places do
        held[2 * n - 1], held[2 * n] = until_, ARGV[2] .. ':' .. n
      end
      redis.call('ZADD', gate.leases, unpack(held))
    end
    if gate.interval > 0 and not pressing then
      local paid = gate == kept and 1 or 0
      redis.call('HSET', gate.state, 'tat', tat + (gate.calls - paid) * gate.interval)
    end
    if probe then redis.call('HSET', gate.state, 'probe', until_) end
    return {gate.number, places, probe and 1 or 0}
  end
end
return {0}
