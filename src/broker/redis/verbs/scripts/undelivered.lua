-- ARGV: prefix, events to keep, session or node and `#`, then per message three: client, why, id of the message. Behind
-- `event`.
keep_events(tonumber(ARGV[2]), ARGV[3])
for i = 4, #ARGV, 3 do event('undelivered', nil, '', ARGV[i + 1], ARGV[i] .. ' ' .. ARGV[i + 2]) end
append_events()
return 1
