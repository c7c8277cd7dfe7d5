-- Say how calls went, give places back, and let in who waits for them.
--
-- KEYS  1 state  2 leases  3 room  4 order  5 queue  6 wake  7 channel
-- ARGV  1 limit  2 interval  3 tolerance  4 name  5 in-progress prefix
--       6 verdict: good, bad, pause, trip, forgive or none  7 ms of a pause (0: no hint) or a trip
--       8 reason of a trip  9 calls that went well and were not reported yet
--       10 as a probe (1 or 0)  then the tokens of places to give back
-- Returns how the gate stands, {ms of pause left, ms until a probe or -1, ms since it tripped, reason}, or
-- nothing when places were given back and no more.

local SPAN, LEAST = 15000, 5  -- ms of one count, two are looked at; failures that can trip a gate
local FIRST_PAUSE, LONGEST_PAUSE = 1000, 30000
local LIFE = 3600000

local now = moment()
local gate = gate_at(1, 1)
local verdict, ms, reason, well, probe = ARGV[6], tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), ARGV[10] == '1'
local told, changed = {}, false

local function count(good, bad)
  local from, good_now, bad_now, good_before, bad_before =
    numbers(gate.state, 'from', 'good', 'bad', 'good_before', 'bad_before')
  if now - from >= 2 * SPAN then
    from, good_now, bad_now, good_before, bad_before = now, 0, 0, 0, 0
  elseif now - from >= SPAN then
    from, good_now, bad_now, good_before, bad_before = from + SPAN, 0, 0, good_now, bad_now
  end
  good_now, bad_now = good_now + good, bad_now + bad
  redis.call('HSET', gate.state, 'from', from, 'good', good_now, 'bad', bad_now,
    'good_before', good_before, 'bad_before', bad_before)
  return good_now + good_before, bad_now + bad_before
end

local function trip(tripped, since)
  redis.call('HSET', gate.state, 'tripped', now + ms, 'probe', 0, 'reason', reason,
    'since', tripped > 0 and since or now)
  changed = true
end

local function untrip()
  redis.call('HDEL', gate.state, 'tripped', 'probe', 'reason', 'since',
    'from', 'good', 'bad', 'good_before', 'bad_before')
  changed = true
end

if #ARGV > 10 then redis.call('ZREM', gate.leases, unpack(ARGV, 11)) end

if verdict ~= 'none' or probe or well > 0 then
  local tripped, since, paused, span = numbers(gate.state, 'tripped', 'since', 'paused', 'span')
  if verdict == 'pause' then
    if ms == 0 and now >= paused then
      -- Nobody said how long: twice as long as the last time, if that was just now.
      local again = span > 0 and now - paused < span
      ms = again and math.min(2 * span, LONGEST_PAUSE) or FIRST_PAUSE
      redis.call('HSET', gate.state, 'span', ms)
    end
    if now + ms > paused then
      redis.call('HSET', gate.state, 'paused', now + ms)
      changed = true
    end
  elseif verdict == 'trip' then
    trip(tripped, since)
  elseif verdict == 'bad' then
    if tripped == 0 then
      local good, bad = count(well, 1)
      if bad >= LEAST and bad >= good then trip(0, 0) end
      changed = changed or bad == 1  -- so that all workers say what went well meanwhile
    elseif probe then
      trip(tripped, since)
    end
  elseif verdict == 'good' and probe or verdict == 'forgive' then
    if tripped > 0 then untrip() end
  elseif well > 0 and tripped == 0 then
    count(well, 0)
  end
  if probe and (verdict == 'pause' or verdict == 'none') then redis.call('HSET', gate.state, 'probe', 0) end
  redis.call('PEXPIRE', gate.state, LIFE)
  told = condition(gate, now)
  if changed then redis.call('PUBLISH', KEYS[7], table.concat(told, '|') .. '|' .. ARGV[4]) end
end

let_in(gate, now, KEYS[5], KEYS[6], ARGV[5])
return told
