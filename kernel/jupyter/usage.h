// SPDX-License-Identifier: MIT
// What the kernel takes of the machine, the processor time of its programs included, for a client's panel.
#ifndef NABLUA_USAGE_H
#define NABLUA_USAGE_H

#include <jansson.h>

// {"hostname", "pid", "kernel_cpu", "kernel_memory", "cpu_count", "host_virtual_memory", "host_cpu_percent"}: memory in
// bytes, processors in percent of one since the call before.  What the system does not tell is left out.  For one
// thread.
json_t *usage_now(void);

#endif
