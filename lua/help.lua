-- SPDX-License-Identifier: MIT
-- nb.help: what the registry knows of a name or value; the pages are made in reference.lua.
local native = require "nablua.native"
local options = require "nablua.options"
local registry = require "nablua.registry"

local help = {}

-- The pages are made by a module that is loaded when the first is asked for.
local function reference()
  return require "nablua.reference"
end

local function no_entry(x, near)
  local shown = type(x) == "string" and ("%q"):format(x) or options.describe(x)
  return ("there is no help on %s%s"):format(shown, near and ('; did you mean "%s"?'):format(near) or
    "; help() lists what there is")
end

-- The entry of a name or value; raises a sentence with the nearest name.
local function entry_of(x)
  local entry, near = registry.find(x)
  if not entry then native.raise("help: " .. no_entry(x, near)) end
  return entry
end

-- What several names share: "max" is nb.max; others are mentioned.
local function text_of(x)
  local entry, near, others = registry.find(x)
  if not entry then native.raise("help: " .. no_entry(x, near)) end
  local text = reference().text(entry)
  if others and #others > 1 then
    local names = {}
    for i = 2, #others do names[i - 1] = others[i].name end
    text = text .. "\n\nAlso: " .. table.concat(names, ", ")
  end
  return text
end

-- ---- the public object ----

-- What help(...) gives: shows itself, and is a plain value with the entry's fields.
local page = { __name = "help page" }
page.__index = page
function page:__tostring()
  return self.text
end
function page:__display()
  return { ["text/plain"] = self.text, ["text/markdown"] = self.markdown }
end

-- The page on a name or function of Lua's own library, nil where it is none or the library here has one.
local function lua_page(x)
  local lualib = not registry.find(x) and require "nablua.lualib"
  local entry = lualib and lualib.find(x)
  if not entry then return nil end
  local text = lualib.text(entry)
  return setmetatable({ text = text, markdown = ("```\n%s\n```"):format(text), entry = entry }, page)
end

local function make_page(...)
  if select("#", ...) == 0 then
    local text = reference().overview()
    return setmetatable({ text = text, markdown = "```\n" .. text .. "\n```" }, page)
  end
  local x = (...)
  if x == nil then native.raise("help: the value is nil; a name can be asked for in quotes: help(\"relu\")") end
  local lua = lua_page(x)
  if lua then return lua end
  local entry = entry_of(x)
  local markdown = entry.kind == "topic" and reference().topic_markdown(entry) or reference().markdown(entry, 3)
  return setmetatable({ text = text_of(x), markdown = markdown, entry = entry }, page)
end

help.help = setmetatable(registry.home "nablua.help", {
  __name = "help",
  __call = function(_, ...) return make_page(...) end,
  __tostring = function() return reference().overview() end,
})

registry.add {
  name = "nb.help", kind = "function", value = help.help, signature = "nb.help([name or value])",
  doc = "What there is to know of a name or value: signature, parameters, example.  Without arguments, the topics.",
  example = "nb.help(\"relu\").entry.name  --> \"nb.relu\"", see = { "nb.help.text", "nb.help.markdown" },
}

registry.define(help.help, "nb.help.", "text", {
  doc = "The help on a name or value as text.", signature = "nb.help.text(name or value)",
  example = "#nb.help.text(\"nn.Linear\") > 100  --> true",
  text_of,
})

registry.define(help.help, "nb.help.", "markdown", {
  doc = "The help on a name as Markdown; without a name the whole reference.", signature = "nb.help.markdown([name])",
  example = "nb.help.markdown(\"relu\"):match(\"^### nb.relu\")  --> \"### nb.relu\"",
  function(name)
    if name == nil then return reference().whole() end
    return reference().markdown(entry_of(name), 3)
  end,
})

registry.define(help.help, "nb.help.", "torch", {
  doc = "The page of what a name of PyTorch's is called here, or why there is no such thing.",
  signature = "nb.help.torch(name)", see = { "nb.help" },
  example = "nb.help.torch(\"torch.true_divide\").entry.name  --> \"nb.div\"",
  function(name)
    if type(name) ~= "string" then
      native.raise("help.torch: needs a name of PyTorch's as a text, got " .. options.describe(name))
    end
    local entry, sentence = require("nablua.torch").find(name)
    local shown = name:find("^torch") and name or "torch." .. name
    if not entry and not sentence then
      local near = options.nearest(name:match("[^.]*$"), require("nablua.torch").names())
      native.raise(("help.torch: nothing here is known as %s%s"):format(shown,
        near and ("; did you mean \"%s\"?"):format(near) or ", under whatever name"))
    end
    local first = entry and ("%s is %s here."):format(shown, entry.name) or ("%s: %s."):format(shown, sentence)
    if not entry then return setmetatable({ text = first, markdown = first }, page) end
    local markdown = entry.kind == "topic" and reference().topic_markdown(entry) or reference().markdown(entry, 3)
    return setmetatable({ text = first .. "\n\n" .. reference().text(entry), markdown = first .. "\n\n" .. markdown,
      entry = entry }, page)
  end,
})

registry.define(help.help, "nb.help.", "meta", {
  doc = "The file that lets editors with a Lua Language Server complete and check names; nablua --meta prints it.",
  signature = "nb.help.meta()", example = "nb.help.meta():match(\"^%-%-%-@meta\")  --> \"---@meta\"",
  function() return require("nablua.meta").text() end,
})

-- The functions a name stands for: one, or those of a class.
local function functions_of(value)
  if type(value) ~= "table" then return { value } end
  local spec = value.meta and value.meta.spec or {}
  return { spec.init, value.forward }
end

registry.define(help.help, "nb.help.", "source", {
  doc = "The Lua source of a function or of a class's init and forward, or nil where it is written in C.",
  signature = "nb.help.source(name or value)",
  example = "nb.help.source(\"nn.Linear\"):match(\"forward\")  --> \"forward\"",
  function(x)
    local parts = {}
    local entry = entry_of(x)
    for _, f in pairs(entry.code and { entry.code() } or functions_of(entry.value)) do
      local info = type(f) == "function" and debug.getinfo(f, "S")
      local text = info and info.what == "Lua" and native.sources[info.source:sub(2)]
      local n, lines = 0, {}
      for line in ((text or "") .. "\n"):gmatch("(.-)\n") do
        n = n + 1
        if text and n >= info.linedefined and n <= info.lastlinedefined then lines[#lines + 1] = line end
      end
      if #lines > 0 then parts[#parts + 1] = table.concat(lines, "\n") end
    end
    return #parts > 0 and table.concat(parts, "\n") or nil
  end,
})

return help
