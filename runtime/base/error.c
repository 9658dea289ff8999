// SPDX-License-Identifier: MIT
// Sentences: formatting only.
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

static void (*notice)(const char *sentence);

void nb_on_notice(void (*tell)(const char *sentence)) {
  notice = tell;
}

void nb_notice(const char *format, ...) {
  char sentence[1600];
  va_list ap;
  if (!notice) return;
  va_start(ap, format);
  vsnprintf(sentence, sizeof sentence, format, ap);
  va_end(ap);
  notice(sentence);
}
