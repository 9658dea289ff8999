// SPDX-License-Identifier: MIT
// All memory of the library: cached by size class, counted, limited, made to fail by tests.
//
// One thread at a time may call these functions (the thread that computes); workers of the pool
// never allocate.  Blocks are 64-byte aligned.  Threads beside those have nb_alloc_beside.
#ifndef NABLUA_MEMORY_H
#define NABLUA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "nablua/error.h"

typedef struct MemoryStats {
  size_t live;    // bytes handed out and not yet freed, rounded up to size classes
  size_t cached;  // bytes kept for reuse
  size_t peak;    // the most `live` has been since the last nb_memory_reset_peak
  size_t limit;   // allocations that would lift `live` above it fail
} MemoryStats;

// Returns `bytes` of uninitialised memory, or NULL with `err` filled.  Zero bytes give a valid block.
void *nb_alloc(size_t bytes, Error *err);

// Gives back a block; `bytes` is what was asked for.  NULL is ignored.
void nb_free(void *block, size_t bytes);

// The same for any thread, of the system, without a cache: for what takes long beside the computation, such as decoding
// a picture.  Counts as live; alone it stays below the limit, too.
void *nb_alloc_beside(size_t bytes, Error *err);
void nb_free_beside(void *block, size_t bytes);

bool nb_grow_more(void *array, size_t *room, size_t need, size_t size, Error *err);  // nb_grow's rarer half

// Makes room for `need` items of `size` bytes in the array that `array` points to, of which *room were there; doubles
// it at least.  What is in it is kept, also on failure.
static inline bool nb_grow(void *array, size_t *room, size_t need, size_t size, Error *err) {
  return need <= *room || nb_grow_more(array, room, need, size, err);
}

MemoryStats nb_memory_stats(void);
void nb_memory_reset_peak(void);

// Lets `free_some` be called where the limit or the system refuses an allocation, before that fails: true says that it
// has freed something, and the allocation is tried again.  It runs in the middle of whatever allocates: it may free
// only what nothing that runs can be using, and calls no allocator.  The same one again is ignored; at most 4.
void nb_memory_on_need(bool (*free_some)(void));

// Sets the limit in bytes.  At start it is nine tenths of the machine's (or control group's) memory.
void nb_memory_set_limit(size_t bytes);

// Returns all cached blocks to the system.
void nb_memory_trim(void);

// For tests: the nth allocation from now fails (1 = the next one); 0 turns this off.
void nb_memory_fail_at(uint64_t nth);

// True while a failure set by nb_memory_fail_at has not come yet.
bool nb_memory_failing(void);

// For allocators of others (a Lua state) that take part in the tests' failures: counts one
// allocation and tells whether it must fail.
bool nb_memory_must_fail(void);

#endif
