-- A user or a trunk is made, changed or taken away, and every node will learn of it by the revision.
--
-- KEYS  {kind}:{name}
-- ARGV  prefix, kind, name, record (empty: there shall be none)
-- Gives 1 if there was one before, else 0

local existed = redis.call('EXISTS', KEYS[1])
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[1], ARGV[4])
elseif existed == 1 then
  redis.call('DEL', KEYS[1])
else
  return 0
end
local names = ARGV[1] .. ':' .. ARGV[2] .. 's'
local revision = redis.call('INCR', names .. '-revision')
redis.call('ZADD', names, revision, ARGV[3])
return existed
