// SPDX-License-Identifier: MIT
// The queue, the streams over it, and the text between messages.
#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "event.h"
#include "session.h"
#include "text.h"
#include "unicode.h"

enum {
  OUT,
  ERR,
  STREAMS,
  PIECE = 1 << 18,    // bytes of text in one message
  BACKLOG = 8 << 20,  // bytes of text after which who prints must wait
  GATHER_MS = 50,     // between messages of text
  READS = 64,         // from a pipe at a time
};

typedef enum Kind { MESSAGE, TEXT, TEXT_END } Kind;

typedef struct Item {
  struct Item *next;
  Kind kind;
  // MESSAGE
  Channel channel;
  Frames frames;
  // TEXT: of a stream, an answer to `parent`
  int stream;
  zmq_msg_t parent;
  Text text;
} Item;

struct Outbox {
  Wire *wire;
  pthread_mutex_t lock;
  pthread_cond_t room;
  Item *first, *last;
  size_t backlog;
  bool closed, quiet, has_parent;
  bool others;  // programs may have written into the pipes
  zmq_msg_t parent;
  int event, pipes[STREAMS];
  // Of the io thread: what waits for the rest of its character, and whose it is.
  char tails[STREAMS][4];
  size_t tail_lengths[STREAMS];
  zmq_msg_t tail_parent;
  double text_sent;  // when text was sent last, in seconds
};

static int log_descriptor = STDERR_FILENO;
static _Thread_local bool is_sender;

int kernel_log_descriptor(void) {
  return log_descriptor;
}

void kernel_log(const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (n < 0) return;
  dprintf(log_descriptor, "nablua-kernel: %s\n", line);
}

// ---- adding; under the lock ----

// NULL when there is no memory: what was to be said is lost, the kernel goes on.
static Item *add(Outbox *o, Kind kind) {
  Item *item = calloc(1, sizeof *item);
  if (!item) return NULL;
  item->kind = kind;
  if (o->last)
    o->last->next = item;
  else
    o->first = item;
  o->last = item;
  event_set(o->event);
  return item;
}

static void add_text(Outbox *o, int stream, const char *data, size_t length) {
  if (o->quiet || o->closed) return;
  if (!o->has_parent) {  // nobody asked for it
    ssize_t n = write(log_descriptor, data, length);
    (void)n;
    return;
  }
  while (length > 0) {
    Item *t = o->last;
    if (!t || t->kind != TEXT || t->stream != stream || t->text.length >= PIECE) {
      if (!(t = add(o, TEXT))) return;
      t->stream = stream;
      zmq_msg_init(&t->parent);
      zmq_msg_copy(&t->parent, &o->parent);
    }
    size_t n = PIECE - t->text.length < length ? PIECE - t->text.length : length;
    text_add(&t->text, data, n);
    if (t->text.failed) return;
    o->backlog += n;
    data += n;
    length -= n;
    if (t->text.length == PIECE) event_set(o->event);
  }
}

static void empty_pipes(Outbox *o) {
  if (!o->others && !is_sender) return;  // spares a call of the system for each line that is printed
  static _Thread_local char buffer[1 << 14];
  struct pollfd ready[STREAMS] = {{o->pipes[OUT], POLLIN, 0}, {o->pipes[ERR], POLLIN, 0}};
  if (poll(ready, STREAMS, 0) <= 0) return;
  for (int i = 0; i < STREAMS; i++) {
    ssize_t n;
    if (!(ready[i].revents & POLLIN)) continue;
    for (int reads = 0; reads < READS && (n = read(o->pipes[i], buffer, sizeof buffer)) > 0; reads++)
      add_text(o, i, buffer, (size_t)n);
  }
}

// ---- the C streams ----

static ssize_t print(Outbox *o, int stream, const char *data, size_t length) {
  pthread_mutex_lock(&o->lock);
  while (o->backlog > BACKLOG && !is_sender && !o->closed) pthread_cond_wait(&o->room, &o->lock);
  empty_pipes(o);
  add_text(o, stream, data, length);
  pthread_mutex_unlock(&o->lock);
  return (ssize_t)length;
}

