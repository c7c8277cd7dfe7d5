-- Lease the next tasks of a queue to one worker.
--
-- A waiting task's score is its place in the fair order; a leased one's is the moment its lease runs out,
-- so the head of the queue holds only what may be run. All time is Redis's own.
--
-- KEYS  1 queue  2 wake  3 flows  4 timely wake
-- ARGV  1 in-progress prefix  2 payload prefix  3 token  4 lease (ms)  5 most  6 first moment  7 timely (1: only
--       what has the place that is being served now, or 0)  8 job prefix,
--       or empty where no jobs are queued
-- Returns {ms until the next task is due or -1, id, payload or false, record or false, id, …}; a job comes with
-- its record and without its payload.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[5])
local first_moment = tonumber(ARGV[6])
local head
if ARGV[7] == '1' then
  local served = redis.call('HGET', KEYS[3], 'served') or 0
  head = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', served, 'WITHSCORES', 'LIMIT', 0, most)
else
  head = redis.call('ZRANGE', KEYS[1], 0, most, 'WITHSCORES')
end
local due, next_due = {}, -1
for i = 1, #head, 2 do
  local score = tonumber(head[i + 1])
  if score > now then
    next_due = score - now
    break
  end
  due[#due + 1] = head[i]
  due[#due + 1] = score
end
if #due > 2 * most then
  -- More waits than fits. Whatever has been deferred, or lost its worker, has waited long enough.
  local late = redis.call('ZRANGEBYSCORE', KEYS[1], first_moment, now, 'WITHSCORES', 'LIMIT', 0, most)
  local taken = {}
  for i = 1, #late, 2 do
    taken[#taken + 1] = late[i]
    taken[#taken + 1] = tonumber(late[i + 1])
  end
  for i = 1, #due, 2 do
    if #taken < 2 * most and due[i + 1] < first_moment then
      taken[#taken + 1] = due[i]
      taken[#taken + 1] = due[i + 1]
    end
  end
  due = taken
  next_due = 0
end

local reply, served = {next_due}, nil
for i = 1, #due, 2 do
  redis.call('SET', ARGV[1] .. due[i], ARGV[3], 'PX', ARGV[4])
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), due[i])
  reply[#reply + 1] = due[i]
  local record = ARGV[8] ~= '' and redis.call('HGET', ARGV[8] .. due[i], 'document')
  reply[#reply + 1] = not record and redis.call('GET', ARGV[2] .. due[i])
  reply[#reply + 1] = record
  if due[i + 1] < first_moment then served = due[i + 1] end
end
if served then redis.call('HSET', KEYS[3], 'served', served) end
-- All that is due is taken: tokens left are stale. A single task has most likely had a single one.
if next_due ~= 0 and #due ~= 2 and ARGV[7] ~= '1' then redis.call('DEL', KEYS[2], KEYS[4]) end
return reply
