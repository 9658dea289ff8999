// SPDX-License-Identifier: MIT
// The requests and what answers them: one table.  Only request_handle says busy, idle and sends a reply, so that
// every request gets exactly one of each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "unicode.h"
#include "usage.h"

// ---- reading contents ----

static bool flag(json_t *content, const char *name, bool otherwise) {
  json_t *value = json_object_get(content, name);
  return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static int whole(json_t *content, const char *name, int otherwise) {
  json_t *value = json_object_get(content, name);
  double n = json_is_number(value) ? json_number_value(value) : otherwise;
  return n > 1000000000 ? 1000000000 : n < -1000000000 ? -1000000000 : (int)n;
}

static const char *text(json_t *content, const char *name, size_t *length) {
  json_t *value = json_object_get(content, name);
  *length = json_string_length(value);
  return json_string_value(value);
}

static json_t *bad_request(const char *what) {
  return json_pack("{s:s, s:s, s:s, s:[]}", "status", "error", "ename", "BadRequest", "evalue", what, "traceback");
}

// The history is opened when it is first needed: a kernel that waits is small.
static void need_history(Kernel *k) {
  char reason[256];
  if (k->has_history) return;
  k->has_history = true;
  if (!session_history_open(k->session, NULL, reason, sizeof reason)) kernel_log("the history is not kept: %s", reason);
}

// ---- execute ----

typedef struct Expression {
  json_t *result;
} Expression;

static void expression_value(void *user, int number, const Bundle *b) {
  Expression *e = user;
  (void)number;
  json_decref(e->result);
  e->result = json_pack("{s:s, s:o, s:{}}", "status", "ok", "data", bundle_json(b), "metadata");
}

static void expression_error(void *user, const Problem *p) {
  Expression *e = user;
  json_decref(e->result);
  e->result = problem_json(p);
  json_object_set_new(e->result, "status", json_string("error"));
}

// Each expression by its name gives a value or its own error.
static json_t *evaluate_expressions(Kernel *k, json_t *expressions) {
  json_t *results = json_object(), *code;
  const char *name;
  json_object_foreach(expressions, name, code) {
    Expression e = {NULL};
    Sink sink = {.user = &e, .value = expression_value, .error = expression_error};
    if (json_is_string(code))
      session_eval_apart(k->session, json_string_value(code), json_string_length(code), &sink);
    else
      e.result = bad_request("an expression must be a string");
    if (!e.result)
      e.result = json_pack("{s:s, s:{s:s}, s:{}}", "status", "ok", "data", "text/plain", "nil", "metadata");
    json_object_set_new(results, name, e.result);
  }
  return results;
}

static bool is_blank(const char *code, size_t length) {
  size_t i = 0;
  while (i < length && strchr(" \t\r\n", code[i]) && code[i]) i++;
  return i == length;
}

// Evaluates a cell: of the main shell, of a subshell, or one that is not counted.
static SessionStatus evaluate(Kernel *k, const char *code, size_t length, bool counted, int count) {
  char prompt[40];
  if (is_blank(code, length)) return SESSION_OK;
  if (!counted) return session_eval_apart(k->session, code, length, NULL);
  if (!k->now.subshell) return session_eval(k->session, code, length);
  snprintf(prompt, sizeof prompt, "subshell %d", k->now.subshell->place);
  return session_eval_beside(k->session, prompt, count, code, length);
}

// Of a cell that failed: those that its client sent with it are not evaluated.
static void abort_queued(Kernel *k) {
  if (k->now.subshell)
    k->now.subshell->abort_through = queue_settle(k);
  else
    k->abort_through = queue_settle(k);
}

static json_t *execute(Kernel *k, Message *m) {
  size_t length;
  const char *code = text(m->content, "code", &length);
  Subshell *beside = k->now.subshell;
  if (!code) return bad_request("execute_request needs a string at code");
  bool counted = flag(m->content, "store_history", true) && !k->now.silent;
  int count = (beside ? beside->count + 1 : session_next_number(k->session)) - !counted;
  if (beside && counted) beside->count++;
  if (!k->now.silent)
    outbox_publish(k->outbox, "execute_input", message_header(m),
                   json_pack("{s:o, s:i}", "code", json_text(code, length), "execution_count", count));
  if (counted && !beside) need_history(k);
  // There is one question at a time.
  session_allow_input(k->session, flag(m->content, "allow_stdin", false) && !k->asking);
  if (!k->now.visits) kernel_drop_input(k);
  k->now.payload = json_array();
  SessionStatus status = evaluate(k, code, length, counted, count);
  json_t *reply, *expressions = json_object_get(m->content, "user_expressions");
  if (status == SESSION_OK) {
    reply = json_pack("{s:s, s:o}", "status", "ok", "user_expressions", evaluate_expressions(k, expressions));
  } else {
    if (flag(m->content, "stop_on_error", true)) abort_queued(k);
    reply = k->now.problem ? json_deep_copy(k->now.problem) : bad_request("the evaluation failed");
    json_object_set_new(reply, "status", json_string("error"));
    json_object_set_new(reply, "user_expressions", json_object());
  }
  json_object_set_new(reply, "execution_count", json_integer(count));
  json_object_set_new(reply, "payload", k->now.payload);
  k->now.payload = NULL;
  return reply;
}

// ---- looking at code ----

static json_t *complete(Kernel *k, Message *m) {
  size_t length;
  const char *code = text(m->content, "code", &length);
  Completions found;
  if (!code) return bad_request("complete_request needs a string at code");
  size_t cursor = unicode_bytes(code, length, whole(m->content, "cursor_pos", 1000000000));
  session_complete(k->session, code, length, cursor, &found);
  json_int_t begin = unicode_points(code, found.begin), end = unicode_points(code, found.end);
  json_t *matches = json_array(), *types = json_array();
  for (int i = 0; i < found.count; i++) {
    const Completion *c = &found.items[i];
    json_array_append_new(matches, json_text(c->text, strlen(c->text)));
    json_array_append_new(types, json_pack("{s:I, s:I, s:o, s:s, s:o}", "start", begin, "end", end, "text",
                                           json_text(c->text, strlen(c->text)), "type", c->kind, "signature",
                                           json_text(c->note, strlen(c->note))));
  }
  return json_pack("{s:o, s:I, s:I, s:{s:o}}", "matches", matches, "cursor_start", begin, "cursor_end", end, "metadata",
                   "_jupyter_types_experimental", types);
}

static json_t *inspect(Kernel *k, Message *m) {
  size_t length;
  const char *code = text(m->content, "code", &length);
  Bundle found;
  if (!code) return bad_request("inspect_request needs a string at code");
  size_t cursor = unicode_bytes(code, length, whole(m->content, "cursor_pos", 1000000000));
  bool source = whole(m->content, "detail_level", 0) > 0;
  if (!session_inspect(k->session, code, length, cursor, source, &found))
    return json_pack("{s:b, s:{}, s:{}}", "found", 0, "data", "metadata");
  return json_pack("{s:b, s:o, s:{}}", "found", 1, "data", bundle_json(&found), "metadata");
}

static json_t *is_complete(Kernel *k, Message *m) {
  size_t length;
  const char *code = text(m->content, "code", &length);
  int indent;
  if (!code) return bad_request("is_complete_request needs a string at code");
  switch (session_is_complete(k->session, code, length, &indent)) {
    case SESSION_COMPLETE:
      return json_pack("{s:s}", "status", "complete");
    case SESSION_INVALID:
      return json_pack("{s:s}", "status", "invalid");
    default:
      return json_pack("{s:s, s:o}", "status", "incomplete", "indent", json_sprintf("%*s", indent, ""));
  }
}

// ---- history ----

typedef struct Lines {
  json_t *list;
  bool output;
} Lines;

static void see_line(void *user, const HistoryEntry *e) {
  Lines *lines = user;
  json_t *input = json_text(e->input, strlen(e->input));
  if (lines->output)
    input = json_pack("[o, o]", input, e->output ? json_text(e->output, strlen(e->output)) : json_null());
  json_array_append_new(lines->list, json_pack("[I, i, o]", (json_int_t)e->session, e->line, input));
}

static json_t *history(Kernel *k, Message *m) {
  json_t *c = m->content;
  size_t length;
  const char *kind = text(c, "hist_access_type", &length);
  Lines lines = {json_array(), flag(c, "output", false)};
  HistoryQuery q = {.count = whole(c, "n", 0)};
  if (kind && strcmp(kind, "range") == 0) {
    q.kind = HISTORY_RANGE;
    q.count = 0;
    q.session = whole(c, "session", 0);
    q.first = whole(c, "start", 0);
    q.stop = whole(c, "stop", 0);
  } else if (kind && strcmp(kind, "search") == 0) {
    q.kind = HISTORY_SEARCH;
    q.pattern = text(c, "pattern", &length);
    q.unique = flag(c, "unique", false);
  } else {
    q.kind = HISTORY_TAIL;
  }
  need_history(k);
  session_history(k->session, &q, see_line, &lines);
  return json_pack("{s:o}", "history", lines.list);
}

// ---- comms ----

static void see_comm(void *user, const char *id, const char *target) {
  json_object_set_new(user, id, json_pack("{s:s}", "target_name", target));
}

static json_t *comm_info(Kernel *k, Message *m) {
  json_t *all = json_object(), *wanted = json_object(), *comm;
  size_t length;
  const char *target = text(m->content, "target_name", &length), *id;
  session_comms(k->session, see_comm, all);
  json_object_foreach(all, id, comm) {
    const char *name = json_string_value(json_object_get(comm, "target_name"));
    if (!target || !*target || strcmp(name, target) == 0) json_object_set(wanted, id, comm);
  }
  json_decref(all);
  return json_pack("{s:o}", "comms", wanted);
}

// Hands the message to the user's handler; who opens what nobody knows is told that it is closed.
static json_t *comm_message(Kernel *k, Message *m, CommKind kind) {
  size_t length;
  int count = (int)message_buffer_count(m);
  const char *target = text(m->content, "target_name", &length), *id = text(m->content, "comm_id", &length);
  char *data = json_dumps(json_object_get(m->content, "data"), JSON_COMPACT | JSON_ENCODE_ANY);
  Mime *buffers = calloc((size_t)count + 1, sizeof *buffers);
  Comm c = {.kind = kind,
            .id = id,
            .target = target ? target : "",
            .data = data ? data : "{}",
            .buffers = buffers,
            .more = k->now.more};
  c.length = strlen(c.data);
  for (; buffers && c.buffer_count < count; c.buffer_count++) {
    zmq_msg_t *b = message_buffer(m, (size_t)c.buffer_count);
    buffers[c.buffer_count] = (Mime){"", zmq_msg_data(b), zmq_msg_size(b)};
  }
  session_allow_input(k->session, false);
  if (id && !session_comm(k->session, &c) && kind == SESSION_COMM_OPEN)
    outbox_publish(k->outbox, "comm_close", message_header(m), json_pack("{s:s, s:{}}", "comm_id", id, "data"));
  free(data);
  free(buffers);
  return NULL;
}

static json_t *comm_open(Kernel *k, Message *m) {
  return comm_message(k, m, SESSION_COMM_OPEN);
}

static json_t *comm_msg(Kernel *k, Message *m) {
  return comm_message(k, m, SESSION_COMM_MESSAGE);
}

static json_t *comm_close(Kernel *k, Message *m) {
  return comm_message(k, m, SESSION_COMM_CLOSE);
}

// ---- the kernel itself ----

static json_t *help_links(void) {
  return json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}]",  //
                   "text", "Lua Reference", "url", "https://www.lua.org/manual/5.4/", "text", "Programming in Lua",
                   "url", "https://www.lua.org/pil/contents.html", "text", "Markdown Reference", "url",
                   "https://commonmark.org/help/");
}

