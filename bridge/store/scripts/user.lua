-- A user is made, changed or taken away, and every node will learn of it by the revision.
--
-- KEYS  user:{name}
-- ARGV  prefix, username, record (empty: there shall be none)
-- Gives 1 if there was one before, else 0

local existed = redis.call('EXISTS', KEYS[1])
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[1], ARGV[3])
elseif existed == 1 then
  redis.call('DEL', KEYS[1])
else
  return 0
end
local revision = redis.call('INCR', ARGV[1] .. ':users-revision')
redis.call('ZADD', ARGV[1] .. ':users', revision, ARGV[2])
return existed
