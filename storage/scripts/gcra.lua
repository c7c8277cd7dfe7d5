-- Count a request if every rate has room for it, and nowhere if one has not: GCRA, in Redis's own time.
--
-- KEYS  per rate: the moment at which all that came has been worked off
-- ARGV  per rate: interval (µs), requests that may come at one time
-- Returns {µs to wait, 0 when the request passed; per rate: how many more may come, µs until all may}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local moments, wait = {}, 0
for i = 1, #KEYS do
  local interval, burst = ARGV[2 * i - 1], ARGV[2 * i]
  moments[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
  wait = math.max(wait, moments[i] - (burst - 1) * interval - now)
end

local reply = {wait}
for i = 1, #KEYS do
  local interval, burst = ARGV[2 * i - 1], ARGV[2 * i]
  if wait == 0 then
    moments[i] = moments[i] + interval
    redis.call('SET', KEYS[i], string.format('%.0f', moments[i]), 'PX', math.ceil((moments[i] - now) / 1000))
  end
  reply[#reply + 1] = math.max(math.floor((burst * interval - (moments[i] - now)) / interval), 0)
  reply[#reply + 1] = moments[i] - now
end
return reply
