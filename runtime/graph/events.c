// SPDX-License-Identifier: MIT
// Telling listeners.
#include "nablua/events.h"

Voices nb_voices;

// Where a telling has got to, so that a listener may remove any other while it is told; the innermost first.
typedef struct Round {
  Listener *next;
  struct Round *outer;
} Round;
static Round *rounds;

void nb_listen(Listener *l) {
  Listener **end = &nb_voices.list[l->voice];
  while (*end && *end != l) end = &(*end)->next;
  if (*end) return;
  l->next = NULL;
  *end = l;
}

void nb_unlisten(Listener *l) {
  for (Round *r = rounds; r; r = r->outer)
    if (r->next == l) r->next = l->next;
  for (Voices *v = &nb_voices; v; v = v->aside) {
    for (Listener **at = &v->list[l->voice]; *at; at = &(*at)->next) {
      if (*at != l) continue;
      *at = l->next;
      return;
    }
  }
}

static void begin(Round *r, Voice voice) {
  *r = (Round){nb_voices.list[voice], rounds};
  rounds = r;
  nb_voices.deaf[NB_OUTER]++;
  nb_voices.deaf[NB_INNER]++;
}

static Listener *next(Round *r) {
  Listener *l = r->next;
  if (l) r->next = l->next;
  return l;
}

static void end(Round *r) {
  nb_voices.deaf[NB_OUTER]--;
  nb_voices.deaf[NB_INNER]--;
  rounds = r->outer;
}

int nb_holders(void) {
  int count = 0;
  if (nb_is_heard(NB_INNER))
    for (const Listener *l = nb_voices.list[NB_INNER]; l; l = l->next) count += l->holds;
  return count;
}

bool nb_is_kept(void) {
  if (nb_is_heard(NB_INNER))
    for (const Listener *l = nb_voices.list[NB_INNER]; l; l = l->next)
      if (!l->brief) return true;
  return false;
}

bool nb_awaits_arrivals(void) {
  if (nb_is_heard(NB_INNER))
    for (const Listener *l = nb_voices.list[NB_INNER]; l; l = l->next)
      if (l->arrived) return true;
  return false;
}

// The body of a telling: `call` is what happens to a listener `l` that has the function.
#define TELL(voice, function, call)       \
  Round round;                            \
  begin(&round, voice);                   \
  for (Listener * l; (l = next(&round));) \
    if (l->function) call;                \
  end(&round)

bool nb_tell_applied(Voice voice, const Applied *a, Error *err) {
  bool ok = true;
  TELL(voice, applied, ok = ok && l->applied(l->user, a, err));
  return ok;
}

bool nb_tell_writing(Tensor *target, Error *err) {
  bool ok = true;
  TELL(NB_OUTER, writing, ok = ok && l->writing(l->user, target, err));
  return ok;
}

bool nb_tell_overwriting(Storage *s, Error *err) {
  bool ok = true;
  TELL(NB_WRITE, overwriting, ok = ok && l->overwriting(l->user, s, err));
  return ok;
}

bool nb_tell_visited(Node *node, Tensor *const *grad, Tensor *const *given, Error *err) {
  bool ok = true;
  TELL(NB_OUTER, visited, ok = ok && l->visited(l->user, node, grad, given, err));
  return ok;
}

void nb_tell_computing(const Op *op) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, computing, l->computing(l->user, op));
}

void nb_tell_visiting(const Node *n) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, visiting, l->visiting(l->user, n));
}

void nb_tell_walks(void) {
  TELL(NB_INNER, walks, l->walks(l->user));
}

bool nb_tell_arrived(Tensor *leaf, Tensor **grad, Error *err) {
  bool ok = true;
  TELL(NB_INNER, arrived, ok = ok && l->arrived(l->user, leaf, grad, err));
  return ok;
}

bool nb_tell_walked(bool whole, Error *err) {
  bool ok = true;
  TELL(NB_INNER, walked, ok = l->walked(l->user, whole && ok, err) && ok);
  return ok;
}

void nb_tell_deposited(Tensor *leaf, const Tensor *before, bool cleared) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, deposited, l->deposited(l->user, leaf, before, cleared));
}

void nb_tell_looked(Tensor *t, bool of_grad) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, looked, l->looked(l->user, t, of_grad));
}

void nb_tell_stepped(const struct OptimizerRule *rule, const union OptimizerSlot *slots, int count) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, stepped, l->stepped(l->user, rule, slots, count));
}

void nb_tell_value_read(const char *how) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, value_read, l->value_read(l->user, how));
}

void nb_tell_unrepeatable(const char *what) {
  if (!nb_is_heard(NB_INNER)) return;
  TELL(NB_INNER, unrepeatable, l->unrepeatable(l->user, what));
}
