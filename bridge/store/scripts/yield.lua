-- The owner of one conversation hands it to another node, which claims it as its own, one epoch higher.
--
-- KEYS  conv:{c}
-- ARGV  prefix, conversation, node id, incarnation, epoch, version, and of the next owner: node id, incarnation, nonce
-- Gives 1 where it is the next owner's now, also when it was so already (the answer was lost); 0 where it is neither's, or
-- the next owner's name belongs to another incarnation by now, which would never hear of it

local stored = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'version', 'nonce', 'released')
local heir = ARGV[7] .. ':' .. ARGV[8]
if stored[1] == heir and stored[4] == ARGV[9] then
  return 1
elseif stored[1] ~= ARGV[3] .. ':' .. ARGV[4] or stored[2] ~= ARGV[5] or stored[3] ~= ARGV[6] or stored[5] then
  return 0
end
local incarnation = redis.call('HGET', ARGV[1] .. ':node:' .. ARGV[7], 'incarnation')
if incarnation and incarnation ~= ARGV[8] then
  return 0
end
-- The new index, the fence, the old index: broken off anywhere and repeated, it leaves no conversation unlisted. Until the
-- next owner has written a newer version its ports are still where they were: whoever claims it has to know that.
redis.call('HSET', ARGV[1] .. ':owned:' .. ARGV[7], ARGV[2], ARGV[8])
redis.call(
  'HSET', KEYS[1], 'owner', heir, 'epoch', tonumber(ARGV[5]) + 1, 'nonce', ARGV[9], 'handed', ARGV[6] .. ' ' .. ARGV[3]
)
if ARGV[3] ~= ARGV[7] then
  redis.call('HDEL', ARGV[1] .. ':owned:' .. ARGV[3], ARGV[2])
end
return 1
