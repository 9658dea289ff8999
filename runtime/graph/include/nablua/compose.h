// SPDX-License-Identifier: MIT
// Writing one operator in terms of others: backward rules, composed forwards.
//
// A Scope owns every tensor made in it and releases them together, so a formula reads as one:
//
//   nb_give(b, 0, nb_mul(s, g, nb_mul(s, y, nb_rsub(s, 1, y))));     // sigmoid: g·y·(1 − y)
//
// A function given NULL returns NULL: the first failure, kept in the scope's error, passes through.
#ifndef NABLUA_COMPOSE_H
#define NABLUA_COMPOSE_H

#include "nablua/op.h"
#include "nablua/tape.h"

typedef struct Scope {
  Error *err;
  int count, capacity;
  Tensor **items;  // `first`, or a block of its own once that is full
  Tensor *first[24];
} Scope;

void nb_scope_open(Scope *s, Error *err);
void nb_scope_close(Scope *s);

// Hands a tensor over to the scope, which releases it at its close (or at once when it cannot hold it).
Tensor *nb_scope_own(Scope *s, Tensor *t);

// Applies the named operator; the result, or the first of several, belongs to the scope.
Tensor *nb_op(Scope *s, const char *name, const Value *args);

// The same with several results in out[], as many as the operator returns.
bool nb_op_many(Scope *s, const char *name, const Value *args, Tensor **out);

// True when neither the tape records nor anybody hears single calls: a rule may compute at once what it else composes
// of operators.
bool nb_unheard(void);

Tensor *nb_unary(Scope *s, const char *name, Tensor *x);
Tensor *nb_binary(Scope *s, const char *name, Tensor *a, Tensor *b);

Tensor *nb_add(Scope *s, Tensor *a, Tensor *b);
Tensor *nb_sub(Scope *s, Tensor *a, Tensor *b);
Tensor *nb_mul(Scope *s, Tensor *a, Tensor *b);
Tensor *nb_div(Scope *s, Tensor *a, Tensor *b);
Tensor *nb_neg(Scope *s, Tensor *a);
Tensor *nb_addn(Scope *s, Tensor *a, double number);  // a + number
Tensor *nb_rsub(Scope *s, double number, Tensor *a);  // number − a
Tensor *nb_muln(Scope *s, Tensor *a, double number);  // a · number
Tensor *nb_pown(Scope *s, Tensor *a, double number);  // a ^ number
Tensor *nb_matmul(Scope *s, Tensor *a, Tensor *b);
Tensor *nb_to(Scope *s, Tensor *a, DType dtype);
Tensor *nb_where(Scope *s, Tensor *mask, Tensor *a, Tensor *b);
Tensor *nb_full(Scope *s, const Layout *like, double value);  // of like's shape and dtype
Tensor *nb_contiguous(Scope *s, Tensor *a);

// Shapes; sizes as in C, dimensions 0-based here.
Tensor *nb_reshape(Scope *s, Tensor *a, const int64_t *shape, int ndim);
Tensor *nb_reshape_like(Scope *s, Tensor *a, const Layout *like);
Tensor *nb_expand(Scope *s, Tensor *a, const int64_t *shape, int ndim);
Tensor *nb_expand_like(Scope *s, Tensor *a, const Layout *like);
Tensor *nb_swap(Scope *s, Tensor *a, int d, int e);
Tensor *nb_sum_dims(Scope *s, Tensor *a, const int *dims, int count, bool keepdim);
Tensor *nb_sum_all(Scope *s, Tensor *a);

// Sums what broadcasting repeated: from a's shape back to that of `like`.
Tensor *nb_sum_to(Scope *s, Tensor *a, const Layout *like);

// A backward at work on one node.
struct Backward {
  Node *node;
  Tensor *grad[NB_MAX_OUTPUTS];  // dJ/d(output); NULL where none came
  Scope *scope;
  Tensor **given;  // dJ/d(tensor argument), one for each edge
  bool last;       // nobody looks at `grad` after the rule
};

// Applies an elementwise operator to (δ of the first output, y) when no other part of the rule needs δ any more: the
// result takes δ's place where it can, which spares memory's time.
Tensor *nb_on_grad(Backward *b, const char *name, Tensor *y);

// Applies an operator that also works in place to zeros of that layout and to args[1], args[2] ...; args[0] becomes the
// zeros.  Many zeros are written into where the rule is not recorded, so that a gradient takes its room once.
Tensor *nb_into_zeros(Scope *s, const char *name, const Layout *l, Value *args);

// A tensor argument as its row's parameter i (of lists: the jth with nb_in_list).  Of elementwise rows it comes in the
// dtype of δ, in which the forward computed; else as it was given.
Tensor *nb_in(Backward *b, int i);
Tensor *nb_in_list(Backward *b, int i, int j);
const Value *nb_arg(Backward *b, int i);

// A saved output.
Tensor *nb_out(Backward *b, int i);

// True when somebody wants the gradient of tensor argument i: rules skip the others.
bool nb_wants(Backward *b, int i);
bool nb_wants_list(Backward *b, int i, int j);

// Sets the gradient of tensor argument i.  It is summed back over broadcast dimensions and cast to
// the argument's dtype.  Returns false when `grad` is NULL.
bool nb_give(Backward *b, int i, Tensor *grad);
bool nb_give_list(Backward *b, int i, int j, Tensor *grad);

#endif