static json_t *kernel_info(Kernel *k, Message *m) {
  (void)k, (void)m;
  return json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s}, s:s, s:b, s:[s, s], s:o}",                     //
                   "protocol_version", "5.5", "implementation", "nablua", "implementation_version", NABLUA_VERSION,  //
                   "language_info", "name", "lua", "version", session_lua_version(), "mimetype", "text/x-lua",
                   "file_extension", ".lua", "pygments_lexer", "lua", "codemirror_mode", "lua",  //
                   "banner", "nablua " NABLUA_VERSION "   ?name or help(name) explains", "debugger", 1,
                   "supported_features", "kernel subshells", "debugger", "help_links", help_links());
}

static json_t *connect(Kernel *k, Message *m) {
  (void)m;
  return connection_ports(&k->connection);
}

static json_t *interrupt(Kernel *k, Message *m) {
  (void)m;
  kernel_interrupt(k);
  return json_object();
}

static json_t *debug(Kernel *k, Message *m) {
  size_t length;
  // Its header was too long for who gives requests of this kind to the evaluator.
  if (!pthread_equal(pthread_self(), k->evaluator))
    return bad_request("a request of the debugger needs a short header");
  char *request = json_dumps(m->content, JSON_COMPACT | JSON_ENCODE_ANY);
  char *text = request ? session_debug(k->session, request, strlen(request), &length) : NULL;
  json_t *answer = text ? json_loadb(text, length, JSON_ALLOW_NUL, NULL) : NULL;
  free(request);
  free(text);
  return answer ? answer : bad_request("the debugger could not answer");
}

