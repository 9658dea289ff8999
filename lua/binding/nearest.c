// SPDX-License-Identifier: MIT
// Which name was meant, for errors that suggest one.
#include "nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { LONGEST = 60 };

// The edit distance of bytes of any case, where swapping neighbours counts once (Damerau 1964).
static int distance(const char *a, const char *b, int n, int m) {
  unsigned char d[LONGEST + 1][LONGEST + 1];  // of the first i bytes of a and the first j of b
  for (int i = 0; i <= n; i++) {
    for (int j = 0; j <= m; j++) {
      int best = i + j;
      if (i > 0 && j > 0) {
        best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
        if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
        if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
        bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
        if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
      }
      d[i][j] = (unsigned char)best;
    }
  }
  return d[n][m];
}

// A name and the nearest to it so far.  Distances are counted in halves: another first letter weighs half a change.
typedef struct Search {
  const char *name, *best;
  char lower[LONGEST + 1];
  int length, closest;  // the distance that the next must stay below
} Search;

static int to_lower(const char *text, char lower[LONGEST + 1]) {
  int n = 0;
  for (; text[n] && n < LONGEST; n++) lower[n] = (char)tolower((unsigned char)text[n]);
  return text[n] ? LONGEST + 1 : n;
}

// One letter may differ, of longer names one in three.
static Search search_for(const char *name) {
  Search s = {.name = name};
  s.length = to_lower(name, s.lower);
  int changes = s.length < 2 ? 0 : s.length < 6 ? 1 : s.length / 3;
  s.closest = s.length > LONGEST ? 0 : 2 * changes + 2;
  return s;
}

static void consider(Search *s, const char *candidate) {
  char lower[LONGEST + 1];
  int length = to_lower(candidate, lower), apart = length < s->length ? s->length - length : length - s->length;
  if (length > LONGEST || 2 * apart >= s->closest) return;
  int d = 2 * distance(s->lower, lower, s->length, length) + (*s->name != *candidate);
  if (d >= s->closest) return;
  s->closest = d;
  s->best = candidate;
}

const char *nb_nearest(const char *name, const char *const *list) {
  Search s = search_for(name);
  for (; *list; list++) consider(&s, *list);
  return s.best;
}
