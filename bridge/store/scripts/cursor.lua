-- Shared by the scripts that settle deliveries, and put before them.

-- Everything up to `sequence` of this call is settled at this endpoint. A cursor never goes back. A call that the store
-- does not know is left alone: nobody would ever release what was made for it.
local function settle(prefix, call, endpoint, sequence)
  local out = prefix .. ':out:' .. call
  local known = redis.call('HMGET', out, 'c:' .. endpoint, 'a:' .. endpoint)
  if known[1] then
    if tonumber(known[1]) >= tonumber(sequence) then
      return
    end
  elseif redis.call('EXISTS', out) == 0 then
    return
  end
  redis.call('HSET', out, 'c:' .. endpoint, sequence)
  if known[2] and tonumber(string.match(known[2], '^%d+')) <= tonumber(sequence) then
    redis.call('HDEL', out, 'a:' .. endpoint)
    redis.call('ZREM', prefix .. ':due', call .. ' ' .. endpoint)
  end
end
