// SPDX-License-Identifier: MIT
// Plans: what a function did with tensors, recorded once and replayed without it.
//
// A plan listens (events.h): between nb_plan_begin and nb_plan_end every operator that is applied, those of backward
// walks included, becomes a step; gradients that leaves receive and optimizer steps do too.  nb_plan_finish gives what
// lives only inside a place in one block of memory and joins elementwise neighbours; nb_plan_run
// then repeats the steps on other inputs of the same layouts.
//
//   inputs ──► stand-ins ──► step ─ step ─ [elementwise ─ elementwise ─ ...] ─ step ──► results
//
// A plan refuses what it could not repeat: values that Lua read, shapes that depend on values,
// operators written in Lua.  The sentence says what and where.
#ifndef NABLUA_PLAN_H
#define NABLUA_PLAN_H

#include "nablua/op.h"
#include "nablua/optimize.h"

typedef struct Plan Plan;

typedef struct PlanStats {
  int steps, groups, grouped;  // steps; groups of elementwise steps and how many are in them
  size_t arena, apart;         // bytes of what lives only inside: in the plan's block, and were it kept apart
} PlanStats;

// Starts to record.  `stand_ins` are tensors to call the function with, copies of the inputs made by the
// caller and not tracked; the plan retains them.  NULL when there is no memory or a plan is being recorded.
Plan *nb_plan_begin(Tensor *const *stand_ins, int count, Error *err);

// Stops to record.  `results` is what the function returned.  False when the plan is refused.
bool nb_plan_end(Plan *p, Tensor *const *results, int count, Error *err);

// Whether input i (from 0) was written to since the recording began; such a plan is refused.
bool nb_plan_changed(const Plan *p, int i);

// Whether a second recording of the same function did the same on its own inputs; false with the difference.
bool nb_plan_same(const Plan *a, const Plan *b, Error *err);

// Plans the memory.  Call it when nothing else holds what the recording made and need not keep.
bool nb_plan_finish(Plan *p, Error *err);

// Whether the tensors that it found outside require grad as they did while it was recorded, and have no hooks.
bool nb_plan_leaves_same(const Plan *p);

// The bytes of a finished plan: its block, its steps, and what it keeps of the recording.
size_t nb_plan_bytes(const Plan *p);

// Whether the leaves' gradients are in the state that the recording began with; else it must be made anew.
bool nb_plan_ready(const Plan *p);

// Whether these tensors have the stand-ins' layouts, lie in rows, and are not on the tape.
bool nb_plan_fits(const Plan *p, Tensor *const *inputs, int count);

// Repeats the steps; `inputs` have the stand-ins' layouts and are contiguous.  On failure some steps were taken.
bool nb_plan_run(Plan *p, Tensor *const *inputs, Error *err);

// Changes the numbers of optimizer steps, as when the learning rate has moved; `places` among the plan's such steps,
// from 0, rise.  False when one is a step of another kind, or remembers other things than what is said to be remembered
// now.
bool nb_plan_set_rule(Plan *p, const int *places, int count, const OptimizerRule *rule, bool first, bool second);

int nb_plan_results(const Plan *p);
Tensor *nb_plan_result(const Plan *p, int i);  // borrowed; the next run overwrites it

PlanStats nb_plan_stats(const Plan *p);

// Step i (from 0) in words: "linear 64×10", "group of 5: mul add ..."; false past the last.
bool nb_plan_describe(const Plan *p, int i, char *text, size_t size);

void nb_plan_free(Plan **p);

// Whether one is being recorded.
bool nb_plan_recording(void);

// Ends the recording that is under way, if there is one: nothing more is seen.
void nb_plan_abandon(void);

#endif
