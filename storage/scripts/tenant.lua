-- Write a tenant over the document that was read, with what the scripts of jobs must know of it; one that is
-- removed is put on the list of those whose things go away.
--
-- KEYS  1 tenants  2 seats  3 removals
-- ARGV  1 id  2 document read, empty when there was none  3 document  4 jobs that may run, or empty
--       5 removed (1 or 0)
-- Returns 1 when written, 0 when somebody else wrote first.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[5] == '1' then redis.call('SADD', KEYS[3], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '' then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], ARGV[4])
end
return 1
