// SPDX-License-Identifier: MIT
// What front ends say of the library's environment variables: they know nothing of the library itself.
#include "nablua/environment.h"

#include "session.h"

void session_describe_environment(char *text, size_t size) {
  nb_environment_describe(text, size);
}
