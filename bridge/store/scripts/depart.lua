-- A node says that it lives no more: what it has not handed over is free for the others at once.
--
-- KEYS  node:{node id}
-- ARGV  incarnation

if redis.call('HGET', KEYS[1], 'incarnation') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'renewed', 0)
end
return 1
