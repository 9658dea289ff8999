// SPDX-License-Identifier: MIT
// The environment variables of the library: one table, which every front end obeys and every help prints.
//
// A variable is a row in environment.c.  What it sets in base/ is set when the library opens; the meaning of others
// lies above, and who gives it asks for their text when it first matters.
#ifndef NABLUA_ENVIRONMENT_H
#define NABLUA_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct EnvironmentRow {
  const char *name;
  const char *takes;                // what it should be, in words that follow "should be"
  const char *doc;                  // what it sets, in one line
  const char *fallback;             // what holds without it, and when its value is nonsense
  bool (*apply)(const char *text);  // false when the text is not what it takes; NULL where the owner asks for it
} EnvironmentRow;

extern const EnvironmentRow nb_environment_rows[];
extern const int nb_environment_count;

// Obeys the variables, at the first call in a process.  One that is nonsense is named by nb_notice, and its fallback
// holds.
void nb_environment_apply(void);

// The text of a variable in the table; NULL when it is not set.
const char *nb_environment(const char *name);

// For its owner, to whom the text is nonsense: says so, and that the fallback holds.
void nb_environment_refuse(const char *name);

// Writes two lines of each variable, for --help, as far as `size` bytes go.
void nb_environment_describe(char *text, size_t size);

#endif
