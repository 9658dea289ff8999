// SPDX-License-Identifier: MIT
// What the session tells, as messages: values, displays, errors, questions.
#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "unicode.h"

// ---- values ----

static bool ends_in(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

// Whether the bytes are in base64 already, as some programs write them.
static bool is_base64(const char *data, size_t length) {
  size_t letters = 0, ends = 0;
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)data[i];
    if (c == '\n' || c == '\r') continue;
    if (c == '=')
      ends++;
    else if (ends == 0 && c < 0x80 && (isalnum(c) || c == '+' || c == '/'))
      letters++;
    else
      return false;
  }
  return letters > 0 && ends <= 2 && (letters + ends) % 4 == 0;
}

static json_t *bytes_json(const Mime *m) {
  if (is_base64(m->data, m->length)) return json_text(m->data, m->length);
  size_t room = sodium_base64_encoded_len(m->length, sodium_base64_VARIANT_ORIGINAL);
  char *encoded = malloc(room);
  if (!encoded) return json_null();
  sodium_bin2base64(encoded, room, (const unsigned char *)m->data, m->length, sodium_base64_VARIANT_ORIGINAL);
  json_t *j = json_string_nocheck(encoded);
  free(encoded);
  return j;
}

// Whether what is of this type travels in base64: what never is text, and any other that this one is not.
static bool is_bytes(const Mime *m) {
  static const char *const always[] = {"image/", "audio/", "video/", "font/", "application/pdf", "application/zip"};
  if (strncmp(m->type, "text/", 5) == 0 || ends_in(m->type, "+xml")) return false;
  for (size_t i = 0; i < sizeof always / sizeof *always; i++)
    if (strncmp(m->type, always[i], strlen(always[i])) == 0) return true;
  if (memchr(m->data, '\0', m->length)) return true;
  size_t n;
  char *clean = unicode_clean(m->data, m->length, &n);
  free(clean);
  return clean != NULL;
}

