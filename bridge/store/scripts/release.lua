-- Conversations whose calls have all ended and whose events are all settled: the live record goes; the final records,
-- the events and the fence stay for the retention, so that a late write finds a tombstone. Needs cursor.lua before it.
--
-- KEYS  due
-- ARGV  prefix, retention in ms, number of conversations, number of acks, and then, flat:
--       call, endpoint, sequence · conversation, node id, incarnation, number of its calls, those calls

local prefix, retention = ARGV[1], ARGV[2]
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  settle(prefix, ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end

for _ = 1, tonumber(ARGV[3]) do
  local conversation, node, incarnation, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local key = prefix .. ':conv:' .. conversation
  local owner = redis.call('HGET', key, 'owner')
  if not owner or owner == node .. ':' .. incarnation then
    local calls = {}
    for i = at + 4, at + 3 + count do
      local call = ARGV[i]
      calls[#calls + 1] = call
      if owner then
        redis.call('HDEL', key, 'i:' .. call, 'v:' .. call)
      end
      redis.call('PEXPIRE', prefix .. ':call:' .. call, retention)
      redis.call('PEXPIRE', prefix .. ':out:' .. call, retention)
    end
    if owner then
      redis.call('HSET', key, 'released', table.concat(calls, ' '))
      redis.call('PEXPIRE', key, retention)
    end
    redis.call('HDEL', prefix .. ':owned:' .. node, conversation)
  end
  at = at + 4 + count
end
return 1
