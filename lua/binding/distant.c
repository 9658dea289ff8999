// SPDX-License-Identifier: MIT
// The prompt's end of the connections to workers on other machines.
#include "distant.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hub.h"
#include "nablua/memory.h"

enum { MOST = 256, SECRET = 16 /* bytes */, HELLO = 2 * SECRET + 8, SLICE = 100 /* ms */ };

typedef struct Worker {
  bool expected, gone;
  int socket, file;  // -1: not there
  char *waiting;     // what was sent before it came
  size_t length;
} Worker;

struct Distant {
  int listener, port;
  char secret[2 * SECRET + 1];
  pthread_t thread;
  pthread_mutex_t lock;  // of the workers
  bool listening, stop;
  Worker worker[MOST];
};

static int open_listener(int *port) {
  struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  union {
    struct sockaddr_in6 *v6;
    struct sockaddr *any;
  } a = {&at};
  socklen_t size = sizeof at;
  int no = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);  // version 4, too
  if (bind(fd, a.any, size) != 0 || listen(fd, MOST) != 0 || getsockname(fd, a.any, &size) != 0) {
    close(fd);
    return -1;
  }
  *port = ntohs(at.sin6_port);
  return fd;
}

Distant *nb_distant_open(void) {
  unsigned char bytes[SECRET];
  Error err;
  Distant *d = nb_alloc(sizeof *d, &err);
  errno = ENOMEM;
  if (!d) return NULL;
  memset(d, 0, sizeof *d);
  for (int i = 0; i < MOST; i++) d->worker[i].socket = d->worker[i].file = -1;
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes || (d->listener = open_listener(&d->port)) < 0) {
    nb_free(d, sizeof *d);
    return NULL;
  }
  for (int i = 0; i < SECRET; i++) snprintf(d->secret + 2 * i, 3, "%02x", bytes[i]);
  pthread_mutex_init(&d->lock, NULL);
  return d;
}

bool nb_distant_expect(Distant *d, int i, const char *file) {
  Worker *w = &d->worker[i];
  w->expected = true;
  return (w->file = open(file, O_WRONLY | O_APPEND | O_CLOEXEC)) >= 0;
}

void nb_distant_door(const Distant *d, char text[DISTANT_DOOR]) {
  char address[HUB_ADDRESSES][HUB_ADDRESS];
  int n = nb_hub_addresses(address), used = 0;
  *text = '\0';
  for (int i = 0; i < n; i++)
    used += snprintf(text + used, DISTANT_DOOR - (size_t)used, "%s%s", i > 0 ? "," : "", address[i]);
  snprintf(text + used, DISTANT_DOOR - (size_t)used, " %d %s", d->port, d->secret);
}

static bool send_all(int fd, const char *text, size_t left) {
  while (left > 0) {
    ssize_t n = send(fd, text, left, MSG_NOSIGNAL);
    if (n > 0) text += n, left -= (size_t)n;
    if (n < 0 && errno != EINTR) return false;
  }
  return true;
}

// ---- the thread ----

