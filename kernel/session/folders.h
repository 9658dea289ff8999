// SPDX-License-Identifier: MIT
// The user's folders, where the variables of the XDG specification or the home folder have them.
#ifndef NABLUA_FOLDERS_H
#define NABLUA_FOLDERS_H

#include <stdbool.h>
#include <stddef.h>

// Writes the path of `rest` below the folder that the variable names or, where that is not set, `otherwise` in the home
// folder: ("XDG_STATE_HOME", ".local/state", "nablua/history.sqlite").  False when there is no such folder, or no room.
bool folder_path(char *path, size_t size, const char *variable, const char *otherwise, const char *rest);

// Makes every folder that the path names before its last '/', with these rights.  False, with errno, when one cannot
// be.
bool folder_make(const char *path, unsigned rights);

#endif
