-- Takes over one conversation of another incarnation of the same node, or of a dead node, one epoch higher. Needs dead.lua
-- before it.
--
-- KEYS  conv:{c}
-- ARGV  prefix, conversation, node id, incarnation, nonce, node id of whose it is, the versions that the claimer reads, each
--       between commas (empty: whatever there is)
-- Gives false when there is nothing to take; its version, when it could be taken and that is not among them; else: the
--       conversation's fields, and per call its id and its `out` fields
--
-- Repeated with the same nonce (its answer was lost) it takes nothing more and gives the same again. The new index is
-- written before the fence and the old one after it: broken off anywhere and repeated, it leaves no conversation unlisted.

local prefix, conversation, node, incarnation, nonce, from = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'owner', 'released', 'head')
local reads, written = ARGV[7], string.match(stored[5] or '', '"v":(%d+)')
local owner = node .. ':' .. incarnation
local owner_before = stored[3] and string.match(stored[3], '^(.*):')

if stored[3] == owner and stored[2] == nonce and not stored[4] then
  redis.call('HDEL', prefix .. ':owned:' .. from, from ~= node and conversation or '')
elseif not stored[1] or stored[4] or owner_before ~= from then
  redis.call('HDEL', prefix .. ':owned:' .. from, conversation)
  return false
elseif stored[3] == owner or not may_take(prefix, from, node) then
  return false
elseif reads ~= '' and written and not string.find(reads, ',' .. written .. ',', 1, true) then
  return tonumber(written)
else
  redis.call('HSET', prefix .. ':owned:' .. node, conversation, incarnation)
  redis.call('HSET', KEYS[1], 'epoch', tonumber(stored[1]) + 1, 'nonce', nonce, 'owner', owner)
  if from ~= node then
    redis.call('HDEL', prefix .. ':owned:' .. from, conversation)
  end
end

local fields = redis.call('HGETALL', KEYS[1])
local answer = { fields }
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 'i:' then
    local call = string.sub(fields[i], 3)
    answer[#answer + 1] = { call, redis.call('HGETALL', prefix .. ':out:' .. call) }
  end
end
return answer
