-- Put before the scripts that take from a node.

-- Whether `by` may take over what `node` has: an incarnation of the same name always; another node only when that one's
-- lease has lapsed while others renewed theirs.
local function may_take(prefix, node, by)
  if node == by then
    return true
  end
  if redis.call('EXISTS', prefix .. ':quiet') == 1 then
    return false
  end
  local known = redis.call('HMGET', prefix .. ':node:' .. node, 'renewed', 'lease')
  if not known[1] then
    return true
  end
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  return now - tonumber(known[1]) > tonumber(known[2])
end
