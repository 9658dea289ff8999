-- SPDX-License-Identifier: MIT
-- Linear algebra beyond what its rows' own tests show: einsum, degenerate matrices, what is said about misuse.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local T = {}

local function rand(...)
  return nb.rand({ ... }, { dtype = "f64", requires_grad = true })
end

local function same(have, want)
  lu.assertEquals(have.shape, want.shape)
  lu.assertNil(numeric.difference(numeric.flat(have), numeric.flat(want), 1e-12))
end

-- ---- einsum, against the operators it stands for ----

function T.test_einsum_is_what_the_operators_are()
  local a, b, v, c = rand(3, 4), rand(4, 2), rand(4), rand(3, 3)
  local x, y = rand(2, 3, 4), rand(2, 4, 5)
  same(nb.einsum("ij,jk->ik", a, b), a:matmul(b))
  same(nb.einsum("ij,jk", a, b), a:matmul(b))
  same(nb.einsum(" i j , j k -> k i ", a, b), a:matmul(b).T)
  same(nb.einsum("ij,j->i", a, v), a:matmul(v))
  same(nb.einsum("i,i", v, v), v:dot(v))
  same(nb.einsum("i,j->ij", v, b[{ nb.ALL, 1 }]), v:outer(b[{ nb.ALL, 1 }]))
  same(nb.einsum("bij,bjk->bik", x, y), x:matmul(y))
  same(nb.einsum("...ij,...jk->...ik", x, y), x:matmul(y))
  same(nb.einsum("...ij,jk", x, b), x:matmul(b))
  same(nb.einsum("ii", c), c:trace())
  same(nb.einsum("ii->i", c), c:diag())
  same(nb.einsum("ij->", a), a:sum())
  same(nb.einsum("ij->j", a), a:sum(1))
  same(nb.einsum("ji", a), a.T)
  same(nb.einsum("ba", a), a.T)
  same(nb.einsum("bij->bji", x), x:transpose(2, 3))
  same(nb.einsum("ij,ij->ij", a, a), a * a)
  same(nb.einsum("ij,ij", a, a), (a * a):sum())
  same(nb.einsum("i...,i...->...", a, a), (a * a):sum(1))
  same(nb.einsum("ij,jk,kl->il", a, b, rand(2, 1) * 0 + 2), a:matmul(b):matmul(nb.full({ 2, 1 }, 2, { dtype = "f64" })))
  same(nb.einsum("ij,jk->ik", { a, b }), a:matmul(b))
  same(nb.einsum("ij,kj->ik", a, rand(1, 1) * 0 + 1), a:sum(2, { keepdim = true }))  -- size 1 goes with any
  same(nb.einsum("...,...->...", nb.tensor(2), a), 2 * a)
  same(nb.einsum("ij,jk->ik", nb.zeros(0, 3), nb.zeros(3, 2)), nb.zeros(0, 2))
  same(nb.einsum("ij,jk->ik", nb.zeros(2, 0), nb.zeros(0, 2)), nb.zeros(2, 2))
end

