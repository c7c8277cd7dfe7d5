-- What the scripts of the gates share; it stands before each of them.
--
-- A gate guards one deployment. Its keys are state, leases, room and order; its numbers the limit (calls
-- at once), and the interval and tolerance of GCRA in ms, each 0 where there is none.
--   state    moments in ms: paused, tripped, probe (until when one call tries it out), tat; since and
--            reason of a trip; span of the last pause without a hint; counts of calls: from, good, bad,
--            good_before, bad_before
--   leases   who holds a place, until when: a call, or a job that was let in and has not come yet
--   room     jobs that wait, in a fair order of their own, kept in `order` as a queue keeps its flows

local LET_IN, LOOK_AT, KEEP = 16, 64, 5000  -- jobs let in at one time, looked at; ms that a place is kept

local function moment()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function gate_at(key, argument)
  local gate = {
    state = KEYS[key], leases = KEYS[key + 1], room = KEYS[key + 2], order = KEYS[key + 3],
    limit = tonumber(ARGV[argument]),
    interval = tonumber(ARGV[argument + 1]),
    tolerance = tonumber(ARGV[argument + 2]),
  }
  gate.limited = gate.limit > 0 or gate.interval > 0
  return gate
end

local function numbers(key, ...)
  local found = redis.call('HMGET', key, ...)
  for i = 1, #found do found[i] = tonumber(found[i] or 0) end
  return unpack(found)
end

-- Returns how many calls may pass now, of `most`, whether as a probe, and GCRA's moment. Who has paid
-- came by its pace before.
local function passing(gate, now, most, paid)
  local paused, tripped, probe, tat = numbers(gate.state, 'paused', 'tripped', 'probe', 'tat')
  tat = math.max(tat, now)
  if now < paused then return 0, false, tat end
  if tripped > 0 then
    if now < tripped or now < probe then return 0, false, tat end
    most = math.min(most, 1)
  end
  if gate.limit > 0 then
    most = math.min(most, gate.limit - redis.call('ZCOUNT', gate.leases, '(' .. now, '+inf'))
  end
  if gate.interval > 0 and not paid then
    most = math.min(most, math.floor((gate.tolerance - (tat - now)) / gate.interval) + 1)
  end
  return math.max(most, 0), tripped > 0, tat
end

-- Says whether a job that stood in a room still waits, and nobody runs it.
local function waits(id, now, queue, in_progress)
  return tonumber(redis.call('ZSCORE', queue, id) or 0) > now and redis.call('EXISTS', in_progress .. id) == 0
end

-- Notes whose turn it was last, in the order of the room.
local function turn_to(gate, served)
  if redis.call('EXISTS', gate.room) == 0 then
    redis.call('DEL', gate.order)
  elseif served then
    redis.call('HSET', gate.order, 'served', served)
  end
end

-- Wakes as many of those that wait as may pass, and keeps a place for each. Who has ended, or does not
-- wait any more, is passed over.
local function let_in(gate, now, queue, wake, in_progress)
  if redis.call('EXISTS', gate.room) == 0 then return end
  local most, _, tat = passing(gate, now, LET_IN, false)
  local served, looked = nil, 0
  while most > 0 and looked < LOOK_AT do
    local first = redis.call('ZPOPMIN', gate.room)
    if #first == 0 then break end
    looked, served = looked + 1, first[2]
    if waits(first[1], now, queue, in_progress) then
      redis.call('ZADD', queue, now, first[1])
      redis.call('LPUSH', wake, 1)
      if gate.limited then redis.call('ZADD', gate.leases, now + KEEP, first[1]) end
      tat = tat + gate.interval
      most = most - 1
    end
  end
  if not served then return end
  if gate.interval > 0 then redis.call('HSET', gate.state, 'tat', tat) end
  turn_to(gate, served)
end

local function condition(gate, now)
  local paused, tripped, since, reason =
    unpack(redis.call('HMGET', gate.state, 'paused', 'tripped', 'since', 'reason'))
  local left, ago = -1, 0
  if tripped then left, ago = math.max(tripped - now, 0), now - since end
  return {tostring(math.max((paused or 0) - now, 0)), tostring(left), tostring(ago), reason or ''}
end
