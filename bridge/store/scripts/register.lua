-- One registration, written if the store has the version that the writer has seen.
--
-- KEYS  reg:{aor}
-- ARGV  prefix, address of record, expected version, new version, name of the write, node id, incarnation,
--       sequence of the last event, bindings, first expiry in UTC ms (empty: no bindings), number of events, and then
--       those, flat: sequence, body
-- Gives { 1 } applied, now or before · { 1, fields of `out` } if events were left by another owner ·
--       { 0, version, sequence, bindings } where the store has another version
--
-- `write` stands with `version`: a write whose answer was lost is known again, and finds what the owner before it left.

-- An address of record without bindings is forgotten in 30 days, and its sequence begins anew after that.

local IDLE_MS = 2592000000
local prefix, aor, owner = ARGV[1], ARGV[2], ARGV[6] .. ':' .. ARGV[7]
local out = prefix .. ':out:aor:' .. aor
local stored = redis.call('HMGET', KEYS[1], 'version', 'write', 'sequence', 'bindings', 'owner', 'heir_of')
local previous = stored[5]

local function left()
  if previous and previous ~= '' and previous ~= owner then
    local fields = redis.call('HGETALL', out)
    if #fields > 0 then
      return { 1, fields }
    end
  end
  return { 1 }
end

if stored[2] == ARGV[5] then
  previous = stored[6]
  return left()
elseif tonumber(stored[1] or '0') ~= tonumber(ARGV[3]) then
  return { 0, tonumber(stored[1] or '0'), tonumber(stored[3] or '0'), stored[4] or '' }
end

local answer = left()
for i = 12, 11 + 2 * tonumber(ARGV[11]), 2 do
  redis.call('HSET', out, 'e:' .. ARGV[i], ARGV[i + 1])
end
local node = previous and string.match(previous, '^(.*):')
if #answer > 1 or ARGV[11] ~= '0' then
  redis.call('HSET', prefix .. ':streams:' .. ARGV[6], aor, ARGV[7])
end
if node and node ~= ARGV[6] then
  redis.call('HDEL', prefix .. ':streams:' .. node, aor)
end
if ARGV[10] == '' then
  redis.call('ZREM', prefix .. ':reg-expiry', aor)
  redis.call('ZREM', prefix .. ':aors', aor)
else
  redis.call('ZADD', prefix .. ':reg-expiry', ARGV[10], aor)
  redis.call('ZADD', prefix .. ':aors', 0, aor)
end
redis.call(
  'HSET', KEYS[1], 'version', ARGV[4], 'write', ARGV[5], 'sequence', ARGV[8], 'bindings', ARGV[9],
  'owner', owner, 'heir_of', previous or ''
)
for _, key in ipairs({ KEYS[1], out }) do
  if ARGV[10] == '' then
    redis.call('PEXPIRE', key, IDLE_MS)
  else
    redis.call('PERSIST', key)
  end
end
return answer
