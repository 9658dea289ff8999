// SPDX-License-Identifier: MIT
// What follows from an operator's role: its name, and what a call costs where the row has no count of its own.
#include <math.h>

#include "nablua/op.h"

static const char *const names[NB_ROLES] = {[NB_ROLE_FUNCTION] = "function",
                                            [NB_ROLE_FORMULA] = "formula",
                                            [NB_ROLE_DIFFERENCE] = "difference",
                                            [NB_ROLE_LOGARITHM] = "logarithm",
                                            [NB_ROLE_ACTIVATION] = "activation",
                                            [NB_ROLE_PRODUCT] = "product",
                                            [NB_ROLE_POOL] = "pool",
                                            [NB_ROLE_NORMALISATION] = "normalisation",
                                            [NB_ROLE_ATTENTION] = "attention",
                                            [NB_ROLE_RECURRENCE] = "recurrence",
                                            [NB_ROLE_LOSS] = "loss",
                                            [NB_ROLE_REDUCTION] = "reduction",
                                            [NB_ROLE_STRUCTURE] = "structure",
                                            [NB_ROLE_PART] = "part",
                                            [NB_ROLE_CREATION] = "creation",
                                            [NB_ROLE_TEST] = "test",
                                            [NB_ROLE_GRADIENT] = "gradient"};

const char *nb_role_name(Role role) {
  return names[role];
}

static double of_results(const Call *c) {
  return c->op->dynamic ? 0 : (double)nb_layout_numel(&c->layout[0]);
}

static double of_arguments(const Call *c) {
  return (double)nb_layout_numel(&c->args[0].tensor->layout);
}

static double none(const Call *c) {
  (void)c;
  return 0;
}

// The counts of those roles that do not have one operation for each element of the result.
static double (*const counts[NB_ROLES])(const Call *c) = {[NB_ROLE_REDUCTION] = of_arguments,
                                                          [NB_ROLE_STRUCTURE] = none,
                                                          [NB_ROLE_PART] = none,
                                                          [NB_ROLE_CREATION] = none,
                                                          [NB_ROLE_TEST] = none};

double nb_call_flops(const Call *c) {
  const Op *op = c->op;
  double (*count)(const Call *) = op->flops ? op->flops : counts[op->role] ? counts[op->role] : of_results;
  return count(c);
}

double nb_op_flops(const Op *op, const Value *args) {
  Error err;
  Call c = {.op = op, .args = args};
  return op->shape(&c, &err) ? nb_call_flops(&c) : NAN;
}
