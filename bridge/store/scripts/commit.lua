-- One fenced, idempotent write of one conversation (survival.md §1). Needs cursor.lua before it.
--
-- KEYS  conv:{c}
-- ARGV  prefix, conversation, epoch, nonce, version, node id, incarnation, whole (0 or 1), retention in ms, head,
--       number of calls, events, acks, endings, claims (0 or 1), takes, and then those, flat:
--       call, created in ms, fixed, variable (empty: unchanged) · call, sequence, body · call, endpoint, sequence ·
--       call, record · key, fingerprint, call, answer, how long that is kept in ms ·
--       conversation, epoch, nonce, version, head, number of its calls, those calls
-- Gives 1 applied, now or before · -1 lost · -2 stale · -3 exists · or, when the key has been claimed for another call:
--       fingerprint, call, status, answer
--
-- A take is fenced as the next write of the conversation whose calls it takes. The full record needs none.
-- The fence is written last: a script that breaks off halfway is repeated as a whole, and every write in it may be.
-- Nonces are lower-case letters and digits, which every locale sorts as bytes do.

local APPLIED, LOST, STALE, EXISTS = 1, -1, -2, -3

local prefix, conversation = ARGV[1], ARGV[2]
local epoch, nonce, version = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local owner = ARGV[6] .. ':' .. ARGV[7]
local whole = ARGV[8] == '1'
local creates = version == 1 and not whole
local calls = 17
local events = calls + 4 * tonumber(ARGV[11])
local acks = events + 3 * tonumber(ARGV[12])
local endings = acks + 3 * tonumber(ARGV[13])
local claims = endings + 2 * tonumber(ARGV[14])
local takes = claims + 5 * tonumber(ARGV[15])

-- A delivery is settled whoever owns the conversation.
local function settle_all()
  for i = acks, endings - 1, 3 do
    settle(prefix, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  end
end

local function refuse(why)
  settle_all()
  return why
end

local function holder(call)
  return redis.call('GET', prefix .. ':call:' .. call)
end

local function is_final(held)
  return held and string.byte(held) == 123 -- '{': the final record, which is the tombstone too
end

local function ends_here(call)
  for i = endings, claims - 1, 2 do
    if ARGV[i] == call then
      return true
    end
  end
  return false
end

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'version', 'owner', 'released')
local stored_epoch, stored_nonce = tonumber(stored[1]), stored[2]

if stored_epoch == epoch and stored_nonce == nonce then
  if tonumber(stored[3]) >= version then
    return refuse(APPLIED)
  elseif stored[5] then
    return refuse(LOST)
  elseif not whole and tonumber(stored[3]) ~= version - 1 then
    return refuse(STALE)
  end
elseif stored_epoch then
  if creates and stored_epoch == epoch then
    return refuse(EXISTS)
  elseif stored[5] or stored_epoch > epoch or (stored_epoch == epoch and stored_nonce > nonce) then
    return refuse(LOST)
  elseif not whole then
    return refuse(STALE)
  end
elseif not creates and not whole then
  for i = calls, events - 1, 4 do
    if is_final(holder(ARGV[i])) then
      return refuse(LOST)
    end
  end
  for i = endings, claims - 1, 2 do
    if is_final(holder(ARGV[i])) then
      return refuse(LOST)
    end
  end
  return refuse(STALE)
end

