// SPDX-License-Identifier: MIT
// Cells for another program: `nablua --cells MARKER rich|plain WIDTH`, which `nablua check` runs.
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

// Runs cells until their end.
void cells_run(Session *s, const char *marker);

#endif
