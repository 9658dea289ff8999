-- SPDX-License-Identifier: MIT
-- data.image, data.images, data.resize: pictures as tensors, one or a folder of them.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"

local images = {}

local EXTENSIONS = { png = true, jpg = true, jpeg = true }

local channels = { name = "channels", choices = { 1, 2, 3, 4 }, optional = true,
  doc = "1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; as in the file if not given" }

images.params = { { name = "folder", type = "string or strings" }, channels,
  { name = "size", type = "two sizes", optional = true, doc = "{height, width} to resize each to" } }

-- ---- sizes ----

-- Weights of a triangle filter from n to m places, as wide as a place of the coarser of the two: an m × n matrix.
local function filter(n, m)
  local scale = n / m
  local support = math.max(scale, 1)
  local centers = ((nb.arange(m) - 0.5) * scale):unsqueeze(2)
  local places = (nb.arange(n) - 0.5):unsqueeze(1)
  local weights = nb.maximum(1 - (places - centers):abs() / support, 0)
  return weights / weights:sum(2, { keepdim = true })
end

local function resize(x, height, width)
  local shape = x.shape
  if #shape < 2 then native.raise("resize: x must be ... × height × width, got " .. options.describe(x)) end
  local h, w = shape[#shape - 1], shape[#shape]
  if h == height and w == width then return x end
  if h * w == 0 then native.raise("resize: the picture is empty, " .. options.describe(x)) end
  local float = (x.dtype == "f32" or x.dtype == "f64") and x or x:to("f32")
  local out = filter(h, height):to(float.dtype):matmul(float):matmul(filter(w, width):to(float.dtype).T)
  return x.dtype == "u8" and out:round():clamp(0, 255):to("u8") or out
end

-- ---- folders ----

local function sorted(names, wanted)
  local list = {}
  for name, is_folder in pairs(names) do
    if wanted(name, is_folder) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function is_picture(name, is_folder)
  return not is_folder and EXTENSIONS[(name:match("%.(%w+)$") or ""):lower()] == true
end

-- The pictures of a folder: paths, and where they lie in folders within it, the class of each and the classes.  A list
-- of paths is that.
function images.find(where, folder)
  if type(folder) ~= "string" then return folder end
  local names = native.folder(folder)
  local classes = sorted(names, function(_, is_folder) return is_folder end)
  local paths, labels = {}, {}
  local function add(place, list, label)
    for _, name in ipairs(list) do paths[#paths + 1], labels[#labels + 1] = place .. "/" .. name, label end
  end
  local own = sorted(names, is_picture)
  if #own > 0 then
    add(folder, own)
    return paths
  end
  for k, class in ipairs(classes) do
    add(folder .. "/" .. class, sorted(native.folder(folder .. "/" .. class), is_picture), k)
  end
  if #paths == 0 then native.raise(("%s: there is no PNG or JPEG file in %s or its folders"):format(where, folder)) end
  return paths, labels, classes
end

local function read_all(paths, o)
  local x
  for i, path in ipairs(paths) do
    local image = native.image_read(path, o.channels or 0)
    if o.size then image = resize(image, o.size[1], o.size[2]) end
    x = x or nb.zeros({ #paths, table.unpack(image.shape) }, { dtype = "u8" })
    if options.shape(image) ~= options.shape(x[1]) then
      native.raise(("images: %s is %s, those before are %s (channels × height × width); size= and channels= make " ..
        "them alike"):format(path, options.shape(image), options.shape(x[1])))
    end
    x[i] = image
  end
  return x
end

function images.define(define)
  define("image", {
    doc = "Reads a PNG or JPEG picture: u8, channels × height × width.", see = { "data.images", "data.resize" },
    params = { { name = "path", type = "string" }, channels },
    example = "pcall(data.image, \"no such file\")  --> false",
    function(o) return native.image_read(o.path, o.channels or 0) end,
  })

  define("images", {
    doc = "Reads all pictures of a folder or of a list of paths: x is u8, count × channels × height × width, " ..
      "`paths` their files.  Where they lie in folders of their own, the folders' names are the classes, and y " ..
      "tells them.",
    params = images.params,
    see = { "data.image", "data.image_folder", "data.resize" },
    example = "pcall(data.images, \"no such folder\")  --> false",
    function(o)
      local paths, labels, classes = images.find("images", o.folder)
      return { x = read_all(paths, o), y = labels and nb.tensor(labels, { dtype = "i64" }), classes = classes,
        paths = paths }
    end,
  })

  define("resize", {
    doc = "x with its last two dimensions, height and width, made another size by a triangle filter (bilinear, and " ..
      "averaging where it gets smaller).",
    params = { { name = "x", type = "tensor" }, { name = "height", type = "size" }, { name = "width", type = "size" } },
    example = "data.resize(nb.tensor{{1, 3}, {5, 7}}, 1, 2)  --> {{3, 5}}", see = { "data.images" },
    function(o) return resize(o.x, o.height, o.width) end,
  })
end

return images
