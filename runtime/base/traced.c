// SPDX-License-Identifier: MIT
// The words of the trace, and its lines.
#include "nablua/traced.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Traced nb_traced;

enum { LINE = 1000 };
static const size_t LARGE = 1000000;  // bytes of a block that is told of where no size is given

static const char *const names[NB_TRACE_WORDS] = {
    [NB_TRACE_OP] = "op",     [NB_TRACE_TAPE] = "tape", [NB_TRACE_WRITE] = "write",
    [NB_TRACE_PLAN] = "plan", [NB_TRACE_WIRE] = "wire", [NB_TRACE_MEMORY] = "memory",
};

// "64K", "1M" or plain bytes.
static bool read_size(const char *text, size_t n, size_t *bytes) {
  char *end;
  double size = strtod(text, &end);
  if (end == text || end > text + n || !(size >= 0 && size <= 1e15)) return false;
  if (end < text + n) size *= *end == 'K' || *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : -1;
  *bytes = (size_t)(size < 0 ? 0 : size);
  return size >= 0 && text + n - end <= 1;
}

// Adds one word of n bytes with what may follow its "=".
static bool add_word(Traced *t, const char *word, size_t n, Error *err) {
  size_t length = strcspn(word, "=,");
  const char *value = length < n ? word + length + 1 : NULL;
  for (int i = 0; i < NB_TRACE_WORDS; i++) {
    if (strlen(names[i]) != length || strncmp(names[i], word, length) != 0) continue;
    t->words |= 1u << i;
    if (!value) return true;
    if (i == NB_TRACE_WIRE && n - length - 1 == 8 && strncmp(value, "contents", 8) == 0) return t->contents = true;
    if (i == NB_TRACE_MEMORY && read_size(value, n - length - 1, &t->memory_bytes)) return true;
    return nb_fail(err, NB_ERROR_ARGUMENT, "trace: \"%.*s\" is not understood; only wire=contents and memory=SIZE are",
                   (int)n, word);
  }
  return nb_fail(err, NB_ERROR_ARGUMENT,
                 "trace: there is no word \"%.*s\"; there are op, tape, write, plan, wire and memory", (int)length,
                 word);
}

bool nb_traced_set(const char *words, void (*tell)(const char *line), Error *err) {
  Traced t = {.tell = tell, .memory_bytes = LARGE};
  for (const char *at = words; *at;) {
    size_t n = strcspn(at, ",");
    if (!add_word(&t, at, n, err)) return false;
    at += n + (at[n] == ',');
  }
  nb_traced = t;
  return true;
}

void nb_trace_line(TraceWord word, const char *format, ...) {
  char line[LINE];
  va_list ap;
  int used = snprintf(line, sizeof line, "%-5s ", names[word]);
  va_start(ap, format);
  vsnprintf(line + used, sizeof line - (size_t)used, format, ap);
  va_end(ap);
  nb_traced.tell(line);
}
