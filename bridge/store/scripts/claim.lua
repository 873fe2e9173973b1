-- Takes over one conversation of another incarnation of the same node, one epoch higher.
--
-- KEYS  conv:{c}
-- ARGV  prefix, conversation, node id, incarnation, nonce
-- Gives false when there is nothing to take, else: the conversation's fields, and per call its id and its `out` fields
--
-- Repeated with the same nonce (its answer was lost) it takes nothing more and gives the same again.

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'owner', 'released')
local owner = ARGV[3] .. ':' .. ARGV[4]
local owned = ARGV[1] .. ':owned:' .. ARGV[3]

if not stored[1] or stored[4] or string.match(stored[3], '^(.*):') ~= ARGV[3] then
  redis.call('HDEL', owned, ARGV[2])
  return false
elseif stored[3] ~= owner then
  redis.call('HSET', KEYS[1], 'epoch', tonumber(stored[1]) + 1, 'nonce', ARGV[5], 'owner', owner)
  redis.call('HSET', owned, ARGV[2], ARGV[4])
elseif stored[2] ~= ARGV[5] then
  return false
end

local fields = redis.call('HGETALL', KEYS[1])
local answer = { fields }
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 'i:' then
    local call = string.sub(fields[i], 3)
    answer[#answer + 1] = { call, redis.call('HGETALL', ARGV[1] .. ':out:' .. call) }
  end
end
return answer
