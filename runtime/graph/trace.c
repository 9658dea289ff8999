// SPDX-License-Identifier: MIT
// The trace of operators: listeners that write down what they hear.
#include "nablua/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/tape.h"
#include "nablua/traced.h"

// A line that grows until it is full.
typedef struct Line {
  char text[600];
  size_t used;
} Line;

static void add(Line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(Line *l, const char *format, ...) {
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(l->text + l->used, sizeof l->text - l->used, format, ap);
  va_end(ap);
  if (n > 0) l->used += (size_t)n;
  if (l->used >= sizeof l->text) l->used = sizeof l->text - 1;
}

static void add_tensor(Line *l, const Tensor *t) {
  char shape[NB_SHAPE_TEXT];
  add(l, " %s %s", nb_dtype_name(t->layout.dtype), nb_shape_text(&t->layout, shape));
  if (t->name) add(l, " (%s)", t->name);
}

static void add_tensors(Line *l, Tensor *const *list, int count) {
  const char *separator = "";
  for (int i = 0; i < count; i++) {
    if (!list[i]) continue;
    add(l, "%s", separator);
    add_tensor(l, list[i]);
    separator = ",";
  }
}

static void add_site(Line *l, Site site) {
  if (site.source) add(l, "  %s:%d", site.source, site.line);
}

static bool on_applied(void *user, const Applied *a, Error *err) {
  Line l = {.used = 0};
  const char *separator = "";
  (void)user, (void)err;
  add(&l, "%s%s", a->op->name, a->in_place ? "_" : "");
  for (TensorWalk w = nb_tensors_of(a->op, a->args); nb_next_tensor(&w); separator = ",") {
    add(&l, "%s", separator);
    add_tensor(&l, *w.slot);
  }
  add(&l, " →");
  add_tensors(&l, a->out, a->count);
  add_site(&l, nb_site_now());
  nb_trace_line(NB_TRACE_OP, "%s", l.text);
  return true;
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  Line l = {.used = 0};
  (void)user, (void)err;
  add(&l, "%s", n->op->name);
  add_tensors(&l, grad, NB_MAX_OUTPUTS);
  add(&l, " →");
  add_tensors(&l, given, n->edge_count);
  add_site(&l, n->site);
  nb_trace_line(NB_TRACE_TAPE, "%s", l.text);
  return true;
}

static bool on_overwriting(void *user, Storage *s, Error *err) {
  Line l = {.used = 0};
  (void)user, (void)err;
  add(&l, "%zu bytes", s->bytes);
  if (s->owner) add_tensor(&l, s->owner);
  add(&l, ", version %lu", (unsigned long)s->version + 1);
  add_site(&l, nb_site_now());
  nb_trace_line(NB_TRACE_WRITE, "%s", l.text);
  return true;
}

static struct {
  TraceWord word;
  Listener listener;
} ears[] = {{NB_TRACE_OP, {.voice = NB_OUTER, .applied = on_applied}},
            {NB_TRACE_TAPE, {.voice = NB_OUTER, .visited = on_visited}},
            {NB_TRACE_WRITE, {.voice = NB_WRITE, .overwriting = on_overwriting}}};

bool nb_trace(const char *words, void (*tell)(const char *line), Error *err) {
  if (!nb_traced_set(words, tell, err)) return false;
  for (size_t i = 0; i < sizeof ears / sizeof *ears; i++) {
    if (nb_is_traced(ears[i].word))
      nb_listen(&ears[i].listener);
    else
      nb_unlisten(&ears[i].listener);
  }
  return true;
}
