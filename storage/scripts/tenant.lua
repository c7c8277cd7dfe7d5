-- Write a tenant over the document that was read, with what the scripts of jobs must know of it.
--
-- KEYS  1 tenants  2 seats
-- ARGV  1 id  2 document read, empty when there was none  3 document  4 jobs that may run, or empty
-- Returns 1 when written, 0 when somebody else wrote first.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '' then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], ARGV[4])
end
return 1
