// SPDX-License-Identifier: MIT
// Error sentences: formatting only.
#include "nablua/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool nb_fail(Error *err, ErrorKind kind, const char *format, ...) {
  va_list ap;
  err->kind = kind;
  va_start(ap, format);
  vsnprintf(err->message, sizeof err->message, format, ap);
  va_end(ap);
  return false;
}

bool nb_fail_more(Error *err, const char *format, ...) {
  size_t used = strlen(err->message);
  va_list ap;
  va_start(ap, format);
  vsnprintf(err->message + used, sizeof err->message - used, format, ap);
  va_end(ap);
  return false;
}
