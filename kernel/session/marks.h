// SPDX-License-Identifier: MIT
// The lines that have breakpoints, by their sources as Lua names them.
#ifndef NABLUA_MARKS_H
#define NABLUA_MARKS_H

#include <lua.h>
#include <stdbool.h>

// The lines of a source: "=input 3", or "@" and a path without links.
typedef struct Marked {
  char *source;
  int *lines, count;
} Marked;

enum { KNOWN_FILES = 64, KNOWN_FUNCTIONS = 16 };

typedef struct Marks {
  Marked *marked;
  int count;
  struct {
    const char *at;      // where Lua has it
    char *name;          // NULL: nothing is known
    int marked;          // its place, or -1
  } known[KNOWN_FILES];  // files, under whatever name they were loaded
  struct {
    const char *source;  // where Lua has it
    int first, last;
  } within[KNOWN_FUNCTIONS];  // where functions are written of which one at least has code at a line
} Marks;

// The lines of a source from now on; false when there is no memory.
bool marks_set(Marks *m, const char *source, const int *lines, int count);

bool marks_has(Marks *m, const char *source, int line);

// Whether one stands in the function of a frame, whose source and lines are known.
bool marks_within(Marks *m, lua_State *L, lua_Debug *ar);

void marks_free(Marks *m);

#endif
