// SPDX-License-Identifier: MIT
// The arguments of a call: what each kind of parameter holds, and copying, releasing and comparing all of them.
//
// Whoever keeps a call (the tape, a plan) or shows one asks here, so that a new kind of parameter is one entry in the
// table of args.c and one in the binding's.
#ifndef NABLUA_ARGS_H
#define NABLUA_ARGS_H

#include "nablua/op.h"

// What an argument of a kind holds.
typedef enum ArgHolds {
  NB_HOLDS_TENSOR,   // one tensor or NULL: Value.tensor
  NB_HOLDS_TENSORS,  // a list of tensors: Value.tensors
  NB_HOLDS_INTS,     // a list of whole numbers, or none with count -1: Value.ints
  NB_HOLDS_OBJECT,   // a counted object: Value.object
  NB_HOLDS_PLAIN     // a value that is copied as it is
} ArgHolds;

// One entry for each ParamKind.
typedef struct ArgKind {
  ArgHolds holds;
  bool (*equal)(const Value *a, const Value *b);  // of plain values
  void (*set_default)(const Param *p, Value *v);  // what stands for an argument that was left out
} ArgKind;

extern const ArgKind nb_arg_kinds[NB_PARAM_KINDS];

// The four kinds that hold a tensor come first: one comparison on the way of every call.
static inline bool nb_arg_is_tensor(const Param *p) {
  return p->kind <= NB_PARAM_MASK;
}

// Whether an argument that may be a tensor is a plain number.
static inline bool nb_arg_is_plain(const Param *p, const Value *v) {
  return p->plain && !v->tensor;
}

// The tensors of one argument, borrowed, in *list; returns how many places there are, of which some may be NULL.
static inline int nb_arg_tensors(const Param *p, const Value *v, Tensor ***list) {
  if (nb_arg_is_tensor(p)) {
    *list = (Tensor **)&v->tensor;
    return 1;
  }
  if (p->kind != NB_PARAM_TENSORS) return 0;
  *list = v->tensors.items;
  return v->tensors.count;
}

// Goes through the tensors of a call in the order of its parameters, lists flattened; the places of arguments that
// were left out are passed over, but counted:
//
//   for (TensorWalk w = nb_tensors_of(op, args); nb_next_tensor(&w);) use(*w.slot, w.edge);
typedef struct TensorWalk {
  const Op *op;
  const Value *args;
  Tensor **list;
  int left;         // of the list
  int next;         // parameter
  Tensor **slot;    // where the tensor stands
  const Param *of;  // its parameter
  int param, edge;  // the number of that parameter, and of the tensor among all, from 0
} TensorWalk;

static inline TensorWalk nb_tensors_of(const Op *op, const Value *args) {
  return (TensorWalk){.op = op, .args = args, .edge = -1};
}

static inline bool nb_next_tensor(TensorWalk *w) {
  for (;;) {
    while (w->left > 0) {
      w->slot = w->list++;
      w->left--;
      w->edge++;
      if (*w->slot) return true;
    }
    if (w->next == NB_MAX_PARAMS || !w->op->params[w->next].name) return false;
    w->param = w->next++;
    w->of = &w->op->params[w->param];
    w->left = nb_arg_tensors(w->of, &w->args[w->param], &w->list);
  }
}

// How many tensors the arguments have places for: the edges of a node.
int nb_args_edges(const Op *op, const Value *args);

// The bytes that the lists among the arguments need.
size_t nb_args_list_bytes(const Op *op, const Value *args);

// Copies the arguments, and their lists to `lists`, which has nb_args_list_bytes of them and is a multiple of 8;
// returns the end of what it filled.  With `retain` the copies of tensors are references of their own; without, their
// places are empty.  Objects always are references.
void *nb_args_copy(const Op *op, Value *to, const Value *from, void *lists, bool retain);

// Releases what nb_args_copy made, whose places become NULL.
void nb_args_release(const Op *op, Value *args);

// The number of the first parameter whose arguments differ, -1 when none does.  `same` compares tensors, of which
// either may be NULL; when it says no, the answer is NB_ARGS_TENSOR.
enum { NB_ARGS_SAME = -1, NB_ARGS_TENSOR = -2 };
int nb_args_compare(const Op *op, const Value *a, const Value *b,
                    bool (*same)(void *ctx, const Tensor *a, const Tensor *b), void *ctx);

#endif
