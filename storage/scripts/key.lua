-- Write an API key over the document that was read.
--
-- KEYS  1 key  2 tenant's keys
-- ARGV  1 id  2 document read, empty when there was none  3 document
-- Returns 1 when written, 0 when somebody else wrote first.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
