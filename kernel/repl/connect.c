// SPDX-License-Identifier: MIT
// Cells from another machine: the end of the connection that is not the prompt's.
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cells.h"

enum { PATIENCE = 3000 /* ms, for one address */, ADDRESS = 64 };

static int prompt = -1;

// Something has come, or the prompt is gone, and nobody will read what this computes.
static void on_input(int number) {
  char byte;
  (void)number;
  if (recv(prompt, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) _exit(1);
}

static bool is_connected(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  struct pollfd p = {.fd = fd, .events = POLLOUT};
  return poll(&p, 1, PATIENCE) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

static int reach(const char *address, const char *port) {
  struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
  if (getaddrinfo(address, port, &hints, &found) != 0) return -1;
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0 && !is_connected(fd)) {
    close(fd);
    fd = -1;
  }
  freeaddrinfo(found);
  return fd;
}

bool cells_connect(const char *door, const char *number) {
  char address[ADDRESS], port[8], secret[64], hello[128];
  const char *behind = strchr(door, ' ');
  if (!behind || sscanf(behind, "%7s %63s", port, secret) != 2) return false;
  int fd = -1;
  for (const char *at = door; fd < 0 && at < behind; at += strcspn(at, ", ") + 1) {
    snprintf(address, sizeof address, "%.*s", (int)strcspn(at, ", "), at);
    fd = reach(address, port);
  }
  if (fd < 0) return false;
  int length = snprintf(hello, sizeof hello, "%s%s\n", secret, number);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  if (write(fd, hello, (size_t)length) != length) return false;
  prompt = fd;
  dup2(fd, STDIN_FILENO);
  dup2(fd, STDOUT_FILENO);
  sigaction(SIGIO, &(struct sigaction){.sa_handler = on_input, .sa_flags = SA_RESTART}, NULL);
  fcntl(fd, F_SETOWN, getpid());
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
  return true;
}
