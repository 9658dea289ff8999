-- SPDX-License-Identifier: MIT
-- What PyTorch's names are called here where it is not the same: for nb.help.torch and for hints behind errors.
--
-- A line is PyTorch's name, without "torch." in front, then what it is here: a name of the registry's or, after "--",
-- a sentence.  Where only the last part counts, that alone stands.
local registry = require "nablua.registry"

local torch = {}

local LINES = [[
absolute nb.abs
negative nb.neg
subtract nb.sub
rsub -- y - x subtracts
multiply nb.mul
divide nb.div
true_divide nb.div
floor_divide nb.floordiv
remainder nb.mod
float_power -- x:to("f64") ^ y
arccos nb.acos
arccosh nb.acosh
arcsin nb.asin
arcsinh nb.asinh
arctan nb.atan
arctanh nb.atanh
arctan2 nb.atan2
clip nb.clamp
clamp_min -- x:clamp{min=...}, see ?clamp
clamp_max -- x:clamp{max=...}, see ?clamp
fix nb.trunc
greater nb.gt
greater_equal nb.ge
less nb.lt
less_equal nb.le
not_equal nb.ne
sgn nb.sign
special.expit nb.sigmoid
special.gammaln nb.lgamma
special.psi nb.digamma
gammaln nb.lgamma
expit nb.sigmoid
psi nb.digamma
isreal -- all tensors are real here
is_floating_point t.dtype
is_complex -- all tensors are real here
real -- all tensors are real here
imag -- all tensors are real here
conj -- all tensors are real here
complex -- all tensors are real here
view_as_real -- complex numbers are pairs in the last dimension here, see ?fft
msort -- (x:sort(1)) sorts along the first dimension
dist -- (x - y):norm()
trapz nb.trapezoid
concat nb.cat
concatenate nb.cat
row_stack nb.vstack
t t.T
adjoint -- x:transpose(-1, -2)
mT -- x:transpose(-1, -2)
mH -- x:transpose(-1, -2)
H -- x:transpose(-1, -2)
ravel nb.flatten
reshape_as -- x:reshape(y.shape)
view_as -- x:view(y.shape)
expand_as -- x:expand(y.shape)
type_as -- x:to(y.dtype)
repeat nb.tile
flipud -- x:flip(1)
fliplr -- x:flip(2)
unbind -- for i, row in x:rows() do walks the first dimension; x:select(dim, i) takes one
argwhere nb.nonzero
squeeze_ -- a tensor keeps its shape: x = x:squeeze()
unsqueeze_ -- a tensor keeps its shape: x = x:unsqueeze(dim)
transpose_ -- a tensor keeps its shape: x = x:transpose(d, e)
t_ -- a tensor keeps its shape: x = x.T
resize_ -- a tensor keeps its shape: x = x:reshape(...)
Tensor.unfold nb.windows
nn.functional.unfold nb.unfold
range nb.arange
as_tensor nb.tensor
asarray nb.tensor
scalar_tensor nb.tensor
from_numpy -- nb.load reads npy files
numpy t:totable
tolist t:totable
nelement t:numel
ndimension t:dim
ndim t:dim
float -- x:to("f32")
double -- x:to("f64")
long -- x:to("i64")
byte -- x:to("u8")
half -- there are f32 and f64, no shorter floats
bfloat16 -- there are f32 and f64, no shorter floats
int -- x:to("i64"): whole numbers are i64 or u8
short -- x:to("i64"): whole numbers are i64 or u8
cuda -- everything is on the CPU here
cpu -- everything is on the CPU here
device -- everything is on the CPU here
ger nb.outer
chain_matmul nb.multi_dot
linalg.inv nb.inverse
inv nb.inverse
pinverse nb.pinv
linalg.vector_norm nb.norm
vector_norm nb.norm
linalg.matmul nb.matmul
linalg.eigvalsh -- (nb.eigh(x)): its first value
eigvalsh -- (nb.eigh(x)): its first value
linalg.svdvals -- (select(2, nb.svd(x)))
svdvals -- (select(2, nb.svd(x)))
linalg.eig -- nb.eig where all eigenvalues are real; nb.eigvals gives others in pairs of a real and an imaginary part
lu_factor -- nb.lu gives p, l and u apart
lu_solve nb.solve
triangular_solve nb.solve_triangular
symeig nb.eigh
view_as_complex -- complex numbers are pairs in the last dimension here, see ?fft
manual_seed nb.seed
seed nb.seed
initial_seed nb.random_state
get_rng_state nb.random_state
set_rng_state nb.random_state
enable_grad nb.set_grad_enabled
inference_mode nb.no_grad
is_grad_enabled nb.grad_enabled
autograd.grad nb.grad
autograd.Function nb.operator
autograd.detect_anomaly nb.anomaly
autograd.set_detect_anomaly nb.anomaly
detect_anomaly nb.anomaly
set_detect_anomaly nb.anomaly
autograd.functional.vhp nb.hvp
jacrev nb.jacobian
jacfwd nb.jacobian
checkpoint_sequential nb.recompute
utils.checkpoint.checkpoint nb.recompute
fft.fftfreq -- (nb.arange(n) - 1)/(n·d), from the middle on less 1/d
requires_grad_ t.requires_grad
data t:detach
set_num_threads nb.threads
get_num_threads nb.threads
set_default_dtype -- a dtype is given where a tensor is made: {dtype="f64"}; a net has net:to("f64")
get_default_dtype -- f32
jit.script nb.compile
jit.trace nb.compile
nn.functional.mse_loss nn.mse
mse_loss nn.mse
l1_loss nn.l1
huber_loss nn.huber
cross_entropy nn.cross_entropy
nll_loss nn.nll
binary_cross_entropy nn.bce
binary_cross_entropy_with_logits nn.bce_with_logits
kl_div nn.kl_div
upsample nb.interpolate
upsample_bilinear nb.interpolate
upsample_nearest nb.interpolate
softmin -- (-x):softmax(dim)
embedding nn.Embedding
dropout nn.Dropout
layer_norm nn.LayerNorm
batch_norm nn.BatchNorm2d
group_norm nn.GroupNorm
clip_grad_norm_ nn.clip_grad_norm
clip_grad_value_ nn.clip_grad_value
DataLoader data.loader
TensorDataset data.batches
random_split data.split
CosineAnnealingLR optim.CosineLR
LinearLR optim.WarmupLR
state_dict net:state
load_state_dict net:load_state
modules net:named_modules
children net:named_modules
Parameter -- a parameter is a tensor with {requires_grad=true}
Module nn.module
xavier_uniform_ nn.init.xavier_uniform
xavier_normal_ nn.init.xavier_normal
kaiming_uniform_ nn.init.kaiming_uniform
kaiming_normal_ nn.init.kaiming_normal
orthogonal_ nn.init.orthogonal
constant_ nn.init.constant
trunc_normal_ nn.init.trunc_normal
eye_ nn.init.eye
dirac_ nn.init.dirac
zeros_ nn.init.zeros
ones_ nn.init.ones
calculate_gain nn.init.gain
zero_ t:zero_
fill_diagonal_ nb.diagonal_scatter
index_reduce nb.scatter_reduce
scatter_ t:scatter_
masked_fill_ t:masked_fill_
copysign_ -- x:copy_(x:copysign(y))
isposinf -- x:eq(math.huge)
isneginf -- x:eq(-math.huge)
is_nonzero t:item
result_type -- the later of bool, u8, i64, f32, f64
promote_types -- the later of bool, u8, i64, f32, f64
nuclear_norm -- nb.matrix_norm(x, "nuc")
frobenius_norm nb.matrix_norm
split_with_sizes nb.split
constant_pad_nd nb.pad
pdist nb.cdist
rms_norm nn.RMSNorm
rrelu nn.LeakyReLU
UpsamplingBilinear2d nn.Upsample
UpsamplingNearest2d nn.Upsample
SyncBatchNorm -- nn.BatchNorm2d has sync= for groups of processes
DataParallel -- dist.parallel spreads batches over processes
Unfold nb.unfold
LinearCrossEntropyLoss nn.CrossEntropyLoss
SparseAdam optim.Adam
SWALR -- optim.SequentialLR goes over to optim.ConstantLR; nn.AveragedModel has the mean
update_bn -- a pass over the data in train mode under nb.no_grad renews running values
ROC nn.metrics.AUROC
TopKAccuracy nn.metrics.Accuracy
all_reduce dist.allreduce_
init_process_group -- mpirun -n 4 nablua train.lua makes a group, and dist.start(3) one at a prompt, see ?dist
DistributedDataParallel dist.parallel
instance_norm nn.InstanceNorm2d
Fold nb.fold
register_full_backward_hook net:register_backward_hook
grad_fn inspect.graph
SummaryWriter -- curves are plot.curve, and nn.fit and nb.run keep a history
finfo -- f32 holds 24 bits and up to 3.4e38, f64 53 bits and up to 1.8e308
Optimizer optim.SGD
LRScheduler optim.StepLR
set_printoptions nb.pretty
use_deterministic_algorithms -- a seeded run repeats bit for bit at a fixed number of threads
set_flush_denormal -- numbers below the least normal one are kept
cholesky_ex nb.cholesky
inv_ex nb.inverse
solve_ex nb.solve
lu_unpack nb.lu
detach_ t:detach
from_file data.open
Dataset -- any object with # and [i] is one, or a function with n=, see ?data.loader
ConcatDataset data.concat
Subset -- data.loader reads the samples that a sampler= names; of a tensor: x:index_select(1, places)
WeightedRandomSampler data.weighted_sampler
SequentialSampler data.sequential_sampler
RandomSampler data.random_sampler
BatchSampler -- data.loader makes batches of size= from any sampler
SubsetRandomSampler -- a sampler is an object with # that gives numbers of samples when called, see ?data.loader
default_collate -- data.loader stacks the parts of samples; collate= does otherwise
num_workers -- workers= of data.loader
prefetch_factor -- prefetch= of data.loader
drop_last -- last="drop" of data.loader and data.batches
pin_memory -- there is no other memory than the processor's
persistent_workers -- the threads of data.loader begin anew with each epoch
worker_init_fn -- threads of data.loader run no Lua
get_worker_info -- threads of data.loader run no Lua
load_digits data.digits
load_iris data.iris
load_wine data.wine
ToTensor data.transforms.ToFloat
RandomResizedCrop -- data.transforms.RandomAffine scales and RandomCrop cuts; none does both to one size
IterableDataset -- data.loader takes functions and files; tables larger than memory are data.csv_chunks
chunksize data.csv_chunks
read_csv data.csv
ImageFolder data.image_folder
gcd -- there is no gcd of tensors
lcm -- there is no lcm of tensors
angle -- of pairs: x:select(-1, 2):atan2(x:select(-1, 1))
polar -- pairs: nb.stack({r * t:cos(), r * t:sin()}, -1)
is_anomaly_enabled nb.anomaly
set_anomaly_enabled nb.anomaly
fill t:fill_
]]

