// SPDX-License-Identifier: MIT
// The table of kinds, and what is done with all arguments of a call.
#include "nablua/args.h"

#include <string.h>

static bool equal_integers(const Value *a, const Value *b) {
  return a->integer == b->integer;
}

// By their bits: NaN is equal to itself, and 0 is not −0.
static bool equal_numbers(const Value *a, const Value *b) {
  return memcmp(&a->number, &b->number, sizeof a->number) == 0 && a->whole == b->whole;
}

static bool equal_plain(const Value *a, const Value *b) {
  return memcmp(&a->plain, &b->plain, sizeof a->plain) == 0;
}

static bool equal_flags(const Value *a, const Value *b) {
  return a->flag == b->flag;
}

static bool equal_dtypes(const Value *a, const Value *b) {
  return a->dtype == b->dtype;
}

static bool equal_choices(const Value *a, const Value *b) {
  return a->choice == b->choice;
}

static void no_tensor(const Param *p, Value *v) {
  (void)p;
  v->tensor = NULL;
}

static void no_list(const Param *p, Value *v) {
  (void)p;
  v->ints.items = NULL;
  v->ints.count = -1;
}

static void no_dimension(const Param *p, Value *v) {
  (void)p;
  v->integer = 0;
}

static void no_object(const Param *p, Value *v) {
  (void)p;
  v->object = NULL;
}

static void default_integer(const Param *p, Value *v) {
  v->integer = (int64_t)p->fallback;
}

static void default_number(const Param *p, Value *v) {
  *v = (Value){.number = p->fallback};
}

static void default_flag(const Param *p, Value *v) {
  v->flag = p->fallback != 0;
}

static void default_dtype(const Param *p, Value *v) {
  v->dtype = (DType)p->fallback;
}

static void default_choice(const Param *p, Value *v) {
  (void)p;
  v->choice = 0;
}

const ArgKind nb_arg_kinds[NB_PARAM_KINDS] = {
    [NB_PARAM_TENSOR] = {NB_HOLDS_TENSOR, NULL, no_tensor},
    [NB_PARAM_OPERAND] = {NB_HOLDS_TENSOR, NULL, no_tensor},
    [NB_PARAM_INDEX] = {NB_HOLDS_TENSOR, NULL, no_tensor},
    [NB_PARAM_MASK] = {NB_HOLDS_TENSOR, NULL, no_tensor},
    [NB_PARAM_TENSORS] = {NB_HOLDS_TENSORS, NULL, no_list},
    [NB_PARAM_INT] = {NB_HOLDS_PLAIN, equal_integers, default_integer},
    [NB_PARAM_INTS] = {NB_HOLDS_INTS, NULL, no_list},
    [NB_PARAM_DIM] = {NB_HOLDS_PLAIN, equal_integers, no_dimension},
    [NB_PARAM_DIMS] = {NB_HOLDS_INTS, NULL, no_list},
    [NB_PARAM_NUMBER] = {NB_HOLDS_PLAIN, equal_numbers, default_number},
    [NB_PARAM_FLAG] = {NB_HOLDS_PLAIN, equal_flags, default_flag},
    [NB_PARAM_DTYPE] = {NB_HOLDS_PLAIN, equal_dtypes, default_dtype},
    [NB_PARAM_CHOICE] = {NB_HOLDS_PLAIN, equal_choices, default_choice},
    [NB_PARAM_OBJECT] = {NB_HOLDS_OBJECT, NULL, no_object},
};

void nb_object_release(Object **slot) {
  Object *object = *slot;
  *slot = NULL;
  if (object && --object->refs == 0) object->destroy(object);
}

static ArgHolds holds(const Param *p) {
  return nb_arg_kinds[p->kind].holds;
}

int nb_args_edges(const Op *op, const Value *args) {
  int edges = 0;
  Tensor **list;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++)
    edges += nb_arg_tensors(&op->params[i], &args[i], &list);
  return edges;
}

static size_t list_bytes(const Param *p, const Value *v) {
  if (nb_arg_is_tensor(p)) return 0;
  if (holds(p) == NB_HOLDS_TENSORS) return (size_t)v->tensors.count * sizeof *v->tensors.items;
  if (holds(p) == NB_HOLDS_INTS && v->ints.count > 0) return (size_t)v->ints.count * sizeof *v->ints.items;
  return 0;
}

size_t nb_args_list_bytes(const Op *op, const Value *args) {
  size_t bytes = 0;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) bytes += list_bytes(&op->params[i], &args[i]);
  return bytes;
}

void *nb_args_copy(const Op *op, Value *to, const Value *from, void *lists, bool retain) {
  char *at = lists;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    const Param *p = &op->params[i];
    if (nb_arg_is_tensor(p)) {
      to[i] = from[i];
      to[i].tensor = retain ? nb_tensor_retain(from[i].tensor) : NULL;
      continue;
    }
    size_t bytes = list_bytes(p, &from[i]);
    to[i] = from[i];
    switch (holds(p)) {
      case NB_HOLDS_TENSORS:
        to[i].tensors.items = (Tensor **)(void *)at;
        for (int j = 0; j < from[i].tensors.count; j++)
          to[i].tensors.items[j] = retain ? nb_tensor_retain(from[i].tensors.items[j]) : NULL;
        break;
      case NB_HOLDS_INTS:
        if (!bytes) break;
        to[i].ints.items = (int64_t *)(void *)at;
        memcpy(at, from[i].ints.items, bytes);
        break;
      case NB_HOLDS_OBJECT:
        if (to[i].object) to[i].object->refs++;
        break;
      case NB_HOLDS_TENSOR:
      case NB_HOLDS_PLAIN:
        break;
    }
    at += bytes;
  }
  return at;
}

void nb_args_release(const Op *op, Value *args) {
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    const Param *p = &op->params[i];
    Tensor **list;
    if (nb_arg_is_tensor(p)) {
      if (args[i].tensor) nb_tensor_release(&args[i].tensor);
      continue;
    }
    for (int j = 0, count = nb_arg_tensors(p, &args[i], &list); j < count; j++) nb_tensor_release(&list[j]);
    if (holds(p) == NB_HOLDS_OBJECT) nb_object_release(&args[i].object);
  }
}

static bool same_lists(const Value *a, const Value *b) {
  return a->ints.count == b->ints.count &&
         (a->ints.count <= 0 || !memcmp(a->ints.items, b->ints.items, (size_t)a->ints.count * sizeof *a->ints.items));
}

int nb_args_compare(const Op *op, const Value *a, const Value *b,
                    bool (*same)(void *ctx, const Tensor *a, const Tensor *b), void *ctx) {
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    const Param *p = &op->params[i];
    Tensor **x, **y;
    int count = nb_arg_tensors(p, &a[i], &x);
    if (count != nb_arg_tensors(p, &b[i], &y)) return i;
    for (int j = 0; j < count; j++)
      if (!same(ctx, x[j], y[j])) return NB_ARGS_TENSOR;
    if (nb_arg_is_plain(p, &a[i]) && nb_arg_is_plain(p, &b[i]) && !equal_plain(&a[i], &b[i])) return i;
    if (holds(p) == NB_HOLDS_INTS && !same_lists(&a[i], &b[i])) return i;
    if (holds(p) == NB_HOLDS_OBJECT && a[i].object != b[i].object) return i;
    if (holds(p) == NB_HOLDS_PLAIN && !nb_arg_kinds[p->kind].equal(&a[i], &b[i])) return i;
  }
  return NB_ARGS_SAME;
}
