// SPDX-License-Identifier: MIT
// The parts of a plan, as the files of this room see it:
//
//   record ──► compare ──► plan (finish) ──► rewrite, group, arena ──► replay
#ifndef NABLUA_STEPS_H
#define NABLUA_STEPS_H

#include "loops.h"
#include "nablua/events.h"
#include "nablua/map.h"
#include "nablua/optimize.h"
#include "nablua/plan.h"

enum { PLAN_INPUTS = 16, PLAN_LOCALS = 12, PLAN_HOSTS = 32 };

typedef enum StepKind { STEP_CALL, STEP_IN_PLACE, STEP_GRAD, STEP_OPTIMIZER } StepKind;

typedef struct PlanStep {
  StepKind kind;
  size_t bytes;  // of this block, which holds lists too
  Site site;
  // Calls.
  Call call;
  Value args[NB_MAX_PARAMS];
  LoopWalk walk;                    // elementwise: how to run it without its forward; count 0 otherwise
  Tensor *tensor[NB_MAX_OPERANDS];  // not owned: the walk's operands, the output first
  Brief brief;                      // other small calls: the same
  char *brief_at[4];                // where its tensors lie
  bool flushes;                     // it was applied while operators flush (modes.h)
  bool moves;                       // an operand is an input of the plan, which lies elsewhere each time
  int8_t local[NB_MAX_OPERANDS];    // in a group: 1 + the tile buffer of an operand that lives only there, or 0
  int group;                        // of the first in a group: how many; of the others −1; 0 for those alone
  double divisor;                   // of the sum of all elements at the end of a group; 0 for other steps
  double *partial;                  // its sums of tiles, in the plan's memory
  // Gradients.
  Tensor *leaf, *grad;
  const Tensor *before;  // not owned, to compare with
  bool cleared;
  // Optimizers.
  OptimizerRule rule;
  OptimizerSlot *slots;
  int slot_count;
} PlanStep;

// What a small step needs in the plainest case, side by side with those of its neighbours.
typedef struct QuickStep {
  enum { QUICK_NOT, QUICK_ROW, QUICK_BRIEF, QUICK_GRAD } kind;  // QUICK_NOT: run the step itself
  union {
    struct {
      Loop loop;
      const Value *args;
      int64_t n, stride[NB_MAX_OPERANDS];
      char *base[NB_MAX_OPERANDS];
    } row;
    struct {
      void (*run)(char *const *p, const int64_t *n);
      char *at[4];
      int64_t n[8];
    } brief;
    struct {
      const Tensor *leaf, *grad;  // nothing to do where the leaf has it
    } grad;
  } as;
} QuickStep;

// What a tensor from outside was asked.
typedef struct PlanLook {
  Tensor *t;     // owned
  Tensor *grad;  // owned: the gradient it must have, where a step computes with that; else NULL
  bool of_grad;  // whether it has one was asked; else whether it requires grad
  bool is;       // the answer
} PlanLook;

struct Plan {
  Listener listener;  // hears while it is recorded
  PlanStep **step;
  int count;
  size_t room;
  Tensor *input[PLAN_INPUTS], *result[PLAN_INPUTS];
  uint32_t version[PLAN_INPUTS];  // of the inputs' storages before it was recorded
  int inputs, results;
  QuickStep *quick;  // one for each step
  PlanStep **guard;  // the first gradient step of each leaf that depends on the state before
  int grad_guards;
  int lasting;            // the first step that writes into what outlives the plan
  const Tensor **needed;  // not owned: weights that an optimizer step moves by gradients from before
  int needs;
  double *partial;  // sums of tiles
  size_t partial_bytes;
  char *arena;
  size_t arena_bytes;
  Storage **moved;  // owned references by way of the steps: storages that lie in the arena
  int moved_count;
  const Storage *host[PLAN_HOSTS];  // not owned: gradients in whose memory other things lie while it runs
  int hosts;
  Tensor **leaf;  // found outside, owned; first those that require grad
  int leaves, leaves_with_grad;
  PlanLook *look;
  int looks, look_room;
  size_t bytes;  // of all that it keeps
  size_t fresh;  // bytes made since it was last looked which ones nobody needs any more
  PlanStats stats;
  bool refused;
  char reason[400];
};

// Storages by address: inputs are 0.., output o of step s is inputs + s·NB_MAX_OUTPUTS + o.
bool plan_map_storages(AddressMap *m, const Plan *p, Error *err);
int plan_place_of(const AddressMap *storages, const Tensor *t);  // −1 for what comes from outside

// Calls visit for every reference to a tensor that a step holds.
void plan_each_tensor(PlanStep *s, void (*visit)(void *ctx, Tensor *t), void *ctx);

// A visitor of plan_each_tensor: whether one shares the storage of `with`.
typedef struct PlanSharing {
  const Tensor *with;
  bool shared;
} PlanSharing;
void plan_look_for(void *ctx, Tensor *t);

void plan_release_step(PlanStep *s);

// Looks where the operands of a step lie.
void plan_find_operands(PlanStep *s);

// ---- looks.c ----

void plan_on_looked(void *user, Tensor *t, bool of_grad);

// Keeps what was asked of tensors that no step makes.
bool plan_keep_looks(Plan *p, Error *err);

// Whether those that were asked for their gradients, or whether they require grad, would answer the same.
bool plan_looks_same(const Plan *p, bool of_grad);

void plan_free_looks(Plan *p);

// ---- record.c ----

// Hears no more; a plan that does not is ignored.
void plan_stop(Plan *p);

// ---- rewrite.c ----

// Spares steps whose work others can do.  Call it when nothing but the plan holds what only the plan needs.
void plan_rewrite(Plan *p);

// ---- group.c ----

// A sum or mean of all elements may end a group: gives it a walk over what it adds up.
void plan_walk_sum(PlanStep *s);

void plan_make_groups(Plan *p);

// Memory for the sums of tiles; a sum that is in no group goes its own way.
bool plan_make_partials(Plan *p, Error *err);

// Runs `count` elementwise steps and sums from `first` on, tile by tile.
bool plan_run_group(Plan *p, int first, int count, Error *err);

// ---- arena.c ----

// Gives what lives only inside its tile or its place in the arena.
bool plan_arrange(Plan *p, Error *err);

// While it is recorded, or waits for another recording to be compared with: gives back the bytes of what nothing but
// the plan holds.
void plan_shed(Plan *p);

// Takes the tensors out of the arena before they are released.
void plan_return_memory(Plan *p);

// ---- replay.c ----

// Fills p->quick; called last.
bool plan_make_quick(Plan *p, Error *err);

#endif
