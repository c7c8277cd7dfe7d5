-- The beginning of every script after which a tenant's jobs may have free seats.
--
-- A tenant that may have only so many jobs at work has as many seats. A job with a seat is in the queue, or
-- with a worker; one without stands, and is given the next place in the queue when a seat becomes free.

-- Seats up to `most` jobs that stand, and returns how many.
local function seat(limit, taken, standing, all_standing, queue, flows, wake, timely, job_prefix, most)
  if redis.call('EXISTS', standing) == 0 then return 0 end
  local free = tonumber(redis.call('GET', limit) or math.huge) - redis.call('SCARD', taken)
  local seated = 0
  while seated < math.min(free, most) do
    local id = redis.call('ZPOPMIN', standing)[1]
    if not id then break end
    redis.call('DECR', all_standing)
    local step, flow = unpack(redis.call('HMGET', job_prefix .. id, 'step', 'flow'))
    if flow then
      local tenant, priority = string.match(flow, '^(.*):(%-?%d+)$')
      local urgent = {}
      for above = priority + 1, 1 do urgent[#urgent + 1] = string.format('%s:%d', tenant, above) end
      redis.call('SADD', taken, id)
      local places = redis.call('HMGET', flows, 'served', flow, unpack(urgent))
      queue_up(queue, flows, wake, timely, id, step, flow, places)
      seated = seated + 1
    end
  end
  return seated
end
