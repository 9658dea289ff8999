// SPDX-License-Identifier: MIT
// Finding breakpoints by the names that sources have where they run.
#include "marks.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int place_of(const Marks *m, const char *source) {
  for (int i = 0; i < m->count; i++)
    if (strcmp(m->marked[i].source, source) == 0) return i;
  return -1;
}

static void forget_known(Marks *m) {
  for (int i = 0; i < KNOWN_FILES; i++) {
    free(m->known[i].name);
    m->known[i].name = NULL;
  }
  memset(m->within, 0, sizeof m->within);
}

static int look_for_file(const Marks *m, const char *source) {
  char real[PATH_MAX + 1];
  *real = '@';
  return place_of(m, realpath(source + 1, real + 1) ? real : source);
}

// Of a file: asking the system for its path takes long, so that the answer is kept.
static int place_of_file(Marks *m, const char *source) {
  int i = (int)((uintptr_t)source >> 4) & (KNOWN_FILES - 1);
  if (m->known[i].name && m->known[i].at == source && strcmp(m->known[i].name, source) == 0) return m->known[i].marked;
  int place = look_for_file(m, source);
  free(m->known[i].name);
  m->known[i].at = source;
  m->known[i].name = strdup(source);
  m->known[i].marked = place;
  return place;
}

static const Marked *find(Marks *m, const char *source) {
  int place = m->count == 0 ? -1 : *source == '@' ? place_of_file(m, source) : place_of(m, source);
  return place < 0 ? NULL : &m->marked[place];
}

static bool add(Marks *m, const char *source) {
  Marked *bigger = realloc(m->marked, (size_t)(m->count + 1) * sizeof *bigger);
  if (!bigger) return false;
  m->marked = bigger;
  m->marked[m->count] = (Marked){.source = strdup(source)};
  return m->marked[m->count].source && ++m->count;
}

static void take_out(Marks *m, int place) {
  free(m->marked[place].source);
  free(m->marked[place].lines);
  m->marked[place] = m->marked[--m->count];
}

bool marks_set(Marks *m, const char *source, const int *lines, int count) {
  forget_known(m);
  int place = place_of(m, source);
  if (count == 0) {
    if (place >= 0) take_out(m, place);
    return true;
  }
  int *own = malloc((size_t)count * sizeof *own);
  if (!own || (place < 0 && !add(m, source))) {
    free(own);
    return false;
  }
  memcpy(own, lines, (size_t)count * sizeof *own);
  Marked *marked = &m->marked[place < 0 ? m->count - 1 : place];
  free(marked->lines);
  marked->lines = own;
  marked->count = count;
  return true;
}

bool marks_has(Marks *m, const char *source, int line) {
  const Marked *marked = find(m, source);
  for (int i = 0; marked && i < marked->count; i++)
    if (marked->lines[i] == line) return true;
  return false;
}

// A function has the lines of those that are written within it between its own, and none of them runs in it.  Lua's
// answer is a table, so that a yes is kept; one that is wrong of a second function in the same lines costs time alone.
static bool has_code_at(Marks *m, lua_State *L, lua_Debug *ar, const Marked *marked) {
  int slot = (int)((uintptr_t)ar->source >> 4 ^ (unsigned)ar->linedefined) & (KNOWN_FUNCTIONS - 1);
  bool has = false;
  if (m->within[slot].source == ar->source && m->within[slot].first == ar->linedefined &&
      m->within[slot].last == ar->lastlinedefined)
    return true;
  if (!lua_checkstack(L, 2)) return true;
  lua_getinfo(L, "L", ar);
  bool known = lua_istable(L, -1);
  for (int i = 0; known && !has && i < marked->count; i++) {
    lua_rawgeti(L, -1, marked->lines[i]);
    has = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  if (!has && known) return false;
  m->within[slot].source = ar->source;
  m->within[slot].first = ar->linedefined;
  m->within[slot].last = ar->lastlinedefined;
  return true;
}

bool marks_within(Marks *m, lua_State *L, lua_Debug *ar) {
  const Marked *marked = find(m, ar->source);
  for (int i = 0; marked && i < marked->count; i++)
    if (ar->linedefined == 0 || (marked->lines[i] >= ar->linedefined && marked->lines[i] <= ar->lastlinedefined))
      return has_code_at(m, L, ar, marked);
  return false;
}

void marks_free(Marks *m) {
  while (m->count > 0) take_out(m, m->count - 1);
  free(m->marked);
  forget_known(m);
}
