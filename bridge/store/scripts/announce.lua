-- A node says that it lives, in full each time: a store that restarted empty learns about everybody again.
--
-- KEYS  node:{node id}
-- ARGV  prefix, node id, incarnation, generation (0: the first time), lease in ms, facts
-- Gives the store's UTC ms, the generation, and the incarnation that holds the name now
--
-- A generation is the store's time at an incarnation's first announcement: the newer incarnation of a name wins, and
-- the older one, should it wake, learns of it. The record outlives its lease, because only who compares it with the
-- others' can tell a dead node from a store that was away; a name unheard for a day is forgotten.

local FORGET_MS = 86400000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local generation = tonumber(ARGV[4])
local stored = redis.call('HMGET', KEYS[1], 'incarnation', 'generation')
local stored_generation = tonumber(stored[2])

if stored_generation and stored[1] == ARGV[3] then
  generation = stored_generation
elseif generation == 0 then
  generation = math.max(now, (stored_generation or 0) + 1)
elseif stored_generation and stored_generation >= generation then
  return { now, stored_generation, stored[1] }
end

redis.call(
  'HSET', KEYS[1], 'incarnation', ARGV[3], 'generation', generation, 'renewed', now, 'lease', ARGV[5], 'facts', ARGV[6]
)
redis.call('PEXPIRE', KEYS[1], FORGET_MS)
redis.call('ZADD', ARGV[1] .. ':nodes', now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', ARGV[1] .. ':nodes', '-inf', now - FORGET_MS)
return { now, generation, ARGV[3] }