static json_t *create_subshell(Kernel *k, Message *m) {
  (void)m;
  return subshell_create(k);
}

static json_t *delete_subshell(Kernel *k, Message *m) {
  size_t length;
  const char *id = text(m->content, "subshell_id", &length);
  json_t *answer = id ? subshell_delete(k, id) : NULL;
  queue_attend(k);
  return answer ? answer : bad_request("there is no such subshell; it was deleted, or the kernel restarted");
}

static json_t *list_subshells(Kernel *k, Message *m) {
  (void)m;
  return subshell_list(k);
}

static json_t *usage(Kernel *k, Message *m) {
  (void)k, (void)m;
  return usage_now();
}

static json_t *shutdown(Kernel *k, Message *m) {
  json_t *content = json_pack("{s:s, s:b}", "status", "ok", "restart", flag(m->content, "restart", false));
  outbox_publish(k->outbox, "shutdown_reply", message_header(m), json_deep_copy(content));
  kernel_stop(k);
  return content;
}

// ---- the table ----

enum { ON_SHELL = 1 << SHELL, ON_CONTROL = 1 << CONTROL, ON_BOTH = ON_SHELL | ON_CONTROL };

typedef struct Handler {
  const char *request, *reply;  // no reply: NULL
  int channels;
  json_t *(*answer)(Kernel *k, Message *m);  // the reply's content; "ok" is its status unless it has one
  SessionLevel level;                        // as a visitor: a cell is one in a subshell
} Handler;

