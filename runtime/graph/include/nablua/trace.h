// SPDX-License-Identifier: MIT
// A running account of what happens, a line each: for whoever looks for a fault in the library itself.
#ifndef NABLUA_TRACE_H
#define NABLUA_TRACE_H

#include "nablua/error.h"

// Tells from now on of what `words` name, separated by commas, and of nothing else; an empty text ends it:
//
//   op      what the user applies: its tensors, its results, the user's line
//   tape    what each backward rule gives
//   write   writes into memory that existed before
//   plan    what becomes of compiled functions: recorded, kept, replayed, and why not
//   wire    messages of the Jupyter kernel; with wire=contents what they say, too
//   memory  large blocks, the cache, the limit; with memory=SIZE blocks of that size and above
//
// False with a sentence when there is no such word.  It changes nothing in what is computed.  `tell` is called by the
// computing thread, and for `wire` by those that send.
bool nb_trace(const char *words, void (*tell)(const char *line), Error *err);

#endif
