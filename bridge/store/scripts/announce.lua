-- A node says that it lives, in full each time: a store that restarted empty learns about everybody again.
--
-- KEYS  node:{node id}
-- ARGV  prefix, node id, incarnation, generation (0: the first time), lease in ms, facts
-- Gives the store's UTC ms, the generation, the incarnation that holds the name now, until when nobody may be taken for
-- dead (UTC ms; 0: no such time), and per node its id, incarnation, last renewal, lease and facts
--
-- A generation is the store's time at an incarnation's first announcement: the newer incarnation of a name wins, and
-- the older one, should it wake, learns of it. The record outlives its lease, because only who compares it with the
-- others' can tell a dead node from a store that was away; a name unheard for a day is forgotten.
--
-- Quiet time: where nobody at all has renewed for half a lease it was the store that was away, or slow, and every lease
-- has lapsed with it. Then all are given two leases to speak before anybody is taken for dead.

local FORGET_MS = 86400000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local generation, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local stored = redis.call('HMGET', KEYS[1], 'incarnation', 'generation')
local stored_generation = tonumber(stored[2])
local nodes, quiet = ARGV[1] .. ':nodes', ARGV[1] .. ':quiet'

if stored_generation and stored[1] == ARGV[3] then
  generation = stored_generation
elseif generation == 0 then
  generation = math.max(now, (stored_generation or 0) + 1)
elseif stored_generation and stored_generation >= generation then
  return { now, stored_generation, stored[1], 0 }
end

local latest = redis.call('ZREVRANGE', nodes, 0, 0, 'WITHSCORES')
if latest[2] and now - tonumber(latest[2]) > lease / 2 then
  redis.call('SET', quiet, now + 2 * lease, 'PX', 2 * lease)
end
redis.call(
  'HSET', KEYS[1], 'incarnation', ARGV[3], 'generation', generation, 'renewed', now, 'lease', ARGV[5], 'facts', ARGV[6]
)
redis.call('PEXPIRE', KEYS[1], FORGET_MS)
redis.call('ZADD', nodes, now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now - FORGET_MS)

local answer = { now, generation, ARGV[3], tonumber(redis.call('GET', quiet) or 0) }
for _, id in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  local known = redis.call('HMGET', ARGV[1] .. ':node:' .. id, 'incarnation', 'renewed', 'lease', 'facts')
  if known[1] then
    answer[#answer + 1] = { id, known[1], tonumber(known[2]), tonumber(known[3]), known[4] }
  end
end
return answer
