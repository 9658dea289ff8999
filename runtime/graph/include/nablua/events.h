// SPDX-License-Identifier: MIT
// What happens to tensors, told to whoever listens: plans, inspection, the anomaly check, the trace.  The core knows
// none of them.
//
// A listener hears one of three voices:
//
//   outer  what the user applies, not what rules and composed forwards apply inside
//   inner  every call whose forward computes, those of backward walks included, and what happens to leaves
//   write  every write into memory that existed before, whoever writes
//
// While a listener is told of something neither outer nor inner is heard, so that what it applies is nobody's business.
// Where nobody listens, a voice costs one predictable branch.
#ifndef NABLUA_EVENTS_H
#define NABLUA_EVENTS_H

#include "nablua/op.h"

struct OptimizerRule;
union OptimizerSlot;

typedef enum Voice { NB_OUTER, NB_INNER, NB_WRITE, NB_VOICES } Voice;

// An operator that was applied.
typedef struct Applied {
  const Op *op;
  const Value *args;   // outer: as they were given; inner: as the forward saw them
  Tensor *const *out;  // the listener's to look at; where it wrote in place, the target alone
  int count;           // outer: the results; inner: all outputs
  bool in_place;
  const Call *call;  // inner: the whole call; outer: NULL
} Applied;

// A function that is not wanted is NULL.  One that returns false makes what it was told of fail.
typedef struct Listener {
  Voice voice;
  bool holds;  // inner: it keeps references to the gradients that leaves receive
  bool brief;  // inner: it keeps nothing of what it is told was applied, so that results may be written over

  // Outer and inner: an operator was applied.
  bool (*applied)(void *user, const Applied *a, Error *err);

  // Outer: an operator is about to write into `target`; a backward rule got `grad`, one for each output (or NULL), and
  // gave `given`, one for each edge.
  bool (*writing)(void *user, Tensor *target, Error *err);
  bool (*visited)(void *user, Node *node, Tensor *const *grad, Tensor *const *given, Error *err);

  // Write: the bytes of a storage are about to change; the last moment to copy them.
  bool (*overwriting)(void *user, Storage *s, Error *err);

  // Inner, from here on.

  // An operator's forward is about to compute (it is told of as applied when it has), or with NULL: an optimizer's step
  // is done.
  void (*computing)(void *user, const Op *op);
  // The backward rule of a node is about to run, or with NULL: has run.
  void (*visiting)(void *user, const Node *n);
  // A walk that will deposit its gradients begins.
  void (*walks)(void *user);
  // Such a walk has brought all that it has for a leaf.  `grad`, owned, is what will be
  // added to the leaf's gradient, and may be replaced by another tensor of its shape.  In the order of the walk, while
  // it goes on, but for leaves with hooks, which are told at its end.  One that returns false ends the walk.
  bool (*arrived)(void *user, Tensor *leaf, Tensor **grad, Error *err);
  // Such a walk has ended: all is deposited, or with `whole` false nothing.
  bool (*walked)(void *user, bool whole, Error *err);

  // A leaf's gradient, which was `before`, is another.  `cleared`: whatever it was before.
  void (*deposited)(void *user, Tensor *leaf, const Tensor *before, bool cleared);
  // A tensor was asked whether it has a gradient, or whether it requires grad.
  void (*looked)(void *user, Tensor *t, bool of_grad);
  // An optimizer is about to move its weights.
  void (*stepped)(void *user, const struct OptimizerRule *rule, const union OptimizerSlot *slots, int count);
  // A value left a tensor for the embedder's language; `how` is a clause: "it prints a tensor".
  void (*value_read)(void *user, const char *how);
  // Something happened that doing the same operators again would not repeat; `what` is such a clause, too.
  void (*unrepeatable)(void *user, const char *what);

  void *user;
  struct Listener *next;  // the library's
} Listener;

// Adds a listener, which must live until it is removed; it hears after those that were there before.  Both may be
// called within what a listener is told.
void nb_listen(Listener *l);
void nb_unlisten(Listener *l);  // one that does not listen is ignored

// ---- for those to whom things happen ----

// The first listener of each voice, how many reasons there are not to tell it, and those that are set aside: modes.h.
typedef struct Voices {
  Listener *list[NB_VOICES];
  int deaf[NB_VOICES];
  struct Voices *aside;
} Voices;
extern Voices nb_voices;

static inline bool nb_is_heard(Voice voice) {
  return __builtin_expect(nb_voices.list[voice] != NULL, 0) && !nb_voices.deaf[voice];
}

// How many listeners hold what leaves receive.
int nb_holders(void);

// Whether somebody hears the inner voice who is not brief.
bool nb_is_kept(void);

// Whether somebody wants to be told of arrivals.
bool nb_awaits_arrivals(void);

bool nb_tell_applied(Voice voice, const Applied *a, Error *err);
bool nb_tell_writing(Tensor *target, Error *err);
bool nb_tell_overwriting(Storage *s, Error *err);
bool nb_tell_visited(Node *node, Tensor *const *grad, Tensor *const *given, Error *err);
void nb_tell_walks(void);
bool nb_tell_arrived(Tensor *leaf, Tensor **grad, Error *err);
bool nb_tell_walked(bool whole, Error *err);

// These ask themselves whether somebody hears.
void nb_tell_computing(const Op *op);
void nb_tell_visiting(const Node *n);
void nb_tell_deposited(Tensor *leaf, const Tensor *before, bool cleared);
void nb_tell_looked(Tensor *t, bool of_grad);
void nb_tell_stepped(const struct OptimizerRule *rule, const union OptimizerSlot *slots, int count);
void nb_tell_value_read(const char *how);
void nb_tell_unrepeatable(const char *what);

#endif