local known

local function read()
  known = {}
  for line in LINES:gmatch("[^\n]+") do
    local name, what = line:match("^(%S+) (.+)$")
    known[name] = what
  end
end

local function last_part(name)
  return name:match("[^.:]+$") or name
end

-- What a name of PyTorch's is called here: an entry, or nil and a sentence; nil where neither is known.
function torch.find(name)
  if not known then read() end
  local path = name:gsub("%(.*$", ""):gsub("^torch%.", ""):gsub("^F%.", "nn.functional.")
  local last = last_part(path)
  local what = known[path] or not path:find("%.") and known["Tensor." .. path] and nil or known[last]
  if what then
    local sentence = what:match("^%-%- (.+)$")
    if sentence then return nil, sentence end
    return registry.find(what)
  end
  local found = registry.ending(last)
  local home = path:find("^nn") and "^nn%." or path:find("^optim") and "^optim%." or "^nb%."
  for _, kind in ipairs { home, "^t[:.]", "" } do
    for _, e in ipairs(found) do
      if e.name:find(kind) then return e end
    end
  end
  return torch.layer(last)
end

local layers  -- the entries of nn by their names in small letters

-- The layer or loss that a function of PyTorch's is called as here: max_pool1d is nn.MaxPool1d.
function torch.layer(name)
  if not layers then
    layers = {}
    for _, e in ipairs(registry.all()) do
      local own = e.name:match "^nn%.(%u%w*)$"
      if own then layers[own:lower()] = e end
    end
  end
  return layers[(name:gsub("_with_indices$", ""):gsub("_", ""):lower())]
end

-- A hint behind an error about a name that is not there; nil where PyTorch has none that is called otherwise here.
function torch.hint(name)
  if not known then read() end
  local what = type(name) == "string" and known[name]
  if not what then return nil end
  return what:match("^%-%- (.+)$") or ("did you mean '%s'?"):format(what)
end

-- All names of the table, for tests.
function torch.names()
  if not known then read() end
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  return names
end

return torch
