// SPDX-License-Identifier: MIT
// What operators, the tape and optimizers tell the plan that is being recorded.
#ifndef NABLUA_PLAN_PRIVATE_H
#define NABLUA_PLAN_PRIVATE_H

#include "nablua/optimize.h"
#include "nablua/plan.h"

// The plan that is being recorded; op.c sets it aside while a forward works.
extern Plan *nb_recording;

// Puts the operator's name before a sentence that lacks it.
void nb_op_name_error(const Op *op, Error *err);

// A finished call; `args` of c are those that its forward saw.
void nb_plan_note_call(const Call *c, bool in_place);
void nb_plan_note_optimizer(const OptimizerRule *rule, const OptimizerSlot *slots, int count);

// nb_optimizer_step of a user's line that is known.
bool nb_optimizer_step_at(Site site, const OptimizerRule *rule, const OptimizerSlot *slots, int count, Error *err);

#endif