// The first line of who comes: the secret and its number, counted from 1.
static int read_hello(const Distant *d, int fd) {
  char line[HELLO + 1];
  size_t n = 0;
  struct timeval patience = {2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  while (n < HELLO && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n') n++;
  line[n] = '\0';
  long number = n > 2 * SECRET ? strtol(line + 2 * SECRET, NULL, 10) : 0;
  if (number < 1 || number > MOST || memcmp(line, d->secret, 2 * SECRET) != 0) return -1;
  const Worker *w = &d->worker[number - 1];
  return w->expected && w->socket < 0 && !w->gone ? (int)number - 1 : -1;
}

static void let_in(Distant *d) {
  int fd = accept(d->listener, NULL, NULL);
  if (fd < 0) return;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  int i = read_hello(d, fd);
  if (i < 0) {
    close(fd);
    return;
  }
  Worker *w = &d->worker[i];
  pthread_mutex_lock(&d->lock);
  w->socket = fd;
  if (w->length > 0 && !send_all(fd, w->waiting, w->length)) w->gone = true;
  pthread_mutex_unlock(&d->lock);
}

// What a worker says goes to its file; false at its end.
static bool take(const Worker *w) {
  char text[65536];
  ssize_t n = recv(w->socket, text, sizeof text, MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  for (ssize_t at = 0; at < n;) {
    ssize_t written = write(w->file, text + at, (size_t)(n - at));
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) at += written;
  }
  return n > 0;
}

static void *keep(void *user) {
  Distant *d = user;
  struct pollfd fds[MOST + 1];
  int who[MOST + 1];
  for (;;) {
    int n = 0;
    pthread_mutex_lock(&d->lock);
    bool stop = d->stop;
    for (int i = 0; i < MOST; i++)
      if (d->worker[i].socket >= 0 && !d->worker[i].gone)
        who[n] = i, fds[n++] = (struct pollfd){.fd = d->worker[i].socket, .events = POLLIN};
    pthread_mutex_unlock(&d->lock);
    if (stop) return NULL;
    fds[n] = (struct pollfd){.fd = d->listener, .events = POLLIN};
    if (poll(fds, (nfds_t)n + 1, SLICE) <= 0) continue;
    for (int k = 0; k < n; k++) {
      if (!fds[k].revents || take(&d->worker[who[k]])) continue;
      pthread_mutex_lock(&d->lock);
      d->worker[who[k]].gone = true;
      pthread_mutex_unlock(&d->lock);
    }
    if (fds[n].revents) let_in(d);
  }
}

// ---- the prompt ----

void nb_distant_listen(Distant *d) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the main thread's
  d->listening = pthread_create(&d->thread, NULL, keep, d) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool nb_distant_send(Distant *d, int i, const char *text, size_t length) {
  Worker *w = &d->worker[i];
  bool ok = true;
  pthread_mutex_lock(&d->lock);
  if (w->gone) {
    ok = false;
  } else if (w->socket < 0) {
    Error err;
    char *more = nb_alloc(w->length + length, &err);
    ok = more != NULL;
    if (ok) {
      if (w->waiting) memcpy(more, w->waiting, w->length);
      memcpy(more + w->length, text, length);
      if (w->waiting) nb_free(w->waiting, w->length);
      w->waiting = more, w->length += length;
    }
  }
  int fd = w->socket;
  pthread_mutex_unlock(&d->lock);
  return ok && (fd < 0 || send_all(fd, text, length));
}

// A byte out of band, which the worker takes for Ctrl-C.
void nb_distant_interrupt(Distant *d, int i) {
  pthread_mutex_lock(&d->lock);
  if (d->worker[i].socket >= 0 && !d->worker[i].gone) send(d->worker[i].socket, "!", 1, MSG_OOB | MSG_NOSIGNAL);
  pthread_mutex_unlock(&d->lock);
}

bool nb_distant_is_gone(Distant *d, int i) {
  pthread_mutex_lock(&d->lock);
  bool gone = d->worker[i].gone;
  pthread_mutex_unlock(&d->lock);
  return gone;
}

void nb_distant_close(Distant *d) {
  if (!d) return;
  pthread_mutex_lock(&d->lock);
  d->stop = true;
  pthread_mutex_unlock(&d->lock);
  if (d->listening) pthread_join(d->thread, NULL);
  for (int i = 0; i < MOST; i++) {
    if (d->worker[i].socket >= 0) close(d->worker[i].socket);
    if (d->worker[i].file >= 0) close(d->worker[i].file);
    if (d->worker[i].waiting) nb_free(d->worker[i].waiting, d->worker[i].length);
  }
  close(d->listener);
  pthread_mutex_destroy(&d->lock);
  nb_free(d, sizeof *d);
}
