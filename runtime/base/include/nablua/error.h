// SPDX-License-Identifier: MIT
// Errors of the library: a kind and one clear sentence, filled by the function that failed.
//
// Every fallible function returns bool (or a pointer, NULL on failure) and takes a trailing
// Error *.  The error is written only on failure.  The library never prints, aborts or exits.
#ifndef NABLUA_ERROR_H
#define NABLUA_ERROR_H

#include <stdbool.h>

typedef enum ErrorKind {
  NB_ERROR_NONE,
  NB_ERROR_ARGUMENT,   // what the caller passed: shapes, dtypes, ranges, options
  NB_ERROR_STATE,      // right arguments at the wrong time: a freed tape, a changed tensor
  NB_ERROR_MEMORY,     // no memory, or the limit was reached
  NB_ERROR_FILE,       // reading or writing failed, or the content is not what it should be
  NB_ERROR_INTERRUPT,  // the user asked to stop
  NB_ERROR_CALLBACK    // a function that the embedder passed in failed; the embedder keeps what it said
} ErrorKind;

typedef struct Error {
  ErrorKind kind;
  char message[1500];
} Error;

// Fills `err` with a printf-style sentence, made printable (printable.h); returns false so that callers can `return
// nb_fail(...)`.
bool nb_fail(Error *err, ErrorKind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Appends to the message already in `err`; returns false.
bool nb_fail_more(Error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Where the library goes on, but not as somebody wished, it has one sentence for the embedder; without a function it is
// lost.
void nb_on_notice(void (*tell)(const char *sentence));
void nb_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
