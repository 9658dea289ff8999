// SPDX-License-Identifier: MIT
// What the bits of results depend on, beside the numbers and how many threads there are.
#ifndef NABLUA_KERNELS_H
#define NABLUA_KERNELS_H

// A clause such as "avx2 kernels, own large products": the level of the processor, and whose large matrix products are.
// Two processes that say the same give the same bits for the same operators, at the same number of threads.
const char *nb_kernels_way(void);

#endif
