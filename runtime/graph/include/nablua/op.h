// SPDX-License-Identifier: MIT
// Operators: one row in one table says all there is to say about one.
//
// From a row follow the Lua function and method, argument checks and their errors, help,
// completion, the reference page, what inspection shows of it, the signed gradient check and the example
// test.  To add an operator, write its row beside its static functions in the family's file; nothing else
// changes.  To add a family, list it in
// runtime/ops/catalogue.c, which hands all of them to nb_op_register.
#ifndef NABLUA_OP_H
#define NABLUA_OP_H

#include "nablua/tape.h"
#include "nablua/tensor.h"

enum { NB_MAX_PARAMS = 10, NB_MAX_OUTPUTS = 3, NB_MAX_ARGS = 10 };

typedef enum ParamKind {
  NB_PARAM_TENSOR,   // a tensor
  NB_PARAM_OPERAND,  // a tensor, or a number that takes the other operand's dtype: the kind of what has a gradient
  NB_PARAM_INDEX,    // a tensor of whole numbers of any dtype; arrives as i64
  NB_PARAM_MASK,     // a tensor of any dtype; arrives as bool
  NB_PARAM_TENSORS,  // a list of tensors
  NB_PARAM_INT,      // a whole number; this kind and those below refuse tensors that require grad
  NB_PARAM_INTS,     // several whole numbers, or a list of them; one number where `count` is 2 serves for both
  NB_PARAM_DIM,      // a dimension, 1-based, negative from the end
  NB_PARAM_DIMS,     // none (all), one or a list of dimensions
  NB_PARAM_NUMBER,   // a number
  NB_PARAM_FLAG,     // true or false
  NB_PARAM_DTYPE,    // "f32" ...
  NB_PARAM_CHOICE,   // one of the strings in `choices`
  NB_PARAM_OBJECT,   // something of the embedder's, for rows made at run time; not readable from Lua
  NB_PARAM_KINDS
} ParamKind;  // what each is to others: args.h

typedef struct Param {
  const char *name;
  ParamKind kind;
  const char *doc;      // what help says, where the name does not
  bool optional;        // may be left out
  bool named;           // given only in the trailing table of options
  bool element;         // NUMBER: the value of elements, so true and false too, where those are bools
  bool plain;           // OPERAND: may arrive as a number, Value.plain: all such of a row or none, beside f32 and f64
  int count;            // INTS: how many there must be; 0 = any number
  double fallback;      // NUMBER, INT, FLAG, DTYPE, optional OPERAND: the value when left out; see NB_LEFT_OUT
  const char *choices;  // CHOICE: "mean|sum|none"; the first is the default
} Param;

// What an INT arrives as that was left out, where the row makes another number of that.
enum { NB_LEFT_OUT = INT32_MIN };

// Something counted that a call carries to its backward: nodes hold references to it.
typedef struct Object {
  int32_t refs;
  void (*destroy)(struct Object *object);
} Object;

void nb_object_release(Object **object);  // sets it to NULL; NULL is ignored

// One argument, as its row's Param says.  What was left out arrives as: tensor NULL, DIM 0,
// INTS and DIMS count -1, DTYPE with a fallback of NB_DTYPES that, for the row to choose, the others their fallback.
typedef union Value {
  Tensor *tensor;
  struct {
    Tensor **items;
    int count;
  } tensors;
  struct {
    int64_t *items;
    int count;
  } ints;
  int64_t integer;
  struct {
    double number;
    int64_t whole;  // with all its bits, where it was given as a whole number; else 0
  };
  struct {
    Tensor *no_tensor;  // NULL
    double plain;       // an OPERAND that is no tensor
  };
  bool flag;
  DType dtype;
  int choice;
  Object *object;
} Value;

typedef struct Op Op;

// One application of an operator, as its shape rule and its forward see it.
typedef struct Call {
  const Op *op;
  const Value *args;              // as many as op->params
  DType compute;                  // set by the shape rule of elementwise rows: the dtype to compute in
  Layout layout[NB_MAX_OUTPUTS];  // set by the shape rule; for views with strides and offset
  bool view;                      // the shape rule of a row that can do both sets it: a view, no forward
  Tensor *out[NB_MAX_OUTPUTS];    // allocated from `layout` before forward; `dynamic` rows do it themselves
} Call;

// An inner loop: n elements, p[0] the output, then the inputs; strides in bytes.
typedef void (*Loop)(int64_t n, char *const *p, const int64_t *stride, const Value *args);

// A small call as a plan repeats it, without its forward: run(addresses of the tensors, n).
typedef struct Brief {
  void (*run)(char *const *p, const int64_t *n);
  Tensor *tensor[4];  // not owned; up to the first NULL
  int64_t n[8];
} Brief;

typedef struct Backward Backward;

// How the derived tests make inputs: see tests/lua/test_ops.lua.
typedef struct Sample {
  double lo, hi;     // the range of f(...) inputs; both 0 means -2..2
  const char *args;  // arguments as Lua, "; " between cases; NULL: f(2,3,4) for each tensor
} Sample;

