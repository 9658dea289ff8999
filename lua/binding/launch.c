// SPDX-License-Identifier: MIT
// The attributes of programs that the library starts.
#include "launch.h"

#include <signal.h>

int nb_spawn_begin(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, short belongs) {
  sigset_t none, usual;
  int status = posix_spawn_file_actions_init(actions);
  if (status) return status;
  if ((status = posix_spawnattr_init(attributes)) != 0) {
    posix_spawn_file_actions_destroy(actions);
    return status;
  }
  sigemptyset(&none);
  sigemptyset(&usual);
  sigaddset(&usual, SIGINT);
  sigaddset(&usual, SIGPIPE);
  posix_spawnattr_setsigmask(attributes, &none);
  posix_spawnattr_setsigdefault(attributes, &usual);
  posix_spawnattr_setflags(attributes, (short)(belongs | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  return 0;
}

void nb_spawn_end(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes) {
  posix_spawnattr_destroy(attributes);
  posix_spawn_file_actions_destroy(actions);
}
