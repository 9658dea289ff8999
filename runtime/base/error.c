// SPDX-License-Identifier: MIT
// Sentences: formatting, and nothing in them that steers a terminal.
#include "nablua/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/printable.h"

// A sentence may name files and quote what they hold.
static void make_printable(char *message, size_t size) {
  char raw[sizeof((Error *)NULL)->message];
  size_t length = strlen(message);
  if (nb_is_printable(message, length)) return;
  memcpy(raw, message, length + 1);
  nb_printable_message(raw, length, message, size);
}

bool nb_fail(Error *err, ErrorKind kind, const char *format, ...) {
  va_list ap;
  err->kind = kind;
  va_start(ap, format);
  vsnprintf(err->message, sizeof err->message, format, ap);
  va_end(ap);
  make_printable(err->message, sizeof err->message);
  return false;
}

bool nb_fail_more(Error *err, const char *format, ...) {
  size_t used = strlen(err->message);
  va_list ap;
  va_start(ap, format);
  vsnprintf(err->message + used, sizeof err->message - used, format, ap);
  va_end(ap);
  make_printable(err->message, sizeof err->message);
  return false;
}

static void (*notice)(const char *sentence);

void nb_on_notice(void (*tell)(const char *sentence)) {
  notice = tell;
}

void nb_notice(const char *format, ...) {
  char sentence[sizeof((Error *)NULL)->message];
  va_list ap;
  if (!notice) return;
  va_start(ap, format);
  vsnprintf(sentence, sizeof sentence, format, ap);
  va_end(ap);
  make_printable(sentence, sizeof sentence);
  notice(sentence);
}
