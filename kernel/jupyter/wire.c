// SPDX-License-Identifier: MIT
// Reading, checking, signing and writing messages.
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "lenient.h"
#include "unicode.h"

static const char delimiter[] = "<IDS|MSG>";

enum { DELIMITER = sizeof delimiter - 1, HEX = 2 * crypto_auth_hmacsha256_BYTES, REMEMBERED = 65536 };

struct Wire {
  bool sign;
  crypto_auth_hmacsha256_state keyed;
  char session[UUID_STR_LEN];
  atomic_ullong sent;
  // The signatures seen last, by their first eight bytes: a ring, and an open-addressed table of what is in it.
  pthread_mutex_t lock;
  uint64_t *ring, *table;
  size_t next;
};

// ---- frames ----

static void *must(void *memory) {
  if (!memory) {
    fprintf(stderr, "nablua-kernel: out of memory\n");
    _exit(1);
  }
  return memory;
}

zmq_msg_t *frames_add(Frames *f) {
  if (f->count == f->capacity) {
    size_t capacity = f->capacity ? 2 * f->capacity : 8;
    // A zmq_msg_t must not be moved by hand.
    zmq_msg_t *items = must(calloc(capacity, sizeof *items));
    for (size_t i = 0; i < f->count; i++) {
      zmq_msg_init(&items[i]);
      zmq_msg_move(&items[i], &f->items[i]);
      zmq_msg_close(&f->items[i]);
    }
    free(f->items);
    f->items = items;
    f->capacity = capacity;
  }
  zmq_msg_t *m = &f->items[f->count++];
  zmq_msg_init(m);
  return m;
}

void frames_add_bytes(Frames *f, const void *data, size_t length) {
  zmq_msg_t *m = frames_add(f);
  if (zmq_msg_init_size(m, length) != 0) must(NULL);
  if (length) memcpy(zmq_msg_data(m), data, length);
}

void frames_add_shared(Frames *f, zmq_msg_t *from) {
  zmq_msg_copy(frames_add(f), from);
}

void frames_free(Frames *f) {
  for (size_t i = 0; i < f->count; i++) zmq_msg_close(&f->items[i]);
  free(f->items);
  *f = (Frames){0};
}

bool frames_receive(Frames *f, void *socket) {
  *f = (Frames){0};
  for (bool more = true; more;) {
    zmq_msg_t *m = frames_add(f);
    int got;
    do got = zmq_msg_recv(m, socket, ZMQ_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
      frames_free(f);
      return false;
    }
    more = zmq_msg_more(m);
  }
  return true;
}

bool frames_send(Frames *f, void *socket) {
  bool ok = true;
  for (size_t i = 0; i < f->count && ok; i++) {
    int sent, flags = ZMQ_DONTWAIT | (i + 1 < f->count ? ZMQ_SNDMORE : 0);
    do sent = zmq_msg_send(&f->items[i], socket, flags);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && i == 0 && errno == EHOSTUNREACH) return false;
    ok = sent >= 0;
  }
  frames_free(f);
  return ok;
}

void frames_add_idents(Frames *out, Message *to) {
  for (size_t i = 0; i < to->delimiter; i++) frames_add_shared(out, &to->frames.items[i]);
}

// ---- signing ----

Wire *wire_new(const char *key) {
  Wire *w = must(calloc(1, sizeof *w));
  uuid_t id;
  w->sign = *key != '\0';
  crypto_auth_hmacsha256_init(&w->keyed, (const unsigned char *)key, strlen(key));
  uuid_generate_random(id);
  uuid_unparse_lower(id, w->session);
  pthread_mutex_init(&w->lock, NULL);
  w->ring = must(calloc(REMEMBERED, sizeof *w->ring));
  w->table = must(calloc(2 * REMEMBERED, sizeof *w->table));
  return w;
}

void wire_free(Wire *w) {
  if (!w) return;
  pthread_mutex_destroy(&w->lock);
  free(w->ring);
  free(w->table);
  free(w);
}

// The signature in hexadecimal of four frames.
static void signature_of(const Wire *w, zmq_msg_t *parts, char hex[HEX + 1]) {
  unsigned char mac[crypto_auth_hmacsha256_BYTES];
  crypto_auth_hmacsha256_state state = w->keyed;
  for (int i = 0; i < 4; i++) crypto_auth_hmacsha256_update(&state, zmq_msg_data(&parts[i]), zmq_msg_size(&parts[i]));
  crypto_auth_hmacsha256_final(&state, mac);
  sodium_bin2hex(hex, HEX + 1, mac, sizeof mac);
}

static size_t slot_of(const uint64_t *table, uint64_t mark) {
  size_t i = mark % (2 * REMEMBERED);
  while (table[i] && table[i] != mark) i = (i + 1) % (2 * REMEMBERED);
  return i;
}

static void forget(uint64_t *table, uint64_t mark) {
  size_t i = slot_of(table, mark);
  if (!table[i]) return;
  table[i] = 0;
  // What was pushed beyond this place by it moves back.
  for (size_t j = (i + 1) % (2 * REMEMBERED); table[j]; j = (j + 1) % (2 * REMEMBERED)) {
    uint64_t moved = table[j];
    table[j] = 0;
    table[slot_of(table, moved)] = moved;
  }
}

