// SPDX-License-Identifier: MIT
// A line for each message that comes or goes (NABLUA_TRACE=wire):
//
//   wire  in  shell    execute_request 5d1c…_2                      1042.6 ms
//   wire  out iopub    stream          5d1c…_2 execute_request      1043.1 ms
//
// What came has its own number, what goes that of the message it answers and its type; the time since the first.
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "kernel.h"

static const char *const channels[] = {
    [SHELL] = "shell", [IOPUB] = "iopub", [STDIN] = "stdin", [CONTROL] = "control", [HEARTBEAT] = "heartbeat"};

static json_t *read_part(const Frames *f, size_t place) {
  if (place >= f->count) return NULL;
  return json_loadb(zmq_msg_data(&f->items[place]), zmq_msg_size(&f->items[place]), JSON_ALLOW_NUL, NULL);
}

static const char *field(json_t *header, const char *name) {
  const char *text = json_string_value(json_object_get(header, name));
  return text ? text : "";
}

// The end of an id, which is what differs.
static const char *short_id(const char *id) {
  enum { SHOWN = 16 };
  size_t n = strlen(id);
  return n > SHOWN ? id + n - SHOWN : id;
}

// Since the first call, in milliseconds.
static double since_first(void) {
  static _Atomic double first;
  double unset = 0, now = session_clock();
  return atomic_compare_exchange_strong(&first, &unset, now) ? 0 : 1000 * (now - unset);
}

void trace_frames(const char *way, Channel channel, const Frames *f) {
  char line[900];
  SessionTrace wanted = session_traces_messages();
  if (wanted == SESSION_TRACE_NONE) return;
  size_t at = 0;
  while (at < f->count &&
         (zmq_msg_size(&f->items[at]) != 9 || memcmp(zmq_msg_data(&f->items[at]), "<IDS|MSG>", 9) != 0))
    at++;
  if (at == f->count) return;
  json_t *header = read_part(f, at + 2), *parent = read_part(f, at + 3);
  bool comes = strcmp(way, "in") == 0;
  int used = snprintf(line, sizeof line, "%-3s %-8s %-20s %-16s %-20s %9.1f ms", way, channels[channel],
                      field(header, "msg_type"), short_id(field(comes ? header : parent, "msg_id")),
                      comes ? "" : field(parent, "msg_type"), since_first());
  if (wanted == SESSION_TRACE_CONTENTS && at + 5 < f->count && used > 0 && (size_t)used < sizeof line)
    snprintf(line + used, sizeof line - (size_t)used, "  %.*s", (int)zmq_msg_size(&f->items[at + 5]),
             (const char *)zmq_msg_data(&f->items[at + 5]));
  session_trace_message(line);
  json_decref(header);
  json_decref(parent);
}
