-- Takes over the undelivered events of one registration from another incarnation of the same node.
--
-- KEYS  reg:{aor}
-- ARGV  prefix, address of record, node id, incarnation
-- Gives false when there is nothing to take, else the fields of `out`
--
-- Asked again it gives the same again.

local owner = redis.call('HGET', KEYS[1], 'owner')
local index = ARGV[1] .. ':streams:' .. ARGV[3]
if not owner or string.match(owner, '^(.*):') ~= ARGV[3] then
  redis.call('HDEL', index, ARGV[2])
  return false
end
if redis.call('HEXISTS', index, ARGV[2]) == 0 then
  return false -- settled and forgotten since the index was read
end
redis.call('HSET', KEYS[1], 'owner', ARGV[3] .. ':' .. ARGV[4])
redis.call('HSET', index, ARGV[2], ARGV[4])
return redis.call('HGETALL', ARGV[1] .. ':out:aor:' .. ARGV[2])
