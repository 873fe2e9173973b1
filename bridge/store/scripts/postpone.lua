-- Deliveries that failed and are due again.
-- KEYS  due
-- ARGV  prefix, and then, flat: call, endpoint, sequence, attempts, due in UTC ms
--
-- Sent twice, or overtaken by a newer one, it changes nothing: (sequence, attempts) never goes back.

local prefix = ARGV[1]
for i = 2, #ARGV, 5 do
  local call, endpoint = ARGV[i], ARGV[i + 1]
  local sequence, attempts = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local out = prefix .. ':out:' .. call
  local known = redis.call('HMGET', out, 'c:' .. endpoint, 'a:' .. endpoint)
  local newer = redis.call('EXISTS', out) == 1 and not (known[1] and tonumber(known[1]) >= sequence)
  if newer and known[2] then
    local stored, made = string.match(known[2], '^(%d+) (%d+)')
    stored, made = tonumber(stored), tonumber(made)
    newer = sequence > stored or (sequence == stored and attempts > made)
  end
  if newer then
    redis.call('HSET', out, 'a:' .. endpoint, ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. ' ' .. ARGV[i + 4])
    redis.call('ZADD', KEYS[1], ARGV[i + 4], call .. ' ' .. endpoint)
  end
end
return 1