static ssize_t print_out(void *cookie, const char *data, size_t length) {
  return print(cookie, OUT, data, length);
}

static ssize_t print_err(void *cookie, const char *data, size_t length) {
  fflush(stdout);
  return print(cookie, ERR, data, length);
}

// Puts a pipe in the place of a descriptor; its other end.
static int divert(int descriptor) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 || dup2(ends[1], descriptor) < 0) return -1;
  close(ends[1]);
  return ends[0];
}

Outbox *outbox_new(Wire *wire) {
  Outbox *o = calloc(1, sizeof *o);
  if (!o) return NULL;
  o->wire = wire;
  pthread_mutex_init(&o->lock, NULL);
  pthread_cond_init(&o->room, NULL);
  zmq_msg_init(&o->parent);
  zmq_msg_init(&o->tail_parent);
  o->event = event_new();
  int original = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  if (original >= 0) log_descriptor = original;
  o->pipes[OUT] = divert(STDOUT_FILENO);
  o->pipes[ERR] = divert(STDERR_FILENO);
  FILE *out = fopencookie(o, "w", (cookie_io_functions_t){.write = print_out});
  FILE *err = fopencookie(o, "w", (cookie_io_functions_t){.write = print_err});
  if (o->event < 0 || o->pipes[OUT] < 0 || o->pipes[ERR] < 0 || !out || !err) return NULL;
  setvbuf(out, NULL, _IOFBF, 1 << 13);
  setvbuf(err, NULL, _IONBF, 0);
  stdout = out;
  stderr = err;
  return o;
}

// ---- posting ----

void outbox_post(Outbox *o, Channel channel, Frames *frames) {
  pthread_mutex_lock(&o->lock);
  empty_pipes(o);
  Item *item = o->closed ? NULL : add(o, MESSAGE);
  if (item) {
    item->channel = channel;
    item->frames = *frames;
    *frames = (Frames){0};
  }
  pthread_mutex_unlock(&o->lock);
  frames_free(frames);
}

void outbox_publish(Outbox *o, const char *type, zmq_msg_t *parent, json_t *content) {
  Frames f = {0};
  frames_add_bytes(&f, type, strlen(type));
  if (wire_write(o->wire, &f, type, parent, content)) {
    outbox_post(o, IOPUB, &f);
  } else {
    kernel_log("a message of the type %s could not be written", type);
    frames_free(&f);
  }
}

void outbox_begin(Outbox *o, zmq_msg_t *header, bool quiet) {
  pthread_mutex_lock(&o->lock);
  empty_pipes(o);
  zmq_msg_copy(&o->parent, header);
  o->has_parent = true;
  o->quiet = quiet;
  pthread_mutex_unlock(&o->lock);
}

void outbox_expect_programs(Outbox *o) {
  pthread_mutex_lock(&o->lock);
  o->others = true;
  pthread_mutex_unlock(&o->lock);
}

void outbox_flush(Outbox *o) {
  fflush(stdout);
  pthread_mutex_lock(&o->lock);
  empty_pipes(o);
  pthread_mutex_unlock(&o->lock);
}

void outbox_end(Outbox *o) {
  outbox_flush(o);
  pthread_mutex_lock(&o->lock);
  add(o, TEXT_END);
  o->quiet = false;
  pthread_mutex_unlock(&o->lock);
}

void outbox_close(Outbox *o) {
  pthread_mutex_lock(&o->lock);
  o->closed = true;
  pthread_cond_broadcast(&o->room);
  event_set(o->event);
  pthread_mutex_unlock(&o->lock);
}

// ---- sending ----

void outbox_attach(Outbox *o) {
  (void)o;
  is_sender = true;
}

int outbox_event(const Outbox *o) {
  return o->event;
}

int outbox_pipe(const Outbox *o, int i) {
  return o->pipes[i];
}