-- What is taken has to be ours as we know it, or taken already, by a script that broke off halfway.
local moves = {} -- each: which conversation, the calls that leave it, its head and version where they change
local taken = {} -- call -> the conversation it leaves
local versions = {} -- of those conversations, as far as we have come
local at = takes
for _ = 1, whole and 0 or tonumber(ARGV[16]) do
  local from, from_epoch, from_nonce, from_version = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  local known = redis.call('HMGET', prefix .. ':conv:' .. from, 'epoch', 'nonce', 'version', 'owner')
  local known_epoch = tonumber(known[1])
  if not known_epoch then
    return refuse(STALE)
  elseif known[4] ~= owner and (known_epoch > from_epoch or (known_epoch == from_epoch and known[2] >= from_nonce)) then
    return refuse(LOST)
  end
  local missing = from_version - (versions[from] or tonumber(known[3]))
  if known_epoch ~= from_epoch or known[2] ~= from_nonce or missing > 1 then
    return refuse(STALE)
  end
  local move = { from = from, calls = {} }
  if missing == 1 then
    versions[from] = from_version
    move.head, move.version = ARGV[at + 4], ARGV[at + 3]
  end
  for i = at + 6, at + 5 + tonumber(ARGV[at + 5]) do
    move.calls[#move.calls + 1] = ARGV[i]
    taken[ARGV[i]] = from
  end
  moves[#moves + 1] = move
  at = at + 6 + tonumber(ARGV[at + 5])
end

-- Calls that come with their fixed part are new to the store, or it was older than us, or they are taken: nobody else's
-- is, and nothing that has ended is resurrected. An older store has a call where it was before it moved: the full record
-- takes it from any conversation of ours, and leaves that one's fence alone, for our next write there to tell the rest.
local held = {}
for i = calls, events - 1, 4 do
  if ARGV[i + 2] ~= '' then
    local call = ARGV[i]
    held[call] = holder(call)
    if held[call] and held[call] ~= conversation and held[call] ~= taken[call] then
      local own
      if is_final(held[call]) then
        own = whole and (stored[4] == owner or ends_here(call))
      elseif whole and redis.call('HGET', prefix .. ':conv:' .. held[call], 'owner') == owner then
        own = true
        taken[call] = held[call]
        moves[#moves + 1] = { from = held[call], calls = { call } }
      end
      if not own then
        return refuse(whole and LOST or EXISTS)
      end
    end
  end
end

if claims < takes then
  local claim = prefix .. ':idem:' .. ARGV[claims]
  local known = redis.call('HMGET', claim, 'fingerprint', 'call', 'status', 'answer')
  if not known[1] then
    redis.call(
      'HSET', claim, 'fingerprint', ARGV[claims + 1], 'call', ARGV[claims + 2], 'status', 201, 'answer', ARGV[claims + 3]
    )
    redis.call('PEXPIRE', claim, ARGV[claims + 4])
  elseif known[2] ~= ARGV[claims + 2] and not whole then -- a call that is told anew lives, whoever has the key now
    return refuse(known)
  end
end

for i = events, acks - 1, 3 do
  redis.call('HSET', prefix .. ':out:' .. ARGV[i], 'e:' .. ARGV[i + 1], ARGV[i + 2])
end
settle_all()

if whole then
  redis.call('DEL', KEYS[1])
  local previous = stored[4] and string.match(stored[4], '^(.*):')
  if previous and previous ~= ARGV[6] then
    redis.call('HDEL', prefix .. ':owned:' .. previous, conversation)
  end
end

local fields = {}
for i = calls, events - 1, 4 do
  local call, fixed, variable = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  if fixed ~= '' then
    fields[#fields + 1] = 'i:' .. call
    fields[#fields + 1] = fixed
    if not held[call] or held[call] == taken[call] then
      redis.call('SET', prefix .. ':call:' .. call, conversation)
    end
    redis.call('ZADD', prefix .. ':calls', ARGV[i + 1], call)
  end
  if variable ~= '' then
    fields[#fields + 1] = 'v:' .. call
    fields[#fields + 1] = variable
  end
  if #fields > 1000 then -- what Lua unpacks at once is bounded
    redis.call('HSET', KEYS[1], unpack(fields))
    fields = {}
  end
end

for i = endings, claims - 1, 2 do
  redis.call('SET', prefix .. ':call:' .. ARGV[i], ARGV[i + 1], 'PX', ARGV[9])
end

-- Where nothing that lives is left it is said where that went, and where nothing at all is left the record is released.
for _, move in ipairs(moves) do
  local from = prefix .. ':conv:' .. move.from
  for _, call in ipairs(move.calls) do
    redis.call('HDEL', from, 'i:' .. call, 'v:' .. call)
  end
  local left, lives = false, false
  for _, field in ipairs(redis.call('HKEYS', from)) do
    if string.sub(field, 1, 2) == 'i:' then
      left = true
      lives = lives or not is_final(holder(string.sub(field, 3)))
    end
  end
  if not lives then
    redis.call('HSET', from, 'merged_into', conversation)
  end
  if not left then
    redis.call('HSETNX', from, 'released', '')
    redis.call('PEXPIRE', from, ARGV[9])
    redis.call('HDEL', prefix .. ':owned:' .. ARGV[6], move.from)
  end
  if move.version then
    redis.call('HSET', from, 'head', move.head, 'version', move.version)
  end
end

if creates or whole then
  redis.call('HSET', prefix .. ':owned:' .. ARGV[6], conversation, ARGV[7])
end

local n = #fields
fields[n + 1], fields[n + 2] = 'head', ARGV[10]
fields[n + 3], fields[n + 4] = 'epoch', ARGV[3]
fields[n + 5], fields[n + 6] = 'nonce', nonce
fields[n + 7], fields[n + 8] = 'owner', owner
fields[n + 9], fields[n + 10] = 'version', ARGV[5]
redis.call('HSET', KEYS[1], unpack(fields))
return APPLIED
