-- Behind a script that is the function `run`: what it has told is appended also if it fails half-way, as what it has done stays done.
local ran = {pcall(run)}
append_events()
if not ran[1] then error(ran[2], 0) end
return ran[2]