void outbox_collect(Outbox *o) {
  // Whoever writes holds the stream; then there is nothing to hurry along.
  if (ftrylockfile(stdout) == 0) {
    fflush_unlocked(stdout);
    funlockfile(stdout);
  }
  pthread_mutex_lock(&o->lock);
  empty_pipes(o);
  pthread_mutex_unlock(&o->lock);
}

static void write_text(Outbox *o, int stream, zmq_msg_t *parent, const char *data, size_t length, Frames *frames) {
  static const char *const names[] = {"stdout", "stderr"};
  frames_add_bytes(frames, "stream", 6);
  json_t *content = json_pack("{s:s, s:o}", "name", names[stream], "text", json_text(data, length));
  if (!wire_write(o->wire, frames, "stream", parent, content)) frames_free(frames);
}

// What the item makes with the bytes that waited before it; those of a cut character at its end wait on.
static void write_item(Outbox *o, Item *t, Frames *frames) {
  size_t before = o->tail_lengths[t->stream];
  Text whole = {0};
  if (before) {
    text_add(&whole, o->tails[t->stream], before);
    text_add(&whole, t->text.data, t->text.length);
  }
  const Text *text = before && !whole.failed ? &whole : &t->text;
  size_t tail = unicode_open_tail(text->data, text->length), length = text->length - tail;
  o->tail_lengths[t->stream] = tail;
  if (tail) {
    memcpy(o->tails[t->stream], text->data + length, tail);
    zmq_msg_copy(&o->tail_parent, &t->parent);
  }
  if (length > 0) write_text(o, t->stream, &t->parent, text->data, length, frames);
  text_free(&whole);
}

// Takes the first item out when it is due.
static Item *take_item(Outbox *o, int *wait_ms) {
  event_clear(o->event);
  Item *item = o->first;
  *wait_ms = -1;
  if (!item) return NULL;
  if (item->kind == TEXT && !item->next && item->text.length < PIECE && !o->closed) {
    double left = o->text_sent + (double)GATHER_MS / 1000 - session_clock();
    if (left > 0) {
      *wait_ms = 1 + (int)(1000 * left);
      return NULL;
    }
  }
  o->first = item->next;
  if (!o->first) o->last = NULL;
  if (item->kind == TEXT) {
    o->backlog -= item->text.length;
    pthread_cond_broadcast(&o->room);
  }
  return item;
}

// Says the bytes of a character that will not be completed.
static bool end_tail(Outbox *o, Frames *frames) {
  for (int i = 0; i < STREAMS; i++) {
    if (o->tail_lengths[i] == 0) continue;
    write_text(o, i, &o->tail_parent, o->tails[i], o->tail_lengths[i], frames);
    o->tail_lengths[i] = 0;
    return true;
  }
  return false;
}

bool outbox_take(Outbox *o, Channel *channel, Frames *frames, int *wait_ms) {
  *frames = (Frames){0};
  while (frames->count == 0) {
    pthread_mutex_lock(&o->lock);
    Item *item = take_item(o, wait_ms);
    pthread_mutex_unlock(&o->lock);
    if (!item) return false;
    *channel = IOPUB;
    if (item->kind == MESSAGE) {
      *channel = item->channel;
      *frames = item->frames;
    } else if (item->kind == TEXT) {
      write_item(o, item, frames);
      zmq_msg_close(&item->parent);
      text_free(&item->text);
      o->text_sent = session_clock();
    } else if (end_tail(o, frames)) {
      pthread_mutex_lock(&o->lock);  // there may be another
      item->next = o->first;
      o->first = item;
      if (!o->last) o->last = item;
      pthread_mutex_unlock(&o->lock);
      continue;
    }
    free(item);
  }
  return true;
}

bool outbox_is_done(Outbox *o) {
  pthread_mutex_lock(&o->lock);
  bool done = o->closed && !o->first;
  pthread_mutex_unlock(&o->lock);
  return done;
}
