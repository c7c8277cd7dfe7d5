-- Renew the leases of one worker.
--
-- KEYS  1 queue
-- ARGV  1 in-progress prefix  2 token  3 lease (ms)  then the ids
-- Returns the ids that are somebody else's by now, or no longer queued.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lost = {}
for i = 4, #ARGV do
  local key = ARGV[1] .. ARGV[i]
  local owner = redis.call('GET', key)
  if owner == ARGV[2] or (not owner and redis.call('ZSCORE', KEYS[1], ARGV[i])) then
    redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[3]), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
