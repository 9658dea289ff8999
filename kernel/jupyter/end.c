// SPDX-License-Identifier: MIT
// How the kernel is interrupted and how it ends, with all that it started.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "event.h"
#include "kernel.h"

enum { PATIENCE_S = 1 };

void kernel_interrupt(Kernel *k) {
  pthread_kill(k->evaluator, SIGINT);
}

void kernel_stop(Kernel *k) {
  atomic_store(&k->stopping, true);
  event_set(k->quit);
}

Session *kernel_take_session(Kernel *k) {
  pthread_mutex_lock(&k->lock);
  Session *session = k->session;
  k->session = NULL;
  pthread_mutex_unlock(&k->lock);
  return session;
}

void kernel_note_closed(Kernel *k) {
  pthread_mutex_lock(&k->lock);
  k->closed = true;
  pthread_cond_broadcast(&k->changed);
  pthread_mutex_unlock(&k->lock);
}

// ---- other programs ----

int kernel_signal_programs(int number) {
  _Alignas(struct dirent64) char entries[4096];  // no malloc: that may be what has crashed
  pid_t own = getpid();
  int count = 0, proc = getsid(0) == own ? open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (proc < 0) return 0;
  for (ssize_t length; (length = getdents64(proc, entries, sizeof entries)) > 0;) {
    const struct dirent64 *entry;
    for (ssize_t at = 0; at < length; at += entry->d_reclen) {
      entry = (const struct dirent64 *)(entries + at);
      pid_t pid = atoi(entry->d_name);
      if (pid > 0 && pid != own && getsid(pid) == own && kill(pid, number) == 0) count++;
    }
  }
  close(proc);
  return count;
}

// Programs that do not heed SIGTERM have a little time to do so.
static void end_programs(void) {
  for (int i = 0; i < 20; i++) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    if (kernel_signal_programs(0) == 0) return;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  }
  kernel_signal_programs(SIGKILL);
}

// ---- the end ----

static struct timespec in_seconds(double seconds) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  long long ns = t.tv_nsec + (long long)(seconds * 1e9);
  return (struct timespec){t.tv_sec + ns / 1000000000, ns % 1000000000};
}

_Noreturn void kernel_end(Kernel *k) {
  atomic_store(&k->stopping, true);
  struct timespec last = in_seconds(PATIENCE_S);
  pthread_mutex_lock(&k->lock);
  pthread_cond_broadcast(&k->changed);
  for (bool late = false; !k->closed && !late;) {
    pthread_mutex_unlock(&k->lock);
    kernel_interrupt(k);
    pthread_mutex_lock(&k->lock);
    struct timespec soon = in_seconds(0.1);
    if (!k->closed) pthread_cond_timedwait(&k->changed, &k->lock, &soon);
    struct timespec now = in_seconds(0);
    late = now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec);
  }
  Session *stuck = k->session;
  if (!k->closed && stuck) session_end_programs(stuck);
  pthread_mutex_unlock(&k->lock);
  kernel_signal_programs(SIGTERM);
  outbox_close(k->outbox);
  last = in_seconds(PATIENCE_S);
  if (pthread_timedjoin_np(k->io, NULL, &last) == 0) {
    zmq_close(k->connection.sockets[CONTROL]);
    zmq_ctx_shutdown(k->connection.context);
    pthread_join(k->heartbeat, NULL);
    zmq_ctx_term(k->connection.context);
  }
  connection_remove_files(&k->connection);
  end_programs();
  _exit(0);
}
