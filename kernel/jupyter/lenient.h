// SPDX-License-Identifier: MIT
// Reading JSON as clients write it, beyond what JSON allows.
#ifndef NABLUA_LENIENT_H
#define NABLUA_LENIENT_H

#include <jansson.h>
#include <stddef.h>

// A text as a value that the caller owns; NULL when it cannot be read.  Clients in Python write NaN and Infinity, those
// in JavaScript halves of surrogate pairs, and numbers may be larger than a machine's: what is no finite number becomes
// null, a large integer a real number, half a character U+FFFD.
json_t *json_lenient(const char *data, size_t length);

#endif
