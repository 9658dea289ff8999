-- SPDX-License-Identifier: MIT
-- Whether the loader hides what it does beside the step: PNG files are decoded, cropped, flipped, turned and coloured
-- for nets of several widths, so that a batch's making takes from much to little of a step.  For each: the step on a
-- batch that is there, the making alone, and the step with the loader beside it, in turn; medians of milliseconds, and
-- what the step with the loader takes of the one without.
-- loader.lua [threads of the step [rounds]]
local nb = require "nablua"
local native = require "nablua.native"
local steps = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "steps.lua")
local nn, data, transforms = nb.nn, nb.data, nb.data.transforms
local now = native.clock

local THREADS, ROUNDS = tonumber(arg[1]) or 1, tonumber(arg[2]) or 15
local PICTURES, SIZE, STEPS = 256, 32, 6
local WIDTHS = { 6, 8, 10, 12, 16, 32 }

local function load_average()
  local f <close> = io.open "/proc/loadavg"
  return f and f:read "a":match "^%S+" or "unknown"
end

-- Pictures with what a photograph has: wide shades, and noise, which does not pack.
local function write_pictures(folder)
  local paths = {}
  for i = 1, PICTURES do
    local shade = data.resize(nb.rand(3, 5, 5), 80, 80)
    local x = ((shade * 200 + nb.rand(3, 80, 80) * 40):clamp { min = 0, max = 255 }):to "u8"
    paths[i] = ("%s/%03d.png"):format(folder, i)
    local f <close> = assert(io.open(paths[i], "wb"))
    f:write(native.png(x:permute(2, 3, 1):contiguous()))
  end
  return paths
end

local function net_of(width)
  return nn.Sequential { nn.Conv2d(3, width, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(width, 2 * width, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(2 * width * 16 * 16, 10) }
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

nb.seed(1)
nb.threads(THREADS)
local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir " .. folder))
local paths = write_pictures(folder)
local set = data.image_folder(paths)
local y = nb.randint(1, 10, PICTURES)
local transform = transforms.Compose { transforms.RandomCrop(64), transforms.RandomHorizontalFlip(),
  transforms.ToFloat(), transforms.RandomRotation(10), transforms.ColorJitter { brightness = 0.2, contrast = 0.2 },
  transforms.Normalize(0.5, 0.25) }

-- Batches without end.
local function stream(workers)
  local loader, last = data.loader({ set, y }, { size = SIZE, shuffle = true, transform = transform,
    workers = workers }), nil
  return function()
    local bx, by = loader(nil, last)
    if not bx then bx, by = loader() end
    last = bx
    return bx, by
  end
end

-- Milliseconds of f, which is called STEPS times.
local function time(f)
  local start = now()
  for _ = 1, STEPS do f() end
  return (now() - start) / STEPS * 1e3
end

print(("a step on %d thread%s, a thread that makes batches of %d pictures of 80×80; load %s"):format(THREADS,
  THREADS == 1 and "" or "s", SIZE, load_average()))
print("width    step  making  making/step  with the loader  with/without")
for _, width in ipairs(WIDTHS) do
  local net, loss = net_of(width), nn.CrossEntropyLoss()
  local opt = nb.optim.SGD(net:parameters(), { lr = 1e-3 })
  local make = stream(0)
  local bx, by = make()
  local without = steps.trainer(net, loss, opt, bx, by)
  local times = { {}, {}, {} }
  for round = 0, ROUNDS do
    local beside = stream(1)
    beside()  -- the thread has begun
    local all = { time(without), time(make), time(function() steps.trainer(net, loss, opt, beside())() end) }
    for k = 1, 3 do times[k][round] = all[k] end  -- the first round warms up
  end
  local step, making, with = median(times[1]), median(times[2]), median(times[3])
  print(("%5d  %6.2f  %6.2f  %11.2f  %15.2f  %12.2f"):format(width, step, making, making / step, with, with / step))
end
print(("load afterwards %s"):format(load_average()))
for _, path in ipairs(paths) do os.remove(path) end
os.remove(folder)
