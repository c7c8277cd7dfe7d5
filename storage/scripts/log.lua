-- Read a stretch of a tenant's deliveries, of several statuses at one moment, and choose among them.
--
-- KEYS  the indexes
-- ARGV  1 from (µs)  2 to (µs)  3 the newest first (1 or 0)  4 most of each to find  5 most of each to look at
--       6 created (µs)  7 id of the entry to go on behind, or empty  then what an entry must hold
-- Returns for each index how many entries were looked at; the last of them and when it was created, or false twice
-- when it was the last of all; and the entries found, each followed by when it was created.

local CHUNK = 200
local newest_first = ARGV[3] == '1'
local command = newest_first and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
local from, to = ARGV[newest_first and 2 or 1], ARGV[newest_first and 1 or 2]
local find, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local place = tonumber(ARGV[6])

-- Say whether the page before this one ended with an entry, or behind it: several are of one moment.
local function is_passed(entry, created)
  if tonumber(created) ~= place then return false end
  local id = string.match(entry, '^%S+')
  if newest_first then return id >= ARGV[7] end
  return id <= ARGV[7]
end

local function is_wanted(entry)
  for at = 8, #ARGV do
    if not string.find(entry, ARGV[at], 1, true) then return false end
  end
  return true
end

local function read(index)
  local found, looked, offset, passing = {}, 0, 0, place ~= nil
  while true do
    local entries = redis.call(command, index, from, to, 'LIMIT', offset, CHUNK)
    for _, entry in ipairs(entries) do
      passing = passing and is_passed(entry, redis.call('ZSCORE', index, entry))
      if not passing then
        looked = looked + 1
        if is_wanted(entry) then
          found[#found + 1] = entry
          found[#found + 1] = redis.call('ZSCORE', index, entry)
        end
        if looked == most or #found == 2 * find then
          return {looked, entry, redis.call('ZSCORE', index, entry), found}
        end
      end
    end
    if #entries < CHUNK then return {looked, false, false, found} end
    offset = offset + CHUNK
  end
end

local stretch = {}
for at, index in ipairs(KEYS) do stretch[at] = read(index) end
return stretch
