-- Takes over the undelivered events of one registration from another incarnation of the same node, or from a dead node.
-- Needs dead.lua before it.
--
-- KEYS  reg:{aor}
-- ARGV  prefix, address of record, node id, incarnation, node id of whose it is
-- Gives false when there is nothing to take, else the fields of `out`
--
-- Asked again it gives the same again.

local prefix, aor, node, from = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local me = node .. ':' .. ARGV[4]
local owner = redis.call('HGET', KEYS[1], 'owner')
local index = prefix .. ':streams:' .. from
local own_index = prefix .. ':streams:' .. node

if owner == me and from ~= node then
  -- Taken already, and the answer was lost; or ours by a newer write, and then it is known here.
  redis.call('HDEL', index, aor)
elseif not owner or string.match(owner, '^(.*):') ~= from then
  redis.call('HDEL', index, aor)
  return false
elseif redis.call('HEXISTS', index, aor) == 0 then
  return false -- settled and forgotten since the index was read
elseif not may_take(prefix, from, node) then
  return false
else
  redis.call('HSET', own_index, aor, ARGV[4]) -- before the fence: broken off and repeated, it leaves no stream unlisted
  redis.call('HSET', KEYS[1], 'owner', me)
  if from ~= node then
    redis.call('HDEL', index, aor)
  end
end
return redis.call('HGETALL', prefix .. ':out:aor:' .. aor)