// What an operator is to somebody who looks at it: how inspection names its result and writes its factor, and how
// many operations one element costs.
typedef enum Role {
  NB_ROLE_FUNCTION,       // stands by its symbol: f(x), and its factor is f'(x)
  NB_ROLE_FORMULA,        // is written as its formula, and its factor as .derivative says: x·y has y and x
  NB_ROLE_DIFFERENCE,     // likewise; of what a loss compares: x − y
  NB_ROLE_LOGARITHM,      // likewise; cross-entropies are written with it
  NB_ROLE_ACTIVATION,     // a layer's function: a⁽²⁾ = σ(z⁽²⁾)
  NB_ROLE_PRODUCT,        // of a value and a weight, and perhaps a bias: z⁽²⁾ = X·W⁽¹⁾+b⁽¹⁾
  NB_ROLE_POOL,           // p⁽²⁾ = MaxPool(a⁽²⁾)
  NB_ROLE_NORMALISATION,  // of rows or channels
  NB_ROLE_ATTENTION,      // softmax(q·kᵀ)·v
  NB_ROLE_RECURRENCE,     // stands for the steps of a recurrent layer, which inspection unfolds
  NB_ROLE_LOSS,           // of a value and a target
  NB_ROLE_REDUCTION,      // fewer numbers out of many; its factor is .derivative where that is a formula
  NB_ROLE_STRUCTURE,      // the same values in another shape: it has no factor
  NB_ROLE_PART,           // values taken out, joined or put elsewhere
  NB_ROLE_CREATION,       // made from sizes, or drawn
  NB_ROLE_TEST,           // masks and places
  NB_ROLE_GRADIENT,       // serves the backward of another row
  NB_ROLES
} Role;

// "activation" ...
const char *nb_role_name(Role role);

struct Op {
  const char *name;
  const char *doc;      // one line, no trailing newline
  const char *example;  // Lua that runs; "  --> " precedes the value it shows
  // What δ, the error of the result, is multiplied by on its way to each argument: "∂/∂x = y, ∂/∂y = x"; of one
  // argument just "e^x".  Words may follow a comma.  `explain` shows it where it is a formula of the arguments.
  const char *derivative;
  const char *no_grad;  // why there is none, where there is no backward
  const char *source;   // paper or standard of a formula, where it has one
  const char *layer;    // the layer that only applies it: "ReLU" makes nn.ReLU; NULL: there is none

  // What inspection knows; parameters' names stand for the arguments.
  Role role;
  const char *symbol;              // as formulas write it: "σ"; NULL: its name
  const char *latex;               // the symbol in LaTeX, where it is more than letters
  const char *formula;             // how a result is written: "x + y"; NULL: symbol(x, y)
  const char *factor;              // what `explain` shows in place of what role and derivative give: "ŷ − y"
  const char *probability;         // of what ends a classifier: the probability, of its result y: "y", "e^y"
  const char *shrinks;             // what to say where its derivative made a gradient small
  double (*flops)(const Call *c);  // floating point operations of a call; NULL: as nb_op_flops says

  Sample sample;
  Param params[NB_MAX_PARAMS];        // up to the first without a name
  int outputs;                        // 0 means 1
  int (*returns)(const Value *args);  // how many outputs this call returns, where that varies
  int hidden;                         // that many last outputs serve backward only and are not returned
  bool view;                          // the output always looks at the first tensor's storage; there is no forward
  bool dynamic;                       // the output's shape depends on values: forward allocates
  bool inplace;                       // it may write into its first argument; there is name_ for users, too
  bool overwrites;                    // in place it replaces its first argument without reading it
  bool creates;                       // makes a tensor from sizes: Lua also takes requires_grad and name
  bool internal;                      // serves other rows' backward; not offered to users
  bool compares;                      // the result is a mask: numbers that the tensors cannot hold are compared, too
  bool narrow;                        // of u8 the result is u8 and wraps, where it once was wider: said once a session
  bool stays_mask;                    // of masks the result is one, where it once was counted: said once a session
  unsigned saves;                     // NB_SAVE_IN(i) and NB_SAVE_OUT(i) whose values backward reads
  bool (*shape)(Call *c, Error *err);
  bool (*forward)(Call *c, Error *err);
  bool (*backward)(Backward *b);
  void (*brief)(const Call *c, Brief *b);  // sets b->run where the call is so small that its forward is the larger part
  Loop loops[NB_DTYPES];                   // elementwise rows: the loop of each dtype it computes in
  Object *life;                            // of a row made at run time, which dies when nobody holds this any more
};

#define NB_SAVE_IN(i) (1u << (i))
#define NB_SAVE_OUT(i) (1u << (16 + (i)))

typedef struct OpFamily {
  const char *title;  // the heading in the reference
  const Op *ops;
  int count;
} OpFamily;

// Hands the library its operators: a list of families that ends with NULL and lives as long as the process.  It
// replaces the list before.  False with a sentence when a name stands twice.
bool nb_op_register(const OpFamily *const *families, Error *err);

// That list, in the order of the reference; an empty one before the first call.
const OpFamily *const *nb_op_families(void);

// The row of that name, or NULL.
const Op *nb_op_find(const char *name);

// The same for rows that the library cannot do without; NULL with a sentence.
const Op *nb_op_need(const char *name, Error *err);

int nb_op_params(const Op *op);

// How many outputs a call has, those that serve backward only included.
static inline int nb_op_outputs(const Op *op) {
  return op->outputs ? op->outputs : 1;
}

// Floating point operations of a call, where a multiplication and an addition are two.  Rows without a count of their
// own have one for each element of the result (of the first argument, where they reduce) and none where they only move,
// make or test values; what depends on values is not known before the call and counts as none.  NaN where the shape
// rule refuses the arguments.
double nb_op_flops(const Op *op, const Value *args);
double nb_call_flops(const Call *c);  // the same of a call whose shape rule has run

// How many results a call with these arguments gives.
int nb_op_results(const Op *op, const Value *args);

// Applies an operator.  `args` are borrowed; the outputs (nb_op_results of them) are owned by the
// caller.  Records on the tape when gradients are on and an input is tracked.
bool nb_apply(const Op *op, const Value *args, Tensor **out, Error *err);

// Puts the operator's name before a sentence about an argument that lacks it.
void nb_op_name_error(const Op *op, Error *err);

// Applies an elementwise operator and writes the result into its first argument, which must be a tensor.
bool nb_apply_inplace(const Op *op, const Value *args, Error *err);

#endif
