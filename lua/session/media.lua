-- SPDX-License-Identifier: MIT
-- HTML, Markdown, Latex, SVG, Image, Audio, JSON: values that a notebook shows as what they hold, a terminal as text.
local native = require "nablua.native"
local nb = require "nablua.core"
local base64 = require "nablua.base64"
local display = require "nablua.display"
local json = require "nablua.json"
local options = require "nablua.options"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

local media = {}

-- ---- values ----

local Shown = { __name = "shown" }
function Shown:__display() return self.data, self.metadata end
function Shown:__tostring() return display.bundle(self)["text/plain"] end

local function shown(data, metadata)
  return setmetatable({ data = data, metadata = metadata }, Shown)
end

local function need_text(where, v, what)
  if type(v) ~= "string" then
    native.raise(("%s: expected %s, got %s"):format(where, what or "a string", options.describe(v)))
  end
  return v
end

local function define(name, entry)
  media[name] = entry[1]
  registry.add { name = name, kind = "function", signature = entry.signature, doc = entry.doc, params = entry.params,
    example = entry.example, see = entry.see, value = rawget(_G, name) }
end

-- ---- bytes ----

-- What bytes are, by how they begin.
local MAGIC = { { "^\x89PNG\r\n\x1a\n", "image/png" }, { "^\xff\xd8\xff", "image/jpeg" }, { "^GIF8", "image/gif" },
  { "^RIFF....WEBP", "image/webp" }, { "^BM....\0\0\0\0", "image/bmp" }, { "^RIFF....WAVE", "audio/wav" },
  { "^OggS", "audio/ogg" }, { "^ID3", "audio/mpeg" }, { "^\xff[\xf2\xf3\xfb]", "audio/mpeg" },
  { "^fLaC", "audio/flac" }, { "^%%PDF%-", "application/pdf" } }

local function type_of(bytes)
  for _, m in ipairs(MAGIC) do
    if bytes:find(m[1]) then return m[2] end
  end
end