static json_t *mime_json(const Mime *m) {
  if (strcmp(m->type, "application/json") == 0 || ends_in(m->type, "+json")) {
    json_t *j = json_loadb(m->data, m->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return j ? j : json_text(m->data, m->length);
  }
  if (is_bytes(m)) return bytes_json(m);
  // A drawing stands inside a page: without the declaration of a document, which nbconvert refuses too.
  const char *svg = strcmp(m->type, "image/svg+xml") == 0 ? memmem(m->data, m->length, "<svg", 4) : NULL;
  if (svg) return json_text(svg, m->length - (size_t)(svg - m->data));
  return json_text(m->data, m->length);
}

json_t *bundle_json(const Bundle *b) {
  json_t *data = json_object();
  for (int i = 0; i < b->count; i++) json_object_set_new(data, b->items[i].type, mime_json(&b->items[i]));
  return data;
}

static json_t *metadata_json(const Bundle *b) {
  json_t *j = b->metadata ? json_loads(b->metadata, 0, NULL) : NULL;
  return j ? j : json_object();
}

json_t *problem_json(const Problem *p) {
  bool interrupted = strcmp(p->name, "Interrupted") == 0;
  const char *name = interrupted ? "KeyboardInterrupt" : p->name;
  json_t *traceback = json_array();
  json_t *message = json_text(p->message, strlen(p->message));
  const char *shown = json_string_value(message);
  // Bold, in the page's own colour: no red is legible on the grounds that light and dark pages give errors.
  json_array_append_new(traceback, json_sprintf("\033[1m%s\033[0m: %s", name, shown ? shown : ""));
  for (const char *line = p->frames; *line;) {
    const char *end = strchrnul(line, '\n');
    json_t *text = json_text(line, (size_t)(end - line));
    const char *frame = json_string_value(text);
    json_array_append_new(traceback, json_sprintf("  %s", frame ? frame : ""));
    json_decref(text);
    line = *end ? end + 1 : end;
  }
  return json_pack("{s:s, s:o, s:o}", "ename", name, "evalue", message, "traceback", traceback);
}

// ---- the sink ----

static void publish(Kernel *k, const char *type, json_t *content) {
  if (k->now.silent || !k->now.request) {
    json_decref(content);
    return;
  }
  outbox_flush(k->outbox);
  outbox_publish(k->outbox, type, message_header(k->now.request), content);
}

static void value(void *user, int number, const Bundle *b) {
  publish(
      user, "execute_result",
      json_pack("{s:i, s:o, s:o}", "execution_count", number, "data", bundle_json(b), "metadata", metadata_json(b)));
}

// Clients show a page beside the notebook, or in a pager.
static void page(void *user, const Bundle *b) {
  Kernel *k = user;
  json_array_append_new(k->now.payload,
                        json_pack("{s:s, s:o, s:i}", "source", "page", "data", bundle_json(b), "start", 0));
}

// What %recall and %load put into a cell, where the client heeds it.
static void next_input(void *user, const char *text, bool replace) {
  Kernel *k = user;
  json_array_append_new(k->now.payload, json_pack("{s:s, s:o, s:b}", "source", "set_next_input", "text",
                                                  json_text(text, strlen(text)), "replace", replace));
}

static void display(void *user, const Bundle *b, const char *id, bool update) {
  json_t *transient = id ? json_pack("{s:o}", "display_id", json_text(id, strlen(id))) : json_object();
  publish(user, update ? "update_display_data" : "display_data",
          json_pack("{s:o, s:o, s:o}", "data", bundle_json(b), "metadata", metadata_json(b), "transient", transient));
}

static void clear(void *user, bool wait) {
  publish(user, "clear_output", json_pack("{s:b}", "wait", wait));
}

static void error(void *user, const Problem *p) {
  Kernel *k = user;
  json_decref(k->now.problem);
  k->now.problem = problem_json(p);
  publish(k, "error", json_deep_copy(k->now.problem));
}

static void comm(void *user, const Comm *c) {
  static const char *const types[] = {
      [SESSION_COMM_OPEN] = "comm_open", [SESSION_COMM_MESSAGE] = "comm_msg", [SESSION_COMM_CLOSE] = "comm_close"};
  Kernel *k = user;
  Frames f = {0};
  json_t *data = json_loadb(c->data, c->length, 0, NULL);
  json_t *content = json_pack("{s:s, s:o}", "comm_id", c->id, "data", data ? data : json_object());
  if (c->kind == SESSION_COMM_OPEN)
    json_object_set_new(content, "target_name", json_text(c->target, strlen(c->target)));
  outbox_flush(k->outbox);
  frames_add_bytes(&f, types[c->kind], strlen(types[c->kind]));
  zmq_msg_t *parent = k->now.request ? message_header(k->now.request) : NULL;
  if (!wire_write_with(k->wire, &f, types[c->kind], parent, c->metadata ? c->metadata : "{}", content)) {
    frames_free(&f);
    return;
  }
  for (int i = 0; i < c->buffer_count; i++) frames_add_bytes(&f, c->buffers[i].data, c->buffers[i].length);
  outbox_post(k->outbox, IOPUB, &f);
}

static void program(void *user) {
  Kernel *k = user;
  outbox_expect_programs(k->outbox);
}

// Of the debugger; clients hear it whatever it is an answer to.
static void event(void *user, const char *json, size_t length) {
  Kernel *k = user;
  json_t *content = json_loadb(json, length, JSON_ALLOW_NUL, NULL);
  if (!content) return;
  outbox_flush(k->outbox);
  outbox_publish(k->outbox, "debug_event", k->now.request ? message_header(k->now.request) : NULL, content);
}

Sink kernel_sink(Kernel *k) {
  return (Sink){.user = k,
                .value = value,
                .page = page,
                .next_input = next_input,
                .display = display,
                .clear = clear,
                .error = error,
                .ask = kernel_ask,
                .program = program,
                .comm = comm,
                .event = event};
}
