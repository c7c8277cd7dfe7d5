-- Lanes: how many messages to one receiver, and of one tenant, may be under way at one time. Put before the
-- scripts that queue deliveries, so that all of them keep to it.
--
-- A lane is named "tenant:receiver"; the part before the colon is the lane of the whole tenant. `active` holds
-- who is in a lane, until a moment that only a dead worker lets pass; `waiting` holds who found it full. Whoever
-- is in a lane has its entry in the queue, and when it leaves, it calls the next: so nobody polls, and a receiver
-- that hangs fills its own lane and nothing else. All time is Redis's own, in milliseconds.

local function moment()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lanes_of(lane)
  return {lane, string.match(lane, '^[^:]+')}
end

-- Queue a delivery, behind those that wait for its lane already.
local function push(hall, lane, id, now)
  if redis.call('EXISTS', hall.prefix .. lane .. ':waiting') == 1 then
    redis.call('ZADD', hall.prefix .. lane .. ':waiting', now, id)
  else
    redis.call('ZADD', hall.queue, now, id)
    redis.call('LPUSH', hall.wake, 1)
  end
end

-- Call the next of a lane that has room, if somebody waits.
local function call_next(hall, name, most, now)
  local waiting = hall.prefix .. name .. ':waiting'
  if redis.call('EXISTS', waiting) == 0 or redis.call('ZCARD', hall.prefix .. name .. ':active') >= most then
    return false
  end
  redis.call('ZADD', hall.queue, now, redis.call('ZPOPMIN', waiting)[1])
  redis.call('LPUSH', hall.wake, 1)
  if redis.call('EXISTS', waiting) == 1 then
    redis.call('ZADD', hall.full, now, name)
  else
    redis.call('ZREM', hall.full, name)
  end
  return true
end

-- Leave both lanes of a delivery.
local function leave(hall, lane, id, now)
  for at, name in ipairs(lanes_of(lane)) do
    redis.call('ZREM', hall.prefix .. name .. ':active', id)
    call_next(hall, name, hall.most[at], now)
  end
end

-- Say whether a delivery keeps the one after it waiting.
local function holds_up(record)
  local found = redis.call('HMGET', record, 'version', 'free')
  return found[1] and found[2] ~= '1'
end