function T.test_einsum_has_first_and_second_derivatives()
  for _, case in ipairs { { "ij,jk->ik", rand(3, 4), rand(4, 2) }, { "iij,j->i", rand(3, 3, 2), rand(2) },
    { "bij,bkj,k->bi", rand(2, 3, 2), rand(2, 4, 2), rand(4) }, { "...i,i...->...", rand(2, 3), rand(3, 2) } } do
    local inputs = table.move(case, 2, #case, 1, {})
    local function J() return nb.einsum(case[1], inputs):square():sum() end
    local g = { nb.grad(J(), inputs, { create_graph = true }) }
    local function slope() return nb.grad(J(), inputs[1]):square():sum():item() end
    local second = { nb.grad(g[1]:square():sum(), inputs) }
    for k, x in ipairs(inputs) do
      local want = numeric.finite_difference(function() return J():item() end, x, 1e-6)
      lu.assertNil(numeric.difference(numeric.flat(g[k]), want, 1e-5))
      want = numeric.finite_difference(slope, x, 1e-6)
      lu.assertNil(numeric.difference(numeric.flat(second[k]), want, 1e-4))
    end
  end
end

function T.test_einsum_says_what_is_wrong()
  local a = nb.ones(2, 3)
  numeric.assert_error({ "einsum", "for 2 tensors, got 1" }, nb.einsum, "ij,jk", a)
  numeric.assert_error({ "operand 1", "2 dimensions", "3 letters" }, nb.einsum, "ijk", a)
  numeric.assert_error({ "j has size 2 in operand 2, but 3 before" }, nb.einsum, "ij,jk", a, a)
  numeric.assert_error({ "the result has k, which no operand has" }, nb.einsum, "ij->k", a)
  numeric.assert_error({ "the result has i twice" }, nb.einsum, "ij->ii", a)
  numeric.assert_error({ "letters and ... only", "+" }, nb.einsum, "i+", a)
  numeric.assert_error({ "operand 2 must be a tensor" }, nb.einsum, "ij,i", a, 3)
  numeric.assert_error({ "equation" }, nb.einsum, a)
end

-- ---- matrices that are not what they should be ----

function T.test_degenerate_matrices()
  local singular = nb.tensor { { 1, 2 }, { 2, 4 } }
  numeric.assert_error({ "inverse", "singular", "pivot 2" }, nb.inverse, singular)
  numeric.assert_error({ "singular", "of matrix 2" }, nb.solve, nb.stack { nb.eye(2), singular }, nb.ones(2, 2, 1))
  numeric.assert_error({ "not positive definite", "order 2" }, nb.cholesky, nb.tensor { { 1, 2 }, { 2, 1 } })
  numeric.assert_error({ "inverse", "square", "2×3" }, nb.inverse, nb.ones(2, 3))
  numeric.assert_error({ "det", "shape 3" }, nb.det, nb.ones(3))
  numeric.assert_error({ "svd", "NaN" }, nb.svd, nb.full({ 2, 2 }, 0 / 0))
  numeric.assert_error({ "eigh", "infinity" }, nb.eigh, nb.full({ 2, 2 }, 1 / 0))
  numeric.assert_error({ "solve", "3 rows", "has 2" }, nb.solve, nb.eye(3), nb.ones(2))
  lu.assertEquals(nb.det(singular):item(), 0)
  local sign, log = nb.slogdet(singular)
  lu.assertEquals({ sign:item(), log:item() }, { 0, -math.huge })
end

-- The gradient of a determinant is the matrix of cofactors, which singular matrices have too.
function T.test_det_of_a_singular_matrix_has_its_gradient()
  -- Of powers of two: 0 in whatever order a LAPACK eliminates.
  local x = nb.tensor({ { 1, 2, 4 }, { 2, 4, 8 }, { 1, 0, 1 } }, { dtype = "f64", requires_grad = true })
  x:det():backward()
  local want = { 4, 6, -4, -2, -3, 2, 0, 0, 0 }
  lu.assertNil(numeric.difference(numeric.flat(x.grad), want, 1e-12))
  numeric.assert_error({ "det", "second derivative" }, nb.grad, x:det(), x, { create_graph = true })
end

function T.test_empty_and_whole_number_matrices()
  lu.assertEquals(nb.inverse(nb.zeros(0, 3, 3)).shape, { 0, 3, 3 })
  lu.assertEquals(nb.det(nb.zeros(2, 0, 0)):totable(), { 1, 1 })
  local u, s, v = nb.svd(nb.zeros(0, 3))
  lu.assertEquals({ u.shape, s.shape, v.shape }, { { 0, 0 }, { 0 }, { 3, 0 } })
  lu.assertEquals(nb.solve(nb.zeros(0, 0), nb.zeros(0, 2)).shape, { 0, 2 })
  lu.assertEquals(nb.solve(nb.eye(2), nb.zeros(2, 0)).shape, { 2, 0 })
  local whole = nb.tensor({ { 2, 0 }, { 0, 4 } }, { dtype = "i64" })
  lu.assertEquals(whole:inverse():totable(), { { 0.5, 0 }, { 0, 0.25 } })
end

function T.test_larger_matrices_satisfy_what_defines_them()
  nb.seed(3)
  local x = nb.randn(60, 40, { dtype = "f64" })
  local q, r = x:qr()
  local u, s, v = x:svd()
  local eye = nb.eye(40, { dtype = "f64" })
  local function near(a, b) lu.assertTrue((a - b):abs():max():item() < 1e-11) end
  near(q:matmul(r), x)
  near(q.T:matmul(q), eye)
  near(r:tril(-1), r * 0)
  near(u:matmul(s:diag()):matmul(v.T), x)
  near(u.T:matmul(u), eye)
  near(v.T:matmul(v), eye)
  local c = x.T:matmul(x)
  local l, vectors = c:eigh()
  near((c:matmul(vectors) - vectors * l) / 100, c * 0)
  near(c:cholesky():matmul(c:cholesky().T), c)
  near(c:matmul(c:inverse()), eye)
  near(x:pinv():matmul(x), eye)
  lu.assertAlmostEquals(select(2, c:slogdet()):item(), l:log():sum():item(), 1e-9)
end

-- Singular values 8, 2 and 0.5: rtol cuts at its multiple of 8, atol at itself, the larger of both counts.
function T.test_pinv_leaves_out_small_singular_values()
  nb.seed(3)
  local f64 = { dtype = "f64" }
  local u, v = nb.randn(4, 3, f64):qr(), nb.randn(3, 3, f64):qr()
  local x = u:matmul(nb.tensor({ 8, 2, 0.5 }, f64):diag()):matmul(v.T)
  local function inverse(list) return v:matmul(nb.tensor(list, f64):diag()):matmul(u.T) end
  for _, case in ipairs { { {}, { 1 / 8, 1 / 2, 2 } }, { { rtol = 0.1 }, { 1 / 8, 1 / 2, 0 } },
    { { atol = 1 }, { 1 / 8, 1 / 2, 0 } }, { { atol = 3 }, { 1 / 8, 0, 0 } },
    { { rtol = 0.1, atol = 3 }, { 1 / 8, 0, 0 } }, { { rtol = 0.5, atol = 1 }, { 1 / 8, 0, 0 } },
    { { atol = 9 }, { 0, 0, 0 } } } do
    lu.assertTrue((x:pinv(case[1]) - inverse(case[2])):abs():max():item() < 1e-13)
  end
end

-- ---- factors ----

function T.test_lu_is_what_its_factors_say()
  nb.seed(8)
  for _, shape in ipairs { { 5, 5 }, { 7, 4 }, { 4, 7 }, { 2, 3, 3 }, { 1, 1 }, { 3, 0 }, { 0, 3 }, { 0, 2, 2 } } do
    local x = nb.randn(shape, { dtype = "f64" })
    local p, l, u = x:lu()
    local m, n = shape[#shape - 1], shape[#shape]
    lu.assertEquals({ p:size(-1), l:size(-1), u:size(-2) }, { m, math.min(m, n), math.min(m, n) })
    local function near(a, b)
      lu.assertEquals(a.shape, b.shape)
      if a:numel() > 0 then lu.assertTrue((a - b):abs():max():item() < 1e-12) end
    end
    near(p:matmul(l):matmul(u), x)
    near(l:triu(1), l * 0)
    near(u:tril(-1), u * 0)
    if l:numel() > 0 then lu.assertTrue(l:abs():max():item() <= 1) end  -- the largest of a column is the pivot
    near(p:transpose(-1, -2):matmul(p), nb.eye(m, { dtype = "f64" }):expand(p.shape))
  end
  -- Of singular matrices, too, whose gradient there is none of.
  local x = nb.tensor({ { 1, 2 }, { 2, 4 } }, { requires_grad = true })
  local _, _, u = x:lu()
  lu.assertEquals(u:at(2, 2), 0)
  numeric.assert_error({ "singular" }, u.backward, u:sum())
end

-- A companion matrix has the roots of its polynomial; rotations have complex ones.
function T.test_eigenvalues_of_matrices_that_are_not_symmetric()
  local roots = nb.tensor({ { 6, -11, 6 }, { 1, 0, 0 }, { 0, 1, 0 } }, { dtype = "f64" })  -- (t−1)(t−2)(t−3)
  local values, vectors = roots:eig()
  lu.assertNil(numeric.difference(numeric.flat((values:sort())), { 1, 2, 3 }, 1e-12))
  lu.assertTrue((roots:matmul(vectors) - vectors * values):abs():max():item() < 1e-12)
  lu.assertNil(numeric.difference(numeric.flat(vectors:square():sum(1)), { 1, 1, 1 }, 1e-12))
  local turn = nb.tensor { { { 1, 0 }, { 0, 1 } }, { { 0.6, -0.8 }, { 0.8, 0.6 } } }
  numeric.assert_error({ "eig", "eigenvalue 1 of matrix 2 is 0.6 - 0.8i", "nb.eigvals" }, nb.eig, turn)
  lu.assertNil(numeric.difference(numeric.flat(nb.eigvals(turn)), { 1, 0, 1, 0, 0.6, -0.8, 0.6, 0.8 }, 1e-6))
  numeric.assert_error({ "NaN or infinity" }, nb.eigvals, nb.full({ 2, 2 }, 0 / 0))
  numeric.assert_error({ "eig", "square" }, nb.eig, nb.ones(2, 3))
  lu.assertFalse(nb.eigvals(nb.eye(2, { requires_grad = true })).requires_grad)
  lu.assertEquals(nb.eig(nb.zeros(2, 0, 0)).shape, { 2, 0 })
  -- The sum of the eigenvalues is the trace, the sum of their squares that of the square.
  local x = nb.tensor({ { 2, 1, 0 }, { 0.5, 3, 1 }, { 0, 0.25, -1 } }, { dtype = "f64", requires_grad = true })
  local l = nb.eig(x)
  nb.grad(l:sum(), x, { retain_graph = true })
  lu.assertNil(numeric.difference(numeric.flat(nb.grad(l:square():sum(), x)), numeric.flat((x:detach() * 2).T), 1e-12))
end

return T
