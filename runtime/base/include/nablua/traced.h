// SPDX-License-Identifier: MIT
// What the trace tells of, and telling it: for whoever has something to tell.  Its words are chosen in trace.h.
//
// What nobody wants to hear of costs one predictable branch.
#ifndef NABLUA_TRACED_H
#define NABLUA_TRACED_H

#include <stdbool.h>
#include <stddef.h>

#include "nablua/error.h"

typedef enum TraceWord {
  NB_TRACE_OP,
  NB_TRACE_TAPE,
  NB_TRACE_WRITE,
  NB_TRACE_PLAN,
  NB_TRACE_WIRE,
  NB_TRACE_MEMORY,
  NB_TRACE_WORDS
} TraceWord;

typedef struct Traced {
  unsigned words;       // a bit for each
  bool contents;        // of messages, too
  size_t memory_bytes;  // blocks of at least so many are told of
  void (*tell)(const char *line);
} Traced;
extern Traced nb_traced;

static inline bool nb_is_traced(TraceWord word) {
  return __builtin_expect((nb_traced.words & 1u << word) != 0, 0);
}

// Sets all of it from words separated by commas, such as "op,wire=contents,memory=64K"; none: nothing is told.  False
// with a sentence, and nothing changed, when there is no such word.  The computing thread's.
bool nb_traced_set(const char *words, void (*tell)(const char *line), Error *err);

// Tells a line, which begins with the word; from any thread, so far as what was set to tell may be called there.
void nb_trace_line(TraceWord word, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