// Whether this signature is new; remembers it.
static bool is_fresh(Wire *w, const char *hex) {
  char part[17] = {0};
  memcpy(part, hex, 16);
  uint64_t mark = strtoull(part, NULL, 16);
  if (mark == 0) mark = 1;
  pthread_mutex_lock(&w->lock);
  size_t slot = slot_of(w->table, mark);
  bool fresh = !w->table[slot];
  if (fresh) {
    if (w->ring[w->next]) forget(w->table, w->ring[w->next]);
    w->ring[w->next] = mark;
    w->next = (w->next + 1) % REMEMBERED;
    w->table[slot_of(w->table, mark)] = mark;
  }
  pthread_mutex_unlock(&w->lock);
  return fresh;
}

// ---- receiving ----

static json_t *read_object(zmq_msg_t *frame) {
  json_t *j = json_lenient(zmq_msg_data(frame), zmq_msg_size(frame));
  if (json_is_object(j)) return j;
  json_decref(j);
  return NULL;
}

static const char *what_is_wrong(Message *m, Wire *w) {
  Frames *f = &m->frames;
  for (m->delimiter = 0; m->delimiter < f->count; m->delimiter++) {
    zmq_msg_t *frame = &f->items[m->delimiter];
    if (zmq_msg_size(frame) == DELIMITER && memcmp(zmq_msg_data(frame), delimiter, DELIMITER) == 0) break;
  }
  if (m->delimiter == f->count) return "it has no delimiter <IDS|MSG>";
  if (f->count - m->delimiter < 6) return "frames are missing";
  zmq_msg_t *signature = &f->items[m->delimiter + 1], *parts = signature + 1;
  if (w->sign) {
    char hex[HEX + 1];
    if (zmq_msg_size(signature) != HEX) return "its signature has the wrong length";
    signature_of(w, parts, hex);
    if (sodium_memcmp(hex, zmq_msg_data(signature), HEX) != 0) return "its signature is wrong";
    if (!is_fresh(w, hex)) return "it came before";
  }
  if (!(m->header = read_object(&parts[0]))) return "its header is no JSON object";
  if (!(m->content = read_object(&parts[3]))) return "its content is no JSON object";
  json_t *parent = read_object(&parts[1]), *metadata = read_object(&parts[2]);
  bool whole = parent && metadata;
  json_decref(parent);
  json_decref(metadata);
  if (!whole) return "its parent header or metadata is no JSON object";
  m->type = json_string_value(json_object_get(m->header, "msg_type"));
  m->id = json_string_value(json_object_get(m->header, "msg_id"));
  return m->type ? NULL : "its header has no msg_type";
}

bool message_read(Message *m, Wire *w, Frames *frames, const char **why) {
  *m = (Message){.frames = *frames};
  *frames = (Frames){0};
  if (!(*why = what_is_wrong(m, w))) return true;
  message_free(m);
  return false;
}

void message_free(Message *m) {
  json_decref(m->header);
  json_decref(m->content);
  frames_free(&m->frames);
  *m = (Message){0};
}

zmq_msg_t *message_header(Message *m) {
  return &m->frames.items[m->delimiter + 2];
}

size_t message_buffer_count(const Message *m) {
  return m->frames.count - m->delimiter - 6;
}

zmq_msg_t *message_buffer(Message *m, size_t i) {
  return &m->frames.items[m->delimiter + 6 + i];
}

// ---- sending ----

// All parts are our own and need no escapes.
static size_t write_header(Wire *w, const char *type, char *text, size_t size) {
  struct timespec t;
  struct tm tm;
  char day[24];
  clock_gettime(CLOCK_REALTIME, &t);
  strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", gmtime_r(&t.tv_sec, &tm));
  int n = snprintf(text, size,
                   "{\"msg_id\":\"%s_%d_%llu\",\"session\":\"%s\",\"username\":\"nablua\",\"date\":\"%s.%06ldZ\","
                   "\"msg_type\":\"%s\",\"version\":\"5.5\"}",
                   w->session, (int)getpid(), atomic_fetch_add(&w->sent, 1), w->session, day, t.tv_nsec / 1000, type);
  return (size_t)n;
}

static void free_text(void *data, void *hint) {
  (void)hint;
  free(data);
}

bool wire_write(Wire *w, Frames *out, const char *type, zmq_msg_t *parent, json_t *content) {
  return wire_write_with(w, out, type, parent, "{}", content);
}

bool wire_write_with(Wire *w, Frames *out, const char *type, zmq_msg_t *parent, const char *metadata, json_t *content) {
  char header[512], hex[HEX + 1] = "";
  char *text = json_dumps(content, JSON_COMPACT);
  json_decref(content);
  if (!text) return false;
  frames_add_bytes(out, delimiter, DELIMITER);
  size_t signature = out->count;
  frames_add(out);
  frames_add_bytes(out, header, write_header(w, type, header, sizeof header));
  if (parent)
    frames_add_shared(out, parent);
  else
    frames_add_bytes(out, "{}", 2);
  frames_add_bytes(out, metadata, strlen(metadata));
  if (zmq_msg_init_data(frames_add(out), text, strlen(text), free_text, NULL) != 0) must(NULL);
  if (w->sign) {
    signature_of(w, &out->items[signature + 1], hex);
    if (zmq_msg_init_size(&out->items[signature], HEX) != 0) must(NULL);
    memcpy(zmq_msg_data(&out->items[signature]), hex, HEX);
  }
  return true;
}

json_t *json_text(const char *data, size_t length) {
  size_t n;
  char *clean = unicode_clean(data, length, &n);
  json_t *j = json_stringn_nocheck(clean ? clean : data, clean ? n : length);
  free(clean);
  return j;
}
