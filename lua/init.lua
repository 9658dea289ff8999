-- SPDX-License-Identifier: MIT
-- The module `nablua`: what `require "nablua"` returns.
local nb = require "nablua.core"
local json_values = require "nablua.json_values"
local registry = require "nablua.registry"

nb.null, nb.array = json_values.null, json_values.list
require "nablua.tensor"
registry.later("nablua.einsum", "einsum")
registry.later("nablua.operator", "operator")
registry.later("nablua.functions.products", "addmm addmv addr addbmm baddbmm mv bmm vdot inner")
registry.later("nablua.functions.order", "kthvalue median nanmedian mode quantile nanquantile")
registry.later("nablua.functions.statistics",
  "nansum nanmean count_nonzero aminmax var_mean std_mean diff trapezoid cumulative_trapezoid cov corrcoef bincount " ..
  "histc histogram bucketize isin unique_consecutive")
registry.later("nablua.functions.shapes",
  "movedim moveaxis swapaxes swapdims unflatten rot90 atleast_1d atleast_2d atleast_3d diagonal diag_embed diagflat " ..
  "block_diag hstack vstack dstack column_stack tensor_split hsplit vsplit dsplit broadcast_tensors meshgrid " ..
  "cartesian_prod combinations vander logspace tril_indices triu_indices")
registry.later("nablua.functions.indexing",
  "index_put index_put_ put put_ take take_along_dim index_copy index_copy_ index_fill index_fill_ masked_scatter " ..
  "masked_scatter_ windows as_strided select_scatter slice_scatter diagonal_scatter")
registry.later("nablua.functions.linalg",
  "tensordot kron cross vecdot cdist multi_dot matrix_power matrix_exp matrix_norm cond matrix_rank logdet " ..
  "cholesky_solve cholesky_inverse lstsq")
registry.later("nablua.functions.nearness", "normalize cosine_similarity pairwise_distance")
registry.later("nablua.functions.random",
  "normal exponential multinomial randint_like gumbel_softmax uniform_ normal_ exponential_ bernoulli_ random_")
registry.later("nablua.functions.making", "new_zeros new_ones new_full new_empty new_tensor")
registry.later("nablua.functions.derivatives", "jacobian hessian vjp jvp hvp vmap")
registry.later("nablua.functions.images", "interpolate grid_sample affine_grid")
registry.later("nablua.functions.fourier", "fft ifft fft2 ifft2 rfft irfft fftshift ifftshift " ..
  "rfft2 irfft2 fftn ifftn rfftn irfftn")
registry.later("nablua.functions.spectra", "stft istft hann_window hamming_window blackman_window bartlett_window")
registry.later("nablua.functions.recompute", "recompute")
registry.later("nablua.functions.compare", "allclose equal positive")
registry.later("nablua.files", "save load")
registry.later("nablua.progress", "progress", nb)
registry.later("nablua.bundles", "pretty", nb)
nb.help = registry.late("nablua.help", nil, true)
nb.nn = registry.late "nablua.nn"
nb.optim = registry.late "nablua.optim"
nb.data = registry.late "nablua.data"
nb.distributions = registry.late "nablua.distributions"
nb.plot = registry.late "nablua.plot"
nb.inspect = registry.late "nablua.inspect"
nb.dist = registry.late "nablua.dist"
nb.ui = registry.late "nablua.ui"
local runs = registry.late "nablua.run"
function nb.run(...) return runs.new(...) end
function nb.compare(...) return runs.compare(...) end
function nb.journal(...) return runs.journals.journal(...) end
function nb.journals(...) return runs.journals.read(...) end
nb.terminal = registry.late "nablua.terminal"
registry.later("nablua.compile", "compile")
registry.later("nablua.environment", "")

registry.add {
  name = "nb", kind = "topic", value = nb, doc = "Tensors, operators and gradients.",
  example = "nb.tensor{1, 2} + 1  --> {2, 3}", see = { "nn", "optim", "data", "plot", "tensor" },
}

return nb