static const Handler handlers[] = {
    {"execute_request", "execute_reply", ON_SHELL, execute, SESSION_BESIDE},
    {"complete_request", "complete_reply", ON_SHELL, complete, SESSION_LOOK},
    {"inspect_request", "inspect_reply", ON_SHELL, inspect, SESSION_LOOK},
    {"is_complete_request", "is_complete_reply", ON_SHELL, is_complete, SESSION_LOOK},
    {"history_request", "history_reply", ON_SHELL, history, SESSION_LOOK},
    {"comm_info_request", "comm_info_reply", ON_SHELL, comm_info, SESSION_LOOK},
    {"comm_open", NULL, ON_SHELL, comm_open, SESSION_HANDLE},
    {"comm_msg", NULL, ON_SHELL, comm_msg, SESSION_HANDLE},
    {"comm_close", NULL, ON_SHELL, comm_close, SESSION_HANDLE},
    {"connect_request", "connect_reply", ON_SHELL, connect, SESSION_LOOK},
    {"kernel_info_request", "kernel_info_reply", ON_BOTH, kernel_info, SESSION_LOOK},
    {"shutdown_request", "shutdown_reply", ON_BOTH, shutdown, SESSION_LOOK},
    {"interrupt_request", "interrupt_reply", ON_CONTROL, interrupt, SESSION_LOOK},
    {"debug_request", "debug_reply", ON_CONTROL, debug, SESSION_LOOK},
    {"create_subshell_request", "create_subshell_reply", ON_CONTROL, create_subshell, SESSION_LOOK},
    {"delete_subshell_request", "delete_subshell_reply", ON_CONTROL, delete_subshell, SESSION_LOOK},
    {"list_subshell_request", "list_subshell_reply", ON_CONTROL, list_subshells, SESSION_LOOK},
    {"usage_request", "usage_reply", ON_CONTROL, usage, SESSION_LOOK},
};

static const Handler *find_handler(const char *type, Channel channel) {
  for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
    if (strcmp(handlers[i].request, type) == 0 && (handlers[i].channels & 1 << channel)) return &handlers[i];
  return NULL;
}

const char *request_name(size_t i) {
  return i < sizeof handlers / sizeof *handlers ? handlers[i].request : NULL;
}

