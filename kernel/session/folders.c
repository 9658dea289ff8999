// SPDX-License-Identifier: MIT
// Finding and making the user's folders.
#include "folders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool folder_path(char *path, size_t size, const char *variable, const char *otherwise, const char *rest) {
  const char *named = getenv(variable), *home = getenv("HOME");
  int n = named && *named ? snprintf(path, size, "%s/%s", named, rest)
                          : snprintf(path, size, "%s/%s/%s", home ? home : "", otherwise, rest);
  bool somewhere = (named && *named) || (home && *home);
  return somewhere && n > 0 && (size_t)n < size;
}

bool folder_make(const char *path, unsigned rights) {
  char *folder = strdup(path);
  bool ok = folder != NULL;
  for (char *slash = ok ? strchr(folder + 1, '/') : NULL; slash && ok; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    ok = mkdir(folder, rights) == 0 || errno == EEXIST;
    *slash = '/';
  }
  free(folder);
  return ok;
}
