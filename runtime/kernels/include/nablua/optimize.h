// SPDX-License-Identifier: MIT
// Optimizer steps in one pass over all parameters: gradients, what is remembered and weights are each
// read and written once.
#ifndef NABLUA_OPTIMIZE_H
#define NABLUA_OPTIMIZE_H

#include "nablua/tensor.h"

typedef enum OptimizerKind { NB_SGD, NB_ADAM, NB_RMSPROP, NB_OPTIMIZERS } OptimizerKind;

// The numbers of an update rule; each kind reads its own.
typedef struct OptimizerRule {
  OptimizerKind kind;
  double lr, weight_decay;
  bool decoupled;              // Adam: the decay is taken off the weights, as AdamW has it
  double momentum, dampening;  // SGD; RMSprop has momentum too
  bool nesterov;               // SGD
  double beta1, beta2, eps;    // Adam; RMSprop's alpha is beta2
} OptimizerRule;

// A parameter, whose gradient is its `grad`, and what is remembered of it; all contiguous, of one
// floating dtype and as many elements.  `first`: momentum, or Adam's mean; `second`: the mean of squares;
// NULL where the rule needs none.  `step`: 0-d f64, how many steps were taken, this one included.
enum { NB_SLOT_TENSORS = 4 };
typedef union OptimizerSlot {
  struct {
    Tensor *weight, *first, *second, *step;
  };
  Tensor *all[NB_SLOT_TENSORS];  // what a step changes
} OptimizerSlot;

// Whether a tensor and its gradient are such that nb_optimizer_step can serve them.
bool nb_optimizer_serves(const Tensor *weight);

// Adds 1 to every slot's `step` and moves its weight by the rule.  Slots are borrowed.  After an interrupt it is
// not begun, or taken whole.
bool nb_optimizer_step(const OptimizerRule *rule, const OptimizerSlot *slots, int count, Error *err);

// Has steps add the squares of all gradients that they read to `*squares`, while they read them, and the number of
// those gradients to `*count`; NULL, NULL: they do not.  Both must live until then.
void nb_optimizer_measure(double *squares, int *count);

// A step at a line of the user's that is known, and nobody is told: for those who repeat a step.
bool nb_optimizer_step_at(Site site, const OptimizerRule *rule, const OptimizerSlot *slots, int count, Error *err);

#endif
