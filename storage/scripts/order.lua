-- The beginning of every script that gives a job its place in the queue.

-- Start-time fair queueing: a flow's next job comes one step after its last one, after all that its
-- tenant holds more urgent, and never before the place that is being served now.
local function next_place(flows, step, own, ...)
  local place = 0
  for _, taken in ipairs(redis.call('HMGET', flows, 'served', own, ...)) do
    place = math.max(place, tonumber(taken or 0))
  end
  redis.call('HSET', flows, own, place + tonumber(step))
  return place
end
