// SPDX-License-Identifier: MIT
// Writing files: the one way in which anything here does.
//
// What is written goes to a temporary file in the target's folder, which is synced and takes the target's name at the
// end: whatever fails, or whenever the process is killed, the old file is whole or the new one is.
//
//   .nablua-PID-N.tmp ──write──▶ owner, rights ──▶ sync ──▶ names exchanged ──▶ sync of the folder ──▶ the old removed
//
// The old file has the temporary name until nothing can fail any more, so that a failure, also the last one that is
// possible, leaves it as it was; where the file system knows no exchange the new file takes its name over it.
// A file that is replaced keeps its rights and, where the system permits it, its owner and group; where it does not,
// setuid and setgid go and the group's rights become those of others, so that nobody gains any.  A link is followed:
// what it leads to is replaced, or made.  Temporary files that killed processes left in the folder are removed.
#ifndef NABLUA_REPLACE_H
#define NABLUA_REPLACE_H

#include <linux/limits.h>  // PATH_MAX, whatever standard a program asks for
#include <stdbool.h>
#include <stdint.h>

#include "nablua/error.h"

typedef enum Rights {
  NB_RIGHTS_KEPT,    // those of the file that is replaced; a new one's as the process makes files
  NB_RIGHTS_PRIVATE  // for its owner alone, whatever they were
} Rights;

// A file being replaced.
typedef struct Replacement {
  const char *path;  // as given, for messages
  uint64_t at;       // bytes written
  int fd;            // of the temporary file
  void *folder;      // the target's, open; NULL where it cannot be read
  bool exists;       // there is a file to be replaced, and what follows is its
  unsigned mode, owner, group;
  Rights rights;
  char target[PATH_MAX];  // where links lead
  char temporary[PATH_MAX + 64];
} Replacement;

// Begins.  `path` must live until the end.  On failure there is nothing to close.
bool nb_replace_open(Replacement *r, const char *path, Rights rights, Error *err);

bool nb_replace_write(Replacement *r, const void *data, uint64_t size, Error *err);

// Replaces bytes that were written before.
bool nb_replace_patch(Replacement *r, uint64_t at, const void *data, uint64_t size, Error *err);

// When `ok`, puts the new file in its place; else, or when that fails, removes it.  Returns whether all went well.
bool nb_replace_close(Replacement *r, bool ok, Error *err);

// All of that at once.
bool nb_replace_file(const char *path, const void *data, uint64_t size, Rights rights, Error *err);

// Adds bytes, which end in a line feed, to the end of a file, or makes it.  Those of several processes do not mix, and
// where it fails the file is as it was, unless it cannot even be cut again.
bool nb_append_line(const char *path, const void *data, uint64_t size, Error *err);

// ---- for tests ----

// The nth operation on files from now (1 = the next one) fails with errno `code`; 0 turns this off.
void nb_file_fail_at(uint64_t nth, int code);

// True while a failure set by nb_file_fail_at has not come yet.
bool nb_file_failing(void);

// The operations since the last nb_file_fail_at that was not 0, by name and in order, such as "list create lock write
// sync close rename sync-folder"; repeated ones stand once, and the one that failed has a "!" behind it.
const char *nb_file_log(void);

#endif
