-- SPDX-License-Identifier: MIT
-- The public names that were promised, by prefix: each must be callable (a field or topic: known) and documented, with
-- an example that runs.  "nb.|t:" stands for both, nb.f(t, ...) and t:f(...).  A promise is only ever added to.
return {
  { "plot.", "curve scatter histogram heatmap confusion boundary activation images filters ridgeline" },
  { "inspect.", "graph diagram" },
  { "p:", "save update close" },
  { "nb.", "tensor zeros ones full empty arange linspace eye rand randn randint randperm" },
  { "nb.|t:", "one_hot zeros_like ones_like full_like empty_like rand_like randn_like to" },
  { "t.", "shape dtype grad requires_grad name T" },
  { "t:", "size dim numel item totable stats at rows" },
  { "nb.", "ALL NEW" },
  { "nb.|t:", [[
    add sub mul div pow mod neg eq ne lt le gt ge matmul mm logical_and logical_or logical_not
    abs exp log log1p expm1 sqrt rsqrt square sin cos tan asin acos atan atan2 sinh cosh tanh sigmoid relu leaky_relu
    elu gelu silu softplus sign floor ceil round clamp maximum minimum where erf reciprocal
    sum mean prod max min argmax argmin var std norm any all logsumexp cumsum softmax log_softmax
    reshape view transpose permute squeeze unsqueeze expand flatten contiguous cat stack split chunk tile
    repeat_interleave flip roll pad tril triu diag
    gather scatter scatter_add index_select index_add masked_select masked_fill sort topk unique nonzero
    dot outer trace inverse det slogdet solve solve_triangular cholesky qr svd eigh pinv lu eig eigvals
    conv1d conv2d conv_transpose2d max_pool2d avg_pool2d adaptive_avg_pool2d unfold
    scaled_dot_product_attention]] },
  { "nb.", "einsum" },
  { "nb.|t:", "bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift" },
  { "nb.|t:", [[
    log2 log10 exp2 asinh acosh atanh erfc erfinv lgamma digamma polygamma sinc logit deg2rad rad2deg trunc frac signbit
    nan_to_num logaddexp logaddexp2 hypot copysign fmod fmax fmin heaviside xlogy isclose allclose equal positive lerp
    addcmul addcdiv addmm addmv addr addbmm baddbmm mv bmm vdot inner
    amax amin median nanmedian mode kthvalue quantile nanquantile nansum nanmean count_nonzero aminmax std_mean var_mean
    cumprod cummax cummin logcumsumexp diff trapezoid cumulative_trapezoid cov corrcoef bincount histc histogram
    searchsorted bucketize isin unique_consecutive
    movedim moveaxis swapaxes swapdims unflatten rot90 atleast_1d atleast_2d atleast_3d diagonal diag_embed diagflat
    tensor_split hsplit vsplit dsplit combinations vander index_put put take take_along_dim index_copy index_fill
    masked_scatter scatter_reduce windows as_strided select_scatter slice_scatter diagonal_scatter]] },
  { "nb.|t:", [[
    tensordot kron cross vecdot cdist matrix_power matrix_exp matrix_norm cond matrix_rank logdet cholesky_solve
    cholesky_inverse lstsq normalize cosine_similarity pairwise_distance]] },
  { "nb.|t:", "interpolate grid_sample affine_grid" },
  { "nb.|t:", "fft ifft fft2 ifft2 rfft irfft fftshift ifftshift rfft2 irfft2 fftn ifftn rfftn irfftn stft istft" },
  { "nb.", "hann_window hamming_window blackman_window bartlett_window recompute" },
  { "nb.", "normal jacobian hessian vjp jvp hvp vmap" },
  { "nb.|t:", "poisson exponential multinomial randint_like gumbel_softmax" },
  { "t:", "uniform_ normal_ exponential_ bernoulli_ random_ new_zeros new_ones new_full new_empty new_tensor" },
  { "t:", "stride storage_offset element_size" },
  { "nb.", "multi_dot block_diag hstack vstack dstack column_stack broadcast_tensors meshgrid cartesian_prod" },
  { "nb.", "logspace tril_indices triu_indices" },
  { "t:", "index_put_ put_ index_copy_ index_fill_ masked_scatter_ lerp_ addcmul_ addcdiv_" },
  { "t:", "add_ sub_ mul_ div_ fill_ copy_ zero_ clamp_ exp_ relu_ masked_fill_ scatter_add_ index_add_" },
  { "t:", "backward detach retain_grad register_hook" },
  { "nb.", "operator anomaly grad no_grad seed threads memory" },
  { "nn.", "module is_module fit clip_grad_norm clip_grad_value" },
  { "net:", [[
    parameters named_parameters named_modules requires_grad train eval apply zero_grad state load_state to kind
    register_forward_hook register_forward_pre_hook register_backward_hook]] },
  { "nn.", [[
    Linear Conv1d Conv2d ConvTranspose2d MaxPool2d AvgPool2d AdaptiveAvgPool2d BatchNorm1d BatchNorm2d LayerNorm
    GroupNorm RMSNorm Dropout Embedding RNN LSTM GRU MultiheadAttention TransformerEncoderLayer Flatten Identity
    Sequential ModuleList Lambda Sigmoid Tanh ReLU LeakyReLU ELU GELU SiLU Softplus Softmax LogSoftmax
    MSELoss L1Loss HuberLoss BCELoss BCEWithLogitsLoss CrossEntropyLoss NLLLoss KLDivLoss HingeLoss
    mse l1 huber bce bce_with_logits cross_entropy nll kl_div hinge]] },
  { "nn.", [[
    ReLU6 PReLU SELU CELU Mish Hardsigmoid Hardtanh Hardswish Hardshrink Softshrink Tanhshrink Softsign Softmin
    Softmax2d LogSigmoid Threshold GLU SwiGLU
    SmoothL1Loss GaussianNLLLoss PoissonNLLLoss HingeEmbeddingLoss MarginRankingLoss CosineEmbeddingLoss
    MultiMarginLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss SoftMarginLoss TripletMarginLoss CTCLoss
    MaxPool1d MaxPool3d AvgPool1d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d LPPool1d LPPool2d LPPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d Conv3d
    ConvTranspose1d ConvTranspose3d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d LocalResponseNorm
    Dropout1d Dropout2d Dropout3d
    AlphaDropout FeatureAlphaDropout ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d
    ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d
    CircularPad2d CircularPad3d Upsample PixelShuffle PixelUnshuffle ChannelShuffle Unflatten Bilinear EmbeddingBag
    RNNCell LSTMCell GRUCell TransformerDecoderLayer TransformerDecoder Transformer CosineSimilarity PairwiseDistance
    ModuleDict ParameterList ParameterDict
    LazyLinear LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d
    LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d
    parameters_to_vector vector_to_parameters pad_sequence pack_padded_sequence pad_packed_sequence
    weight_norm spectral_norm AveragedModel
    smooth_l1 gaussian_nll poisson_nll hinge_embedding margin_ranking cosine_embedding multi_margin multi_label_margin
    multi_label_soft_margin soft_margin triplet_margin ctc]] },
  { "prune.", [[
    l1_unstructured random_unstructured ln_structured random_structured custom_from_mask remove is_pruned]] },
  { "init.", [[
    xavier_uniform xavier_normal kaiming_uniform kaiming_normal orthogonal constant uniform normal trunc_normal zeros
    ones eye dirac gain]] },
  { "optim.", "SGD Adam AdamW RMSprop Adagrad LBFGS StepLR CosineLR OneCycleLR ReduceLROnPlateau WarmupLR" },
  { "optim.", "NAdam RAdam Adamax Adadelta Rprop ASGD Adafactor Muon Lion MultiStepLR ExponentialLR LambdaLR" },
  { "optim.", "MultiplicativeLR ConstantLR PolynomialLR CyclicLR CosineAnnealingWarmRestarts ChainedScheduler" },
  { "optim.", "SequentialLR" },
  { "opt:", "step zero_grad state load_state add_group" },
  { "schedule:", "step state load_state" },
  { "nb.", "save load random_state help pretty progress" },
  { "data.", [[loader open image_folder csv_chunks concat sequential_sampler random_sampler weighted_sampler
    stratified_sampler iris wine digits]] },
  { "transforms.", [[Compose ToFloat Normalize CenterCrop RandomCrop Resize RandomHorizontalFlip RandomVerticalFlip
    RandomErasing RandomRotation RandomAffine ColorJitter]] },
  { "metrics.", "Accuracy ConfusionMatrix Precision Recall F1Score AUROC R2Score" },
  { "metric:", "update compute reset" },
  { "nb.distributions.", [[Normal Bernoulli Categorical Uniform Exponential Gamma Beta MultivariateNormal
    kl_divergence]] },
  { "d:", "sample rsample log_prob entropy" },
  { "data.", "batches split normalize csv image images resize idx fashion_mnist xor moons spirals circles blobs" },
}
