// SPDX-License-Identifier: MIT
// The trace: listeners that write down what they hear.
#include "nablua/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/tape.h"

static void (*tell)(const char *line);

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
  add(&l, "op    %s%s", a->op->name, a->in_place ? "_" : "");
  for (TensorWalk w = nb_tensors_of(a->op, a->args); nb_next_tensor(&w); separator = ",") {
    add(&l, "%s", separator);
    add_tensor(&l, *w.slot);
  }
  add(&l, " →");
  add_tensors(&l, a->out, a->count);
  add_site(&l, nb_site_now());
  tell(l.text);
  return true;
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  Line l = {.used = 0};
  (void)user, (void)err;
  add(&l, "tape  %s", n->op->name);
  add_tensors(&l, grad, NB_MAX_OUTPUTS);
  add(&l, " →");
  add_tensors(&l, given, n->edge_count);
  add_site(&l, n->site);
  tell(l.text);
  return true;
}

static bool on_overwriting(void *user, Storage *s, Error *err) {
  Line l = {.used = 0};
  (void)user, (void)err;
  add(&l, "write %zu bytes", s->bytes);
  if (s->owner) add_tensor(&l, s->owner);
  add(&l, ", version %lu", (unsigned long)s->version + 1);
  add_site(&l, nb_site_now());
  tell(l.text);
  return true;
}

static struct {
  const char *word;
  Listener listener;
} ears[] = {{"op", {.voice = NB_OUTER, .applied = on_applied}},
            {"tape", {.voice = NB_OUTER, .visited = on_visited}},
            {"write", {.voice = NB_WRITE, .overwriting = on_overwriting}}};
enum { EARS = sizeof ears / sizeof *ears };

// The ear of the word of n bytes; −1 when there is none.
static int ear_of(const char *word, size_t n) {
  for (int i = 0; i < EARS; i++)
    if (strlen(ears[i].word) == n && strncmp(ears[i].word, word, n) == 0) return i;
  return -1;
}

bool nb_trace(const char *words, void (*to)(const char *line), Error *err) {
  bool wanted[EARS] = {false};
  for (const char *at = words; *at;) {
    size_t n = strcspn(at, ",");
    int ear = ear_of(at, n);
    if (ear < 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "trace: there is no word \"%.*s\"; there are op, tape and write", (int)n,
                     at);
    wanted[ear] = true;
    at += n + (at[n] == ',');
  }
  tell = to;
  for (int i = 0; i < EARS; i++) {
    if (wanted[i])
      nb_listen(&ears[i].listener);
    else
      nb_unlisten(&ears[i].listener);
  }
  return true;
}
