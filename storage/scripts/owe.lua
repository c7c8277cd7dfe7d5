-- Owe deliveries, in the step that brings the change which they tell of. Put after `lanes`, before such a script.
--
-- `told` is the hash that remembers the last delivery to each receiver, or nil where order means nothing: a
-- delivery whose predecessor has not let go is not queued, but named in it as the next.
--
-- KEYS from k:  queue  wake  pending index  skipped index  full lanes  then per delivery: record, payload
-- ARGV from a:  life (ms)  record prefix  lanes prefix  then per delivery: id, document, payload, lane, receiver,
--               created (µs), index entry, skipped (1 or 0)

local function owe(told, k, a)
  local now = moment()
  local hall = {queue = KEYS[k], wake = KEYS[k + 1], full = KEYS[k + 4], prefix = ARGV[a + 2]}
  local life, records = ARGV[a], ARGV[a + 1]
  local key = k + 5
  for at = a + 3, #ARGV, 8 do
    local id, document, payload, lane, receiver, created, entry, skipped = unpack(ARGV, at, at + 7)
    redis.call('HSET', KEYS[key], 'version', 0, 'document', document, 'lane', lane)
    redis.call('PEXPIRE', KEYS[key], life)
    local index = skipped == '1' and KEYS[k + 3] or KEYS[k + 2]
    redis.call('ZADD', index, created, entry)
    redis.call('ZREMRANGEBYSCORE', index, '-inf', created - life * 1000)  -- their records are gone
    if skipped == '1' then
      redis.call('HSET', KEYS[key], 'ended', 1, 'free', 1)
    else
      redis.call('SET', KEYS[key + 1], payload)
      local before = told and redis.call('HGET', told, 'told:' .. receiver)
      if told then redis.call('HSET', told, 'told:' .. receiver, id) end
      if before and holds_up(records .. before) then
        redis.call('HSET', records .. before, 'next', id)
      else
        push(hall, lane, id, now)
      end
    end
    key = key + 2
  end
end
