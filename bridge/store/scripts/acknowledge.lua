-- Deliveries settled, of any calls. Needs cursor.lua before it.
-- KEYS  due
-- ARGV  prefix, and then, flat: call, endpoint, sequence

for i = 2, #ARGV, 3 do
  settle(ARGV[1], ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return 1
