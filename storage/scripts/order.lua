-- The beginning of every script that gives a job its place in the queue.

-- Queues a job and wakes a worker. This is start-time fair queueing: a flow's next job comes one step after
-- its last one, after all that its tenant holds more urgent, and never before the place that is being
-- served now. A job that has just this place is timely: its flow does not crowd the queue.
--
-- `taken` is what `flows` says of: served, own, then the flows that come before it.
local function queue_up(queue, flows, wake, timely, id, step, own, taken)
  local served = tonumber(taken[1] or 0)
  local place = served
  for i = 2, #taken do place = math.max(place, tonumber(taken[i] or 0)) end
  redis.call('HSET', flows, own, place + tonumber(step))
  redis.call('ZADD', queue, place, id)
  redis.call('LPUSH', place == served and timely or wake, 1)
end
