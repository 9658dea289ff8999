-- SPDX-License-Identifier: MIT
-- A folder of a test's own: its files written and read as bytes, and removed afterwards.
local scratch = {}
scratch.__index = scratch

function scratch.new()
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute("mkdir " .. folder))
  return setmetatable({ folder = folder }, scratch)
end

function scratch:path(name)
  return self.folder .. "/" .. name
end

function scratch:write(name, bytes)
  local f <close> = assert(io.open(self:path(name), "wb"))
  assert(f:write(bytes))
  return self:path(name)
end

function scratch:read(name)
  local f <close> = assert(io.open(self:path(name), "rb"))
  return f:read("a")
end

-- The names of the files there are, hidden ones too.
function scratch:names()
  local list = {}
  local p <close> = assert(io.popen("ls -A " .. self.folder))
  for line in p:lines() do list[#list + 1] = line end
  return list
end

function scratch:remove()
  os.execute("chmod -R u+w " .. self.folder .. " && rm -r " .. self.folder)
end

-- The checksum of zip and PNG.
function scratch.crc32(bytes)
  local crc = 0xffffffff
  for i = 1, #bytes do
    crc = crc ~ bytes:byte(i)
    for _ = 1, 8 do crc = crc & 1 == 1 and (crc >> 1) ~ 0xedb88320 or crc >> 1 end
  end
  return crc ~ 0xffffffff
end

return scratch
