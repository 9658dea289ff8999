// SPDX-License-Identifier: MIT
// Where clients find the kernel: the connection file, and the five sockets bound as it says.
#ifndef NABLUA_CONNECTION_H
#define NABLUA_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "wire.h"

typedef enum Channel { SHELL, IOPUB, STDIN, CONTROL, HEARTBEAT, CHANNELS } Channel;

// It lives as long as the process; those who use a socket close it.
typedef struct Connection {
  char *path;  // of the file
  char *key;
  char *transport, *ip;
  int ports[CHANNELS];
  int registration_port;  // 0: none waits for a handshake
  char *curve_public, *curve_secret;
  void *context, *sockets[CHANNELS];
} Connection;

// Reads the file and binds.  Ports of 0 are chosen and written back.  On failure `reason` says why.
bool connection_open(Connection *c, const char *path, char *reason, size_t size);

// Tells the ports to the launcher that waits at the registration port, and awaits its signed answer.
bool connection_register(Connection *c, Wire *wire, char *reason, size_t size);

// Removes the files of sockets that are files, which ZeroMQ leaves.
void connection_remove_files(const Connection *c);

// {"shell_port": ..., ...}
json_t *connection_ports(const Connection *c);

#endif
