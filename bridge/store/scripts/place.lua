-- A call takes a place on a trunk, whose caps all nodes share.
--
-- KEYS  trunk-calls:{trunk}
-- ARGV  prefix, trunk, call, calls at once (0: any number), calls begun per second (0: any number), ms that a call may take until it is
--       stored, how many to look at, ms after which nothing is left of it
-- Gives 1, also to a call that has its place, or 0: there is none
--
-- Places that were never given back, because their node was killed, are found when there is none left: their calls are over.

if redis.call('ZSCORE', KEYS[1], ARGV[3]) then
  return 1
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most = tonumber(ARGV[4])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then
  local seen = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[6]), 'LIMIT', 0, ARGV[7])
  for _, call in ipairs(seen) do
    local held = redis.call('GET', ARGV[1] .. ':call:' .. call)
    if not held or string.sub(held, 1, 1) == '{' then
      redis.call('ZREM', KEYS[1], call)
    else
      redis.call('ZADD', KEYS[1], now, call)
    end
  end
  if redis.call('ZCARD', KEYS[1]) >= most then
    return 0
  end
end
local rate = tonumber(ARGV[5])
if rate > 0 then
  local second = ARGV[1] .. ':trunk-rate:' .. ARGV[2] .. ':' .. time[1]
  if redis.call('INCR', second) > rate then
    redis.call('PEXPIRE', second, 2000)
    return 0
  end
  redis.call('PEXPIRE', second, 2000)
end
if most > 0 then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
end
return 1
