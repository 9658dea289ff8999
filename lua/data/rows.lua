-- SPDX-License-Identifier: MIT
-- data.open, data.image_folder: samples that stay in files until somebody asks for them.
local native = require "nablua.native"
local nb = require "nablua.core"
local images = require "nablua.data.images"
local options = require "nablua.options"
local registry = require "nablua.registry"

local rows = {}

local Rows = {}  -- methods
local handle_of = setmetatable({}, { __mode = "k" })

-- What C calls it; an error where it is closed.
function rows.handle(self)
  return handle_of[self] or native.raise("rows: the file is closed")
end

local function places_of(self, index)
  if not nb.is_tensor(index) or index:dim() ~= 1 then
    native.raise("rows: takes a vector of numbers of rows, got " .. options.describe(index))
  end
  return native.rows_read(rows.handle(self), nb.no_grad(function() return index:to("i64"):contiguous() end))
end

local row_meta = { __name = "rows", methods = Rows }
function row_meta.__len(self) return self.shape[1] end
function row_meta.__tostring(self)
  return ("%s: %s of shape %s, read row by row"):format(self.path, self.dtype, options.shape(self.shape))
end
function row_meta.__close(self)
  if handle_of[self] then native.rows_close(handle_of[self]) end
  handle_of[self] = nil
end
-- file[i], and file[{{first, last}}] or file[{{first, last, step}}].
local function row_index(self, key)
  if Rows[key] then return Rows[key] end
  local n = rawget(self, "shape")[1]
  if math.type(key) == "integer" then
    if key < 0 then key = n + 1 + key end
    return places_of(self, nb.tensor({ key }, { dtype = "i64" })):squeeze(1)
  end
  local range = type(key) == "table" and key[1]
  local first, last = table.unpack(type(range) == "table" and #key == 1 and range or {}, 1, 2)
  if math.type(first) == "integer" and math.type(last) == "integer" then
    if first < 0 then first = n + 1 + first end
    if last < 0 then last = n + 1 + last end
    return places_of(self, nb.arange(first, last, range[3] or 1, { dtype = "i64" }))
  end
  return nil
end
row_meta.__index = row_index

function rows.is_rows(t)
  return getmetatable(t) == row_meta
end

local function new(handle, self)
  handle_of[self] = handle
  return setmetatable(self, row_meta)
end

function rows.define(define)
  Rows.rows = registry.add {
    name = "rows:rows", kind = "method", family = "Sets of samples", signature = "rows:rows(index)",
    doc = "Reads the rows at the places of a vector from a file opened by data.open, or pictures of " ..
      "data.image_folder; counted from 1, in any order.",
    example = "pcall(data.open, \"no such file\")  --> false", value = places_of,
    see = { "data.open", "data.image_folder" },
  }

  define("open", {
    doc = "Opens an npy (in C order) or IDX file, of any size, without reading it: file[i] and " ..
      "file[{{first, last}}] read rows, file:rows(index) those of a vector, #file and file.shape say how many " ..
      "there are.  data.loader takes batches from it, and only those are in memory.",
    params = { { name = "path", type = "string" } },
    see = { "data.loader", "data.image_folder", "nb.load" }, example = [[
local path = os.tmpname() .. ".npy"
nb.save(path, nb.arange(6):view(3, 2))
local file = data.open(path)
os.remove(path)
return file[2]  --> {3, 4}]],
    function(o)
      local handle, dtype, shape = native.rows_open(o.path)
      return new(handle, { path = o.path, dtype = dtype, shape = shape })
    end,
  })

  define("image_folder", {
    doc = "The pictures of a folder, or of a list of paths, as data.images has them, without reading them: set[i] " ..
      "and set[{{first, last}}] decode some, and data.loader{set, set.y} does it in its threads beside the step.  " ..
      "Where they lie in folders of their own, the folders' names are set.classes, and set.y tells them; set.paths " ..
      "are the files.  Without size= and channels= all are as the first one.",
    params = images.params,
    see = { "data.loader", "data.images", "data.transforms.Compose" },
    example = "pcall(data.image_folder, \"no such folder\")  --> false",
    function(o, where)
      local paths, labels, classes = images.find(where, o.folder)
      local size = o.size or { 0, 0 }
      local handle, dtype, shape = native.pictures_open(paths, o.channels or 0, size[1], size[2])
      return new(handle, { path = type(o.folder) == "string" and o.folder or paths[1] .. " and others", dtype = dtype,
        shape = shape, y = labels and nb.tensor(labels, { dtype = "i64" }), classes = classes, paths = paths })
    end,
  })
end

return rows
