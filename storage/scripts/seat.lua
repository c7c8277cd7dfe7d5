-- Seat jobs that stand although there are seats, as after a limit was raised.
--
-- KEYS  1 seats  2 taken  3 standing  4 all standing  5 queue  6 flows  7 wake  8 timely wake
-- ARGV  1 job prefix  2 most
-- Returns how many were seated.

return seat(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], ARGV[1],
  tonumber(ARGV[2]))
