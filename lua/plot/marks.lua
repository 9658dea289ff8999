-- SPDX-License-Identifier: MIT
-- What of a mark is drawn: lines of no more points than a picture shows, crowds as an image of how many there are,
-- images of no more pixels than are seen.
local native = require "nablua.native"
local nb = require "nablua.core"

local marks = {}

local COLUMNS = 1200        -- that lines are reduced to
local MOST_POINTS = 4000    -- drawn one by one; more become an image of their density
local MOST_PIXELS = 640     -- of an image's sides

-- Where there are too many points or lines for a drawing of each: how many there are, u8 H×W×4 with opacity.
local function density(mark, panel, lines)
  local height, width = 400, 640
  local count
  if lines then
    local picture = nb.zeros(height, width, { dtype = "u8" })
    native.draw_line(picture, mark.x, mark.y, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
    count = picture:to("f64")
  else
    count = nb.zeros(height, width, { dtype = "f64" })
    native.draw_points(count, mark.x, mark.y, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
    count = (count + 1):log()
  end
  local most = math.max(count:max():item(), 1e-9)
  local alpha = nb.where(count:gt(0), 60 + 195 * count / most, 0)
  local r, g, b = mark.color.rgb:match("#(%x%x)(%x%x)(%x%x)")
  local planes = {}
  for i, c in ipairs { r, g, b } do planes[i] = nb.full({ height, width }, tonumber(c, 16), { dtype = "f64" }) end
  planes[4] = alpha
  return nb.stack(planes, 3):to("u8")
end

-- The x and y of a line; or nil, nil and an image of it; or nothing, when there is none.
function marks.line(mark, panel)
  local x, y = mark.x, mark.y
  if x:numel() == 0 then return nil end
  if x:numel() > 2 * COLUMNS then
    local rx, ry, n = native.reduce(x, y, panel.x.low, panel.x.high, COLUMNS)
    if n == 0 then return nil end
    x, y = rx[{ { 1, n } }]:contiguous(), ry[{ { 1, n } }]:contiguous()
  end
  if x:numel() > 20 * COLUMNS then return nil, nil, density(mark, panel, true) end
  return x, y
end

-- An image of points that are too many to be drawn one by one, else nil.
function marks.crowd(mark, panel)
  return mark.x:numel() > MOST_POINTS and density(mark, panel) or nil
end

-- The size of points, in gnuplot's unit.
function marks.size(mark)
  local n = mark.x:numel()
  return mark.size or n <= 50 and 0.9 or n <= 500 and 0.65 or 0.4
end

-- An image's pixels, u8 H×W×3.
function marks.pixels(rgb)
  local h, w = rgb:size(1), rgb:size(2)
  -- Larger ones than the picture carry pixels that nobody sees.
  if math.max(h, w) > MOST_PIXELS then
    h, w = math.min(h, MOST_PIXELS), math.min(w, MOST_PIXELS)
    rgb = native.resize(rgb, h, w)
  end
  -- Small images are enlarged here, so that no viewer smooths them.
  local k = math.max(1, math.min(math.ceil(600 / w), math.ceil(600 / h)))
  if k > 1 then
    h, w = h * k, w * k
    rgb = native.resize(rgb, h, w)
  end
  return rgb
end

return marks
