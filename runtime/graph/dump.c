// SPDX-License-Identifier: MIT
// Printing tensors and tapes for whoever sits in a debugger.
#include "nablua/census.h"
#include "nablua/tape.h"

void nb_tensor_dump(FILE *to, const Tensor *t) {
  enum { SHOWN = 8 };
  char shape[NB_SHAPE_TEXT];
  fprintf(to, "%s %s%s%s%s, refs %d", nb_dtype_name(t->layout.dtype), nb_shape_text(&t->layout, shape),
          t->name ? " (" : "", t->name ? t->name : "", t->name ? ")" : "", (int)t->refs);
  if (t->storage) fprintf(to, ", storage %p version %u", (void *)t->storage, (unsigned)t->storage->version);
  if (t->node) fprintf(to, ", output %d of %s #%llu", t->output, t->node->op->name, (unsigned long long)t->node->order);
  if (t->requires_grad) fprintf(to, ", requires grad");
  if (t->storage && t->storage->data && nb_layout_contiguous(&t->layout)) {
    int64_t count = nb_layout_numel(&t->layout);
    fprintf(to, ": ");
    for (int64_t i = 0; i < count && i < SHOWN; i++) fprintf(to, "%s%g", i ? ", " : "", nb_tensor_get(t, i));
    if (count > SHOWN) fprintf(to, ", ...");
  }
  fprintf(to, "\n");
}

static void dump_node(FILE *to, const Node *n) {
  fprintf(to, "#%llu %s  refs %d", (unsigned long long)n->order, n->op->name, (int)n->refs);
  if (n->freed) fprintf(to, " freed");
  if (n->site.source) fprintf(to, "  %s:%d", n->site.source, n->site.line);
  fprintf(to, "\n");
  for (int i = 0; i < n->edge_count; i++) {
    const Edge *e = &n->edges[i];
    fprintf(to, "  %d: ", i + 1);
    if (e->node) {
      fprintf(to, "output %d of %s #%llu\n", e->output, e->node->op->name, (unsigned long long)e->node->order);
    } else if (e->leaf) {
      fprintf(to, "leaf ");
      nb_tensor_dump(to, e->leaf);
    } else {
      fprintf(to, "no gradient\n");
    }
  }
}

void nb_tape_dump(FILE *to, const Tensor *t) {
  enum { WAITING = 1000, MOST = 200 };
  const Node *waiting[WAITING];  // not of the heap: a debugger may call this where memory cannot be had
  int count = 0, shown = 0;
  if (!t->node) fprintf(to, "no tape: ");
  nb_tensor_dump(to, t);
  if (t->node) waiting[count++] = t->node;
  for (; count > 0 && shown < MOST; shown++) {
    int latest = 0;
    for (int i = 1; i < count; i++)
      if (waiting[i]->order > waiting[latest]->order) latest = i;
    const Node *n = waiting[latest];
    waiting[latest] = waiting[--count];
    dump_node(to, n);
    for (int i = 0; i < n->edge_count; i++) {
      const Node *before = n->edges[i].node;
      bool waits = !before || count == WAITING;
      for (int k = 0; k < count && !waits; k++) waits = waiting[k] == before;
      if (!waits) waiting[count++] = before;
    }
  }
  if (count > 0) fprintf(to, "... and those before\n");
}