SessionLevel request_level(const char *type, bool is_beside) {
  const Handler *h = find_handler(type, SHELL);
  if (!h) return SESSION_LOOK;
  return h->answer == execute && !is_beside ? SESSION_INPUT : h->level;
}

static void reply(Kernel *k, Channel channel, bool queued, Message *to, const char *type, json_t *content) {
  Frames f = {0};
  if (content && !json_object_get(content, "status")) json_object_set_new(content, "status", json_string("ok"));
  frames_add_idents(&f, to);
  if (!wire_write(k->wire, &f, type, message_header(to), content)) {
    frames_free(&f);
    frames_add_idents(&f, to);
    wire_write(k->wire, &f, type, message_header(to), bad_request("the answer could not be written as JSON"));
  }
  if (queued && channel == CONTROL) {
    queue_reply(k, &f);
  } else if (channel == CONTROL) {
    trace_frames("out", CONTROL, &f);
    frames_send(&f, k->connection.sockets[CONTROL]);
  } else {
    outbox_post(k->outbox, channel, &f);
  }
}

static void publish_status(Kernel *k, Message *m, const char *status) {
  outbox_publish(k->outbox, "status", message_header(m), json_pack("{s:s}", "execution_state", status));
}

// What is not evaluated: cells behind one that failed, and what a subshell that was deleted had queued.
static bool is_aborted(const Kernel *k, const Job *job, bool executes) {
  const Subshell *s = job->subshell;
  if (s && s->deleted) return true;
  return executes && job->number <= (s ? s->abort_through : k->abort_through);
}

static json_t *answer(Kernel *k, const Handler *h, Message *m, const Job *job) {
  bool executes = h && h->answer == execute;
  if (job->is_lost) {
    if (h && !h->reply) kernel_log("dropped a %s: its subshell is not there", m->type);
    return bad_request("there is no such subshell; it was deleted, or the kernel restarted");
  }
  if (h && is_aborted(k, job, executes)) return json_pack("{s:s}", "status", "aborted");
  bool silent = executes && flag(m->content, "silent", false);
  // What is asked here is all that it asks.
  Answering before = k->now;
  k->now = (Answering){
      .request = m, .subshell = job->subshell, .visits = before.request != NULL, .silent = silent, .more = job->more};
  outbox_flush(k->outbox);
  outbox_begin(k->outbox, message_header(m), silent);
  json_t *content = h ? h->answer(k, m) : NULL;
  outbox_end(k->outbox);
  json_decref(k->now.problem);
  k->now = before;
  if (before.request) outbox_begin(k->outbox, message_header(before.request), before.silent);
  return content;
}

void request_handle(Kernel *k, Channel channel, Job *job) {
  Message m;
  const char *why;
  if (!message_read(&m, k->wire, &job->frames, &why)) {
    kernel_log("dropped a message on %s: %s", channel == CONTROL ? "control" : "shell", why);
    return;
  }
  const Handler *h = find_handler(m.type, channel);
  bool evaluates = channel == SHELL || job->queued;
  Message *visited = evaluates ? k->now.request : NULL;
  if (evaluates) atomic_store(&k->evaluating, true);  // before io hears of it: it then looks for what is printed
  publish_status(k, &m, "busy");
  json_t *content = NULL;
  if (evaluates)
    content = answer(k, h, &m, job);
  else if (h)
    content = h->answer(k, &m);
  if (h && h->reply)
    reply(k, channel, job->queued, &m, h->reply, content);
  else
    json_decref(content);
  if (evaluates && !visited) atomic_store(&k->evaluating, false);
  publish_status(k, &m, "idle");
  // Servers take a kernel's state from whatever was said last.
  if (visited) publish_status(k, visited, "busy");
  message_free(&m);
}

// ---- visitors ----

typedef struct Caller {
  Kernel *k;
  Job *job;
} Caller;

static void run_visit(void *user) {
  Caller *c = user;
  request_handle(c->k, c->job->channel, c->job);
}

bool request_evaluate(Kernel *k, Job *job) {
  bool done = session_visit(k->session, job->level, run_visit, &(Caller){k, job});
  if (!done) kernel_log("out of memory; a request is lost");
  job_free(k, job);
  return done;
}

bool request_visit(void *kernel, SessionLevel level) {
  Kernel *k = kernel;
  Job *job = atomic_load(&k->stopping) ? NULL : queue_visitor(k, level);
  return job && request_evaluate(k, job);
}
