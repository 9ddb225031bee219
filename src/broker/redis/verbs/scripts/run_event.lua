-- Behind a script that is the function `run`: what it has told is appended also if it fails half-way, as what it has done stays done.
local ran = {pcall(run)}
append_events()
if not ran[1] then
  local failed = ran[2]
  if type(failed) == 'table' then return failed end
  -- Redis 7 says here what a command was refused with, as text; thrown once more it would get `ERR` in front of its code.
  if string.find(failed, '^%u+ ') then return redis.error_reply(failed) end
  error(failed, 0)
end
return ran[2]
