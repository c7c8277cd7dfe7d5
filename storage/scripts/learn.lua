-- Return how several gates stand: what `report` returns for one, then calls under way where they are
-- counted, and jobs that wait.
--
-- KEYS  per gate: state, leases, room

local now = moment()
local told = {}
for i = 1, #KEYS / 3 do
  local row = condition({state = KEYS[3 * i - 2]}, now)
  row[5] = redis.call('ZCOUNT', KEYS[3 * i - 1], now, '+inf')
  row[6] = redis.call('ZCARD', KEYS[3 * i])
  told[i] = row
end
return told
