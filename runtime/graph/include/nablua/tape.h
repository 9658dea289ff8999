// SPDX-License-Identifier: MIT
// The tape: what was computed from what, and the walk back over it.
//
// Applying an operator to a tracked tensor makes a node; the node holds its operator's row, the
// arguments and the values its backward reads, and an edge to whatever made each tensor argument:
//
//   w (leaf) ◄──edge── [matmul] ◄──node── z ◄──edge── [sigmoid] ◄──node── a
//
// Nodes are numbered in order of creation; backward visits them in descending order, so that all
// gradients of a node's outputs have arrived when its turn comes.
#ifndef NABLUA_TAPE_H
#define NABLUA_TAPE_H

#include "nablua/tensor.h"

struct Op;
union Value;

// Where one tensor argument came from: a node's output, a leaf that collects a gradient, or neither.
typedef struct Edge {
  Node *node;    // owned
  Tensor *leaf;  // owned
  int output;
} Edge;

struct Node {
  const struct Op *op;
  int32_t refs;
  int32_t uses;  // of its values by rules that are under way, until which these stay
  uint64_t order;
  Site site;           // the user's line that applied the operator
  union Value *args;   // owned copies; tensors whose values backward does not read have only a shape
  int edge_count;      // the tensor arguments, lists flattened
  Edge *edges;         //
  uint32_t *versions;  // storage versions of the saved arguments, one for each edge
  Tensor *saved_out[3];
  uint32_t out_version[3];
  Tensor *watcher[3];           // not owned: the live tensors that stand for the outputs and want their gradient
  struct Hook *hooks;           // owned
  size_t bytes;                 // of this block, which holds args, edges and lists too
  bool freed;                   // a backward has released the saved values ...
  Site freed_at;                // ... from this line
  const void *module;           // whose call applied the operator, as the provider of sites knows it; not owned
  struct Node *before, *after;  // of all that live, the latest first
  union {
    intptr_t place;          // 1 + its place among those that the innermost walk has met; 0: no walk has
    struct Node *next_dead;  // when nobody holds it any more: the next to destroy
  };
};

// Gradients are recorded while this is true; nb_no_grad flips it.
bool nb_grad_enabled(void);
void nb_set_grad_enabled(bool on);

// Tells the library how to learn the user's current line and, unless `module` is NULL, which module is called now: by
// an address, NULL for none, that is no other's as long as the module lives.  A NULL provider turns it off.
void nb_set_site_provider(Site (*provider)(const void **module));
Site nb_site_now(void);

// The order of the last node that was made.
uint64_t nb_last_order(void);

typedef struct BackwardOptions {
  bool retain_graph;  // keep the saved values for another backward
  bool create_graph;  // record the backward itself, for second derivatives; implies retain_graph
} BackwardOptions;

// Adds dJ/dw to the `grad` of every leaf w that J depends on.  `grad` is dL/dJ, of J's shape; NULL
// means 1 and needs a J of one element.
bool nb_backward(Tensor *J, Tensor *grad, BackwardOptions options, Error *err);

// Computes dJ/dx for each of `count` tensors x and deposits nothing.  A tensor that J does not depend
// on gives NULL.  The results are owned by the caller.
bool nb_grad(Tensor *J, Tensor *grad, Tensor *const *x, int count, BackwardOptions options, Tensor **results,
             Error *err);

// Makes the tensor, which must be an intermediate, keep its gradient at the next backward.
void nb_tensor_retain_grad(Tensor *t);

// A function that sees the gradient of one tensor and may replace it.
typedef struct HookFunction {
  // Gets the whole gradient, all paths added up; returns it, or another of its shape, owned by the caller.  NULL with
  // `err` filled stops the backward.
  Tensor *(*call)(void *user, Tensor *grad, Error *err);
  void (*release)(void *user);
  void *user;
} HookFunction;

typedef struct Hook Hook;

// Calls `f`, which now belongs to the hook, in every backward that reaches `t`, which must be tracked, in the order of
// registration.  The hook is for the value that t has now: a later change in place gives t another history, and the
// hook stays with the old; it ends with that, whoever holds it.  On failure `f` is the caller's still.
Hook *nb_tensor_hook(Tensor *t, HookFunction f, Error *err);

// Ends the hook's calls; it may be called within one.  NULL is ignored.
void nb_hook_remove(Hook *hook);

void nb_hook_release(Hook **hook);

// Whether one of a list is still to be called.
bool nb_hooks_left(const Hook *hooks);

// Applies the node's backward rule: `grad` has dJ/d(output) for each of its NB_MAX_OUTPUTS outputs, or NULL; given[i],
// which must be NULL, becomes the owned gradient of edge i where somebody wants it.  Fails on a freed tape
// and on values that were changed in place.
bool nb_node_backward(Node *n, Tensor *const *grad, Tensor **given, Error *err);

// The number of the node that was made last.
uint64_t nb_tape_order(void);

// A node made so early or earlier whose backward, still to come, reads what the storage holds now; NULL when there is
// none.  Looks at all nodes.
const Node *nb_tape_needs(const Storage *s, uint64_t order);

Node *nb_node_retain(Node *n);

// Releases a reference; the whole tape behind it goes without recursion.
void nb_node_release(Node **node);

// Called when a tensor dies: its node no longer writes a gradient to it.
void nb_node_forget(const Tensor *t);

#endif
