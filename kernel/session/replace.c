// SPDX-License-Identifier: MIT
// Files of front ends, written as all others are.
#include "nablua/replace.h"

#include <stdio.h>

#include "session.h"

bool session_replace_file(const char *path, const void *data, size_t length, bool is_private, char *reason,
                          size_t size) {
  Error err;
  if (nb_replace_file(path, data, length, is_private ? NB_RIGHTS_PRIVATE : NB_RIGHTS_KEPT, &err)) return true;
  snprintf(reason, size, "%s", err.message);
  return false;
}
