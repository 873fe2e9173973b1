-- Events of registrations that are settled everywhere. Needs cursor.lua before it.
--
-- KEYS  due
-- ARGV  prefix, number of streams, and then, flat:
--       address of record, node id, incarnation, first sequence, last sequence, number of cursors, those: endpoint, sequence
--
-- A stream with events that are not settled stays in its owner's index.

local prefix = ARGV[1]
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  local aor, node, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 5])
  local owner = node .. ':' .. ARGV[at + 2]
  local stream = 'aor:' .. aor
  local out = prefix .. ':out:' .. stream
  for i = at + 6, at + 5 + 2 * count, 2 do
    settle(prefix, stream, ARGV[i], ARGV[i + 1])
  end
  for sequence = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]) do
    redis.call('HDEL', out, 'e:' .. sequence)
  end
  local known = redis.call('HMGET', prefix .. ':reg:' .. aor, 'owner', 'sequence')
  if known[1] == owner and known[2] == ARGV[at + 4] then
    redis.call('HDEL', prefix .. ':streams:' .. node, aor)
  end
  at = at + 6 + 2 * count
end
return 1
