-- Return how several gates stand, as `report` does for one.
--
-- KEYS  per gate: state

local now = moment()
local told = {}
for i = 1, #KEYS do told[i] = condition({state = KEYS[i]}, now) end
return told
