-- Write a tenant's record over the version that was read, and owe what is told of it.
--
-- KEYS  1 the tenant's endpoints  2 public keys  3 counts  4 flows  then what `owe` takes
-- ARGV  1 field  2 version read, or empty for a new one  3 document, or empty to remove it  4 most endpoints
--       5 public keys, or empty  6 field of the generation beside the flows, or empty when nothing changes in
--       who is told of what  then what `owe` takes
-- Returns 1 when written, or when exactly this was written before; 0 when somebody else wrote first; -1 when
-- there are as many as there may be.

local document = redis.call('HGET', KEYS[1], ARGV[1])
if (document or '') == ARGV[3] then return 1 end
local version = document and tostring(cjson.decode(document).version or 0) or ''
if version ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2], KEYS[3])
else
  local others = redis.call('HEXISTS', KEYS[1], 'generation') + redis.call('HEXISTS', KEYS[1], 'own')
  if ARGV[2] == '' and redis.call('HLEN', KEYS[1]) - others >= tonumber(ARGV[4]) then return -1 end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5]) end
end
if ARGV[6] ~= '' then  -- beside the flows, whoever adds a job reads it without asking for it
  redis.call('HSET', KEYS[4], ARGV[6], redis.call('HINCRBY', KEYS[1], 'generation', 1))
end
if #ARGV > 6 then owe(nil, 5, 7) end
return 1
