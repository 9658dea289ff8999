// SPDX-License-Identifier: MIT
// The threads that own sockets.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "event.h"
#include "kernel.h"

enum { COLLECT_MS = 100, REACH_MS = 20, VISIT_MS = 10 };

// How long requests wait at the start: until no listener has come for SETTLE_MS, but not longer than HOLD_MS.  ZeroMQ
// tries to connect again after 100 to 200 ms, each socket in its own time.
enum { SETTLE_MS = 200, HOLD_MS = 500 };

// ---- io ----

// An answer to input(); one that nobody waits for is too late.
static void receive_answer(Kernel *k, Frames *frames) {
  Message m;
  const char *why;
  trace_frames("in", STDIN, frames);
  if (!message_read(&m, k->wire, frames, &why)) {
    kernel_log("dropped a message on stdin: %s", why);
    return;
  }
  json_t *value = json_object_get(m.content, "value");
  size_t length = json_string_length(value);
  char *copy = strcmp(m.type, "input_reply") == 0 ? calloc(length + 1, 1) : NULL;
  if (copy) {
    if (length > 0) memcpy(copy, json_string_value(value), length);
    pthread_mutex_lock(&k->lock);
    if (k->asking && !k->answer) {
      k->answer = copy;
      k->answer_length = length;
      copy = NULL;
      event_set(k->answered);
    }
    pthread_mutex_unlock(&k->lock);
    free(copy);
  }
  message_free(&m);
}

// The start of a kernel, when the clients of the one before come back, each socket by itself: what is said before a
// client listens again is lost to it.
typedef struct Start {
  double begin, heard;   // when the kernel began, and when the last listener came: 0 before the first
  bool open, announced;  // requests are read; somebody was told that the kernel starts
} Start;

// Milliseconds until requests are read; 0 from then on.
static int start_wait(Start *s) {
  double now = session_clock(), end = s->begin + (double)HOLD_MS / 1000, settled = s->heard + (double)SETTLE_MS / 1000;
  if (s->heard > 0 && settled < end) end = settled;
  if (now >= end) s->open = true;
  return s->open ? 0 : 1 + (int)(1000 * (end - now));
}

// Says that the kernel starts as soon as there is who hears it, before all that requests are answered with.
static void announce(Kernel *k, Start *s) {
  if (s->announced || !s->open || s->heard <= 0) return;
  s->announced = true;
  outbox_publish(k->outbox, "status", NULL, json_pack("{s:s}", "execution_state", "starting"));
}

// A client that begins to listen is told so first: what it asks for from now on it will see.
static void subscribe(Kernel *k, Start *start, Frames *message) {
  void *s = k->connection.sockets[IOPUB];
  const char *data = zmq_msg_data(&message->items[0]);
  size_t length = zmq_msg_size(&message->items[0]);
  if (length == 0 || *data > 1) return;
  zmq_setsockopt(s, *data ? ZMQ_SUBSCRIBE : ZMQ_UNSUBSCRIBE, data + 1, length - 1);
  if (*data == 0) return;
  start->heard = session_clock();
  Frames f = {0};
  frames_add_bytes(&f, data + 1, length - 1);
  json_t *content = json_pack("{s:o}", "subscription", json_text(data + 1, length - 1));
  if (!wire_write(k->wire, &f, "iopub_welcome", NULL, content)) {
    frames_free(&f);
    return;
  }
  trace_frames("out", IOPUB, &f);
  frames_send(&f, s);
}

static void receive_all(Kernel *k, Start *start) {
  Frames f;
  while (start->open && frames_receive(&f, k->connection.sockets[SHELL])) {
    trace_frames("in", SHELL, &f);
    queue_add(k, &f, request_level);
  }
  while (frames_receive(&f, k->connection.sockets[STDIN])) receive_answer(k, &f);
  while (frames_receive(&f, k->connection.sockets[IOPUB])) {
    subscribe(k, start, &f);
    frames_free(&f);
  }
}

// Asks when the client listens on stdin: its first cell may come before that connection.  True while it waits.
static bool ask_when_reached(Kernel *k, Frames *question) {
  if (question->count == 0) return false;
  pthread_mutex_lock(&k->lock);
  bool asking = k->asking;
  pthread_mutex_unlock(&k->lock);
  if (!asking) frames_free(question);
  if (asking) frames_send(question, k->connection.sockets[STDIN]);
  return question->count > 0;
}

