-- Takes calls whose records are gone out of the list of all calls, a few at a time.
--
-- KEYS  calls
-- ARGV  prefix, score to go on from (exclusive) or -inf, retention in ms, how many to look at
-- Gives the score to go on from next time, or -inf when the old part of the list is through
--
-- Calls that live longer than the retention stay where they are and are passed over.

local time = redis.call('TIME')
local old = tonumber(time[1]) * 1000 - tonumber(ARGV[3])
local seen = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], old, 'WITHSCORES', 'LIMIT', 0, ARGV[4])
for i = 1, #seen, 2 do
  if redis.call('EXISTS', ARGV[1] .. ':call:' .. seen[i]) == 0 then
    redis.call('ZREM', KEYS[1], seen[i])
  end
end
if #seen < 2 * tonumber(ARGV[4]) then
  return '-inf'
end
return '(' .. seen[#seen]
