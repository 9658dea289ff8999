// SPDX-License-Identifier: MIT
// Messages on the wire: frames, signatures, headers.  Knows the format, not what messages mean.
//
//   ident* | <IDS|MSG> | signature | header | parent header | metadata | content | buffer*
#ifndef NABLUA_WIRE_H
#define NABLUA_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>

// ---- frames ----

typedef struct Frames {
  zmq_msg_t *items;
  size_t count, capacity;
} Frames;

// An empty frame at the end, to be filled.
zmq_msg_t *frames_add(Frames *f);
void frames_add_bytes(Frames *f, const void *data, size_t length);
// A frame that shares its bytes with another.
void frames_add_shared(Frames *f, zmq_msg_t *from);
void frames_free(Frames *f);

// Receives or sends one whole message without waiting.  False when there is none, or the socket cannot.  What is to be
// sent is freed, unless a socket that must reach its peer (stdin) does not: then it stays.
bool frames_receive(Frames *f, void *socket);
bool frames_send(Frames *f, void *socket);

// ---- signing ----

typedef struct Wire Wire;

// `key` may be empty: then nothing is signed, and nothing checked.
Wire *wire_new(const char *key);
void wire_free(Wire *w);

// ---- receiving ----

typedef struct Message {
  Frames frames;     // owned
  size_t delimiter;  // the frame <IDS|MSG>
  json_t *header, *content;
  const char *type, *id;  // of the header
} Message;

// Takes the frames over and reads them.  On failure `why` says what was wrong and everything is released.  Safe from
// several threads.
bool message_read(Message *m, Wire *w, Frames *frames, const char **why);
void message_free(Message *m);

// The header as it came, for answers to carry.
zmq_msg_t *message_header(Message *m);
size_t message_buffer_count(const Message *m);
zmq_msg_t *message_buffer(Message *m, size_t i);

// ---- sending ----

// Appends everything from the delimiter on.  `parent` may be NULL.  Steals `content`.  False when the content cannot
// be written as JSON.
bool wire_write(Wire *w, Frames *out, const char *type, zmq_msg_t *parent, json_t *content);

// The same with metadata, a JSON object.
bool wire_write_with(Wire *w, Frames *out, const char *type, zmq_msg_t *parent, const char *metadata, json_t *content);

// The parts of a message that come before: an answer's idents, or a topic.
void frames_add_idents(Frames *out, Message *to);

// A JSON string of any bytes: what is no UTF-8 becomes U+FFFD.
json_t *json_text(const char *data, size_t length);

#endif