void *io_thread(void *kernel) {
  Kernel *k = kernel;
  Outbox *o = k->outbox;
  void **sockets = k->connection.sockets;
  Frames question = {0};
  Start start = {.begin = session_clock()};
  outbox_attach(o);
  while (!outbox_is_done(o)) {
    Channel channel;
    Frames f;
    int wait, hold = start.open ? 0 : start_wait(&start);
    announce(k, &start);
    for (int i = 0; i < 1000 && outbox_take(o, &channel, &f, &wait); i++) {
      trace_frames("out", channel, &f);
      if (channel == STDIN) {
        frames_free(&question);
        question = f;
      } else {
        frames_send(&f, sockets[channel]);
      }
    }
    if (ask_when_reached(k, &question) && (wait < 0 || wait > REACH_MS)) wait = REACH_MS;
    if (hold > 0 && (wait < 0 || wait > hold)) wait = hold;
    bool evaluating = atomic_load(&k->evaluating), visited = evaluating && atomic_load(&k->visitors) > 0;
    if (visited && (wait < 0 || wait > VISIT_MS)) wait = VISIT_MS;
    if (evaluating && (wait < 0 || wait > COLLECT_MS)) wait = COLLECT_MS;
    short requests = start.open ? ZMQ_POLLIN : 0;
    zmq_pollitem_t items[] = {{sockets[SHELL], 0, requests, 0},         {sockets[STDIN], 0, ZMQ_POLLIN, 0},
                              {sockets[IOPUB], 0, ZMQ_POLLIN, 0},       {NULL, outbox_event(o), ZMQ_POLLIN, 0},
                              {NULL, outbox_pipe(o, 0), ZMQ_POLLIN, 0}, {NULL, outbox_pipe(o, 1), ZMQ_POLLIN, 0}};
    int ready = zmq_poll(items, sizeof items / sizeof *items, wait);
    if (ready < 0 && zmq_errno() != EINTR) break;
    if (ready > 0) receive_all(k, &start);
    if (atomic_load(&k->visitors) > 0) queue_attend(k);
    if (evaluating || items[4].revents || items[5].revents) outbox_collect(o);
  }
  frames_free(&question);
  zmq_close(sockets[SHELL]);
  zmq_close(sockets[STDIN]);
  zmq_close(sockets[IOPUB]);
  return NULL;
}

// ---- heartbeat ----

void *heartbeat_thread(void *kernel) {
  Kernel *k = kernel;
  void *s = k->connection.sockets[HEARTBEAT];
  zmq_pollitem_t item = {s, 0, ZMQ_POLLIN, 0};
  Frames f;
  while (zmq_poll(&item, 1, -1) >= 0 || zmq_errno() == EINTR)
    while (frames_receive(&f, s)) frames_send(&f, s);
  zmq_close(s);
  return NULL;
}

// ---- control ----

// Becomes readable when that process ends; -1 where the system has no such thing.
static int watch_process(pid_t pid) {
#ifdef SYS_pidfd_open
  if (pid > 0) return (int)syscall(SYS_pidfd_open, pid, 0);
#endif
  (void)pid;
  return -1;
}

void *control_thread(void *kernel) {
  Kernel *k = kernel;
  void *s = k->connection.sockets[CONTROL];
  int parent = watch_process(k->parent);
  zmq_pollitem_t items[] = {{s, 0, ZMQ_POLLIN, 0},
                            {NULL, k->quit, ZMQ_POLLIN, 0},
                            {NULL, k->replied, ZMQ_POLLIN, 0},
                            {NULL, parent, ZMQ_POLLIN, 0}};
  for (;;) {
    Frames f;
    // Where a process cannot be watched, its children get another parent.
    bool look = k->parent > 0 && parent < 0;
    int ready = zmq_poll(items, parent < 0 ? 3 : 4, look ? 1000 : -1);
    if (ready < 0 && zmq_errno() != EINTR) kernel_stop(k);
    while (frames_receive(&f, s)) {
      trace_frames("in", CONTROL, &f);
      if (!queue_add_control(k, &f)) request_handle(k, CONTROL, &(Job){.frames = f});
    }
    if (items[2].revents) event_clear(k->replied);
    while (queue_take_reply(k, &f)) {
      trace_frames("out", CONTROL, &f);
      frames_send(&f, s);
    }
    bool orphan = (parent >= 0 && items[3].revents) || (look && getppid() != k->parent);
    if (orphan) kernel_log("the process that started this kernel has ended, and so does the kernel");
    if (orphan || atomic_load(&k->stopping)) kernel_end(k);
  }
}
