// SPDX-License-Identifier: MIT
// How programs that the library starts begin.
#ifndef NABLUA_LAUNCH_H
#define NABLUA_LAUNCH_H

#include <spawn.h>

// Prepares the starting of a program in which no signal is blocked and Ctrl-C and broken pipes end it; `belongs`:
// POSIX_SPAWN_SETSID for a session of its own, POSIX_SPAWN_SETPGROUP for a group.  0 or an errno; where it is 0 both
// are to be ended by nb_spawn_end.
int nb_spawn_begin(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, short belongs);
void nb_spawn_end(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes);

#endif
