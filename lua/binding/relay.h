// SPDX-License-Identifier: MIT
// A transport that another process carries, so that this one stays a prompt: it starts a launcher, whose first process
// joins the group in its place and does what it is told in memory that both share.
//
//   prompt ──commands, bytes──► its carrier (rank 1 for MPI) ◄──MPI──► workers
//
// The prompt calls no MPI: it cannot be blocked or ended by it, may have one group after the other, and any launcher
// will do.  What it costs is a copy of the bytes there and back.  One relay a process, the computing thread's.
#ifndef NABLUA_RELAY_H
#define NABLUA_RELAY_H

#include "nablua/error.h"
#include "transport.h"

// Makes the memory; what a carrier finds it by goes to *pid and *fd.
bool nb_relay_open(int *pid, int *fd, Error *err);

// Starts the first of the launchers (names, NULL at the end) that is there with the arguments, of which the first
// becomes its name, and waits until all of its processes have joined.
bool nb_relay_start(const char *const *launchers, char **arguments, TransportPlace *place, Error *err);

// Of the group that was started.
const Transport *nb_relay_transport(void);

// Whether the launcher has ended, and with it the group; then `why` has the last that it said.
bool nb_relay_has_ended(char *why, size_t size);

// Asks the launcher to end all that it has started; from any thread.
void nb_relay_kill(void);

// Ends all of it.
void nb_relay_close(void);

// The carrier: joins the group by `real` and serves the prompt until that is gone; then the process is to end.
bool nb_relay_serve(const Transport *real, int pid, int fd, Error *err);

#endif
