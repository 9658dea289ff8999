// SPDX-License-Identifier: MIT
// Cells for another program: `nablua --cells MARKER rich|plain WIDTH FOLDER`, which `nablua check` runs; and the
// workers of a prompt, which on other machines have `"ADDRESS,ADDRESS PORT SECRET" NUMBER` behind it, where they
// connect.
//
// Standard input has cells: "LENGTH ANSWERS INTERRUPT\n", as many bytes of code, as many of answers to input(), a line
// each; with INTERRUPT 1 the cell is stopped as by Ctrl-C once it has run for half a second.  All
// output comes from standard output, as it is written; what is shown stands in it as events that begin with the marker:
//   MARKER value COUNT\n   then COUNT times "MIME LENGTH\n" and the bytes; also display, with " ID" behind the count,
//                          update, and page
//   MARKER clear\n, MARKER wait\n
//   MARKER error 3\n       with the parts name, message, frames in place of MIME types
//   MARKER end\n           the cell is done
#ifndef NABLUA_CELLS_H
#define NABLUA_CELLS_H

#include "session.h"

// The sink that writes such events; `marker` must outlive it.
Sink cells_sink(const char *marker);

// Connects standard input and output to who waits at `door`, telling it the number; false where nobody does.  From then
// on a byte out of band is an interrupt, and the end of the connection that of the process.
bool cells_connect(const char *door, const char *number);

// Runs cells until their end.
void cells_run(Session *s, const char *marker);

#endif
