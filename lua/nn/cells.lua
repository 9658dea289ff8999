-- SPDX-License-Identifier: MIT
-- Recurrent layers step by step, in operators: what the operator `recurrent` computes as a whole.
--
--   x[1] x[2] ... x[n] ──W_ih──► gates[1..n]        gates[t] + W_hh·h[t-1] + b ──cell──► h[t] (and c[t])
local shared = require "nablua.nn.shared"

-- Cells: (from_input, from_state, h, c) → h, c.
local cells = {}

function cells.tanh(from_input, from_state) return (from_input + from_state):tanh() end

function cells.relu(from_input, from_state) return (from_input + from_state):relu() end

function cells.lstm(from_input, from_state, _, c)
  local i, f, g, o = table.unpack((from_input + from_state):chunk(4, -1))
  c = f:sigmoid() * c + i:sigmoid() * g:tanh()
  return o:sigmoid() * c:tanh(), c
end

function cells.gru(from_input, from_state, h)
  local ir, iz, i_n = table.unpack(from_input:chunk(3, -1))
  local hr, hz, h_n = table.unpack(from_state:chunk(3, -1))
  local n = (i_n + (ir + hr):sigmoid() * h_n):tanh()
  return n + (iz + hz):sigmoid() * (h - n)
end

-- One layer in one direction over x, length × batch × features, with weights by name (weight_hr, where it is,
-- projects h): the lists of all h and c in the order of x, the last h and c.
function cells.steps(kind, x, w, reverse, h, c)
  local cell, w_hh = cells[kind], w.weight_hh.T
  local gates = shared.steps_of(shared.affine(x, w.weight_ih, w.bias_ih))
  local all_h, all_c, n = {}, {}, #gates
  for k = 1, n do
    local t = reverse and n + 1 - k or k
    local recurrent = h:matmul(w_hh)
    if w.bias_hh then recurrent = recurrent + w.bias_hh end
    h, c = cell(gates[t], recurrent, h, c)
    if w.weight_hr then h = h:matmul(w.weight_hr.T) end
    all_h[t], all_c[t] = h, c
  end
  return all_h, h, c, all_c
end

return cells
