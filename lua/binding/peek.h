// SPDX-License-Identifier: MIT
// Whether a Lua table's memory is as it was.
//
// Comparing a table's fields through Lua's interface takes longer than a small training step.  The memory of a table of
// Lua 5.4 is compared in a tenth of that:
//
//   table ──► array: value, value ...
//         ├─► node:  value key, value key ...
//         └─► metatable
//
// Lua does not promise this layout, so it is tried out on a table before it is used, and whoever uses this has another
// way where it is not so.  Memory may be another though no field is (the collector tidies up): only `same` is an
// answer.
#ifndef NABLUA_PEEK_H
#define NABLUA_PEEK_H

#include <string.h>

#include "binding.h"

// Of `sizes`: the limit, the number of nodes, and the flag that the limit is not the whole array.
#define NB_PEEK_SIZES UINT64_C(0xFFFFFFFFFF800000)

// The part of Lua's structure that is looked at.
typedef struct __attribute__((may_alias)) TableMemory {
  void *next;
  uint64_t
      sizes;  // from the lowest byte on: type, marks, flags, the number of nodes as a power of 2; the array's limit
  const char *array, *node;
  void *last_free;
  const void *metatable;
} TableMemory;

typedef struct Peek {
  TableMemory head;
  size_t array_bytes, node_bytes;
} Peek;

// Whether tables are laid out as said above; found out once.
bool nb_peek_works(lua_State *L);

// What is to be remembered of a table; its contents take peek.array_bytes + peek.node_bytes.
Peek nb_peek(const void *table);
void nb_peek_copy(const Peek *p, char *contents);

static inline bool nb_peek_same(const void *table, const Peek *p, const char *contents) {
  const TableMemory *t = table;
  return ((t->sizes ^ p->head.sizes) & NB_PEEK_SIZES) == 0 && t->node == p->head.node && t->array == p->head.array &&
         t->metatable == p->head.metatable && memcmp(t->node, contents, p->node_bytes) == 0 &&
         (p->array_bytes == 0 || memcmp(t->array, contents + p->node_bytes, p->array_bytes) == 0);
}

#endif