-- Bytes of a kind ("image", "audio"), given as they are or by the path of a file; and their type.
local function need_bytes(where, given, kind)
  need_text(where, given, "bytes or the path of a file")
  local mime = type_of(given)
  if not mime then
    if #given > 4096 or given:find("\0", 1, true) then
      native.raise(("%s: these %d bytes are of no %s format that is known here"):format(where, #given, kind))
    end
    local file <close>, why = io.open(given, "rb")
    if not file then native.raise(("%s: %s"):format(where, why)) end
    local bytes = file:read "a"
    if not bytes then native.raise(("%s: %s cannot be read"):format(where, given)) end
    mime, given = type_of(bytes), bytes
  end
  if not mime or not (mime:find("^" .. kind) or kind == "image" and mime == "application/pdf") then
    native.raise(("%s: expected the bytes of an %s, got %s"):format(where, kind, mime or "something else"))
  end
  return given, mime
end

local function size_text(bytes)
  return #bytes < 1000 and #bytes .. " B" or ("%.3g kB"):format(#bytes / 1000)
end

-- ---- the functions ----

for _, row in ipairs {
  { "HTML", "text/html", "Shows HTML in a notebook as it is written: nothing in it is escaped.",
    'HTML "<b>bold</b>, and 1 &lt; 2"' },
  { "Markdown", "text/markdown", "Shows Markdown, formulas between dollars included.",
    'Markdown "# Loss\\nfell to **0.3**"' },
} do
  local name, mime = row[1], row[2]
  define(name, { doc = row[3], signature = name .. "(text)", example = row[4], see = { "display" },
    function(text) return shown { [mime] = need_text(name, text) } end })
end

define("Latex", {
  doc = "Shows a formula: TeX between dollars, or without them.", signature = "Latex(text)",
  example = 'Latex "\\\\frac{\\\\partial J}{\\\\partial w}"', see = { "display", "Markdown" },
  function(text)
    need_text("Latex", text)
    local delimited = text:find("$", 1, true) or text:find("\\begin{", 1, true) or text:find("\\(", 1, true) or
      text:find("\\[", 1, true)
    return shown { ["text/latex"] = delimited and text or "$$" .. text .. "$$", ["text/plain"] = text }
  end,
})

define("SVG", {
  doc = "Shows a drawing, given as SVG or by the path of a file.", signature = "SVG(text or path)",
  example = "SVG '<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><circle r=\"9\"/></svg>'",
  see = { "Image" },
  function(text)
    need_text("SVG", text, "SVG or the path of a file")
    if not text:find("<svg", 1, true) then
      local file <close>, why = io.open(text, "rb")
      if not file then native.raise("SVG: " .. why) end
      local path = text
      text = file:read "a"
      if not text or not text:find("<svg", 1, true) then native.raise(("SVG: %s holds no <svg"):format(path)) end
    end
    return shown { ["image/svg+xml"] = text, ["text/plain"] = ("drawing, %s of SVG"):format(size_text(text)) }
  end,
})

local image_params = {
  { name = "width", type = "size", optional = true, doc = "pixels that it takes on the page" },
  { name = "height", type = "size", optional = true, doc = "likewise" },
}

define("Image", {
  doc = "Shows a picture: PNG, JPEG, GIF, WebP, BMP or PDF, given as its bytes or by the path of a file; or a " ..
    "tensor H×W or C×H×W, as plot.images draws it.",
  signature = "Image(bytes, path or tensor, {width=, height=})", params = image_params,
  example = 'pcall(Image, "no_such.png")  --> false', see = { "plot.images", "SVG" },
  function(given, o)
    o = options.check("Image", image_params, o)
    if nb.is_tensor(given) then
      return require("nablua").plot.images(given, { width = o.width, height = o.height })
    end
    local bytes, mime = need_bytes("Image", given, "image")
    local metadata = (o.width or o.height) and { [mime] = { width = o.width, height = o.height } } or nil
    return shown({ [mime] = bytes, ["text/plain"] = ("picture, %s of %s"):format(size_text(bytes), mime) }, metadata)
  end,
})

local audio_params = {
  { name = "rate", type = "count", default = 44100, doc = "samples in a second, of a tensor" },
  { name = "autoplay", type = "boolean", default = false, doc = "begins by itself" },
}

-- Samples from −1 to 1, N or channels×N, as 16 bits in a WAV file.  What is louder is made to fit.
local function wave(t, rate)
  if t:dim() > 2 or t:numel() == 0 then
    native.raise("Audio: samples must be N or channels×N numbers, got shape " .. options.shape(t))
  end
  local samples = nb.no_grad(function()
    local s = t:detach():to("f64")
    s = s:dim() == 1 and s:reshape(1, -1) or s
    local most = s:abs():max():item()
    if most ~= most or most == math.huge then native.raise "Audio: the samples are not all finite" end
    return ((most > 1 and s / most or s) * 32767):round():transpose(1, 2):contiguous():reshape(-1):to("i64"):totable()
  end)
  local channels, parts = t:dim() == 2 and t:size(1) or 1, {}
  for i, v in ipairs(samples) do parts[i] = string.pack("<i2", v) end
  local data = table.concat(parts)
  return string.pack("<c4I4c4c4I4I2I2I4I4I2I2c4I4", "RIFF", 36 + #data, "WAVE", "fmt ", 16, 1, channels, rate,
    rate * channels * 2, channels * 2, 16, "data", #data) .. data
end

define("Audio", {
  doc = "Shows a player: WAV, Ogg, MP3 or FLAC, given as bytes or by the path of a file; or a tensor of samples.",
  signature = "Audio(bytes, path or tensor, {rate=44100, autoplay=})", params = audio_params,
  example = "Audio((nb.arange(8000) * 0.3):sin(), {rate=8000})", see = { "Image" },
  function(given, o)
    o = options.check("Audio", audio_params, o)
    local bytes, mime
    if nb.is_tensor(given) then
      bytes, mime = wave(given, o.rate), "audio/wav"
    else
      bytes, mime = need_bytes("Audio", given, "audio")
    end
    return shown { ["text/html"] = ('<audio controls%s src="data:%s;base64,%s"></audio>'):format(
      o.autoplay and " autoplay" or "", mime, base64(bytes)),
      ["text/plain"] = ("sound, %s of %s"):format(size_text(bytes), mime) }
  end,
})

local json_params = { { name = "expanded", type = "boolean", default = false, doc = "unfolded" } }

define("JSON", {
  doc = "Shows a tree of data that folds: a table, or JSON as text.", signature = "JSON(table or text, {expanded=})",
  params = json_params, example = 'JSON{loss={3, 2, 1}, net={layers=2}}', see = { "nb.pretty" },
  function(given, o)
    o = options.check("JSON", json_params, o)
    local text = type(given) == "string" and given or json.encode(given, "JSON")
    local wrong = session.json_error(text)
    if wrong then native.raise("JSON: this is no JSON: " .. wrong) end
    return shown({ ["application/json"] = text, ["text/plain"] = text },
      o.expanded and { ["application/json"] = { expanded = true } } or nil)
  end,
})

registry.add {
  name = "__display", kind = "function", signature = "__display(self, settings) → bundle, metadata",
  doc = "The metamethod that says how a value is shown: it returns a table by MIME type, {[\"text/html\"]=...}, and " ..
    "may return metadata.  Where text/plain is missing it is made; pictures and sounds are bytes, JSON a table or " ..
    "text.  settings has width, color and rich, which is true in notebooks.",
  example = 'P = {__display = function(p) return {["text/html"]="<b>" .. p.x .. "</b>"} end}\n' ..
    "setmetatable({x=1}, P)", see = { "display", "HTML" },
}

return media
