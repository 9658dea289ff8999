// SPDX-License-Identifier: MIT
// The allocator: size classes, four to each power of two, each with a list of free blocks.
//
//   class      0    1    2    3    4    5    6    7    8 ...
//   bytes     64  128  192  256  320  384  448  512  640 ...
//
// A training step frees and asks for the same sizes again and again; a hit costs a few
// instructions.  What is cached never lifts the footprint far above what has been live at once:
// on a miss that would, the cache is emptied first.
#include "nablua/memory.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nablua/traced.h"

enum { ALIGNMENT = 64, CLASSES = 160, RELIEFS = 4 };
static const size_t SLACK = (size_t)64 << 20;

#if defined(__SANITIZE_ADDRESS__)
#define NB_NO_CACHE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NB_NO_CACHE 1
#endif
#endif

typedef struct FreeBlock {
  struct FreeBlock *next;
} FreeBlock;

static struct {
  FreeBlock *list[CLASSES];
  size_t live, cached, peak, high, limit;
  uint64_t fail_in;
  bool (*relief[RELIEFS])(void);
  bool asking;  // for relief: who gives it is not asked
} memory;

// What other threads hold, and the limit as they see it.
static atomic_size_t beside, beside_limit;

// Rounds `bytes` up to its class; returns the class's index, or -1 when it is beyond all classes.
static int size_class(size_t bytes, size_t *rounded) {
  size_t units = (bytes + ALIGNMENT - 1) / ALIGNMENT;
  if (bytes > ((size_t)1 << 44)) return -1;
  if (units <= 4) {
    units = units ? units : 1;
    *rounded = units * ALIGNMENT;
    return (int)units - 1;
  }
  int log = 63 - __builtin_clzll((unsigned long long)(units - 1));  // units - 1 in [2^log, 2^(log+1))
  size_t step = (size_t)1 << (log - 2);
  size_t quarter = (units - 1 - ((size_t)1 << log)) / step;  // 0..3
  *rounded = (((size_t)1 << log) + (quarter + 1) * step) * ALIGNMENT;
  return 4 * (log - 1) + (int)quarter;
}

static size_t read_limit_file(const char *path) {
  char text[64];
  unsigned long long value = 0;
  FILE *f = fopen(path, "re");
  if (!f) return SIZE_MAX;
  if (!fgets(text, sizeof text, f) || sscanf(text, "%llu", &value) != 1) value = 0;
  fclose(f);
  return value ? (size_t)value : SIZE_MAX;
}

static size_t machine_limit(void) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  size_t bytes = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
  size_t group = read_limit_file("/sys/fs/cgroup/memory.max");
  if (group < bytes) bytes = group;
  return bytes / 10 * 9;
}

static size_t limit(void) {
  if (!memory.limit) nb_memory_set_limit(machine_limit());
  return memory.limit;
}

bool nb_memory_must_fail(void) {
  return memory.fail_in && --memory.fail_in == 0;
}

void nb_memory_fail_at(uint64_t nth) {
  memory.fail_in = nth;
}

bool nb_memory_failing(void) {
  return memory.fail_in > 0;
}

// Whether a block is so large that the trace tells of it.
static bool is_told(size_t rounded) {
  return nb_is_traced(NB_TRACE_MEMORY) && rounded >= nb_traced.memory_bytes;
}

void nb_memory_trim(void) {
  if (nb_is_traced(NB_TRACE_MEMORY) && memory.cached) nb_trace_line(NB_TRACE_MEMORY, "trim %zu cached", memory.cached);
  for (int i = 0; i < CLASSES; i++) {
    while (memory.list[i]) {
      FreeBlock *block = memory.list[i];
      memory.list[i] = block->next;
      free(block);
    }
  }
  memory.cached = 0;
}

static void *system_block(size_t rounded) {
  if (memory.cached && memory.live + memory.cached + rounded > memory.high + memory.high / 4 + SLACK) nb_memory_trim();
  void *block = aligned_alloc(ALIGNMENT, rounded);
  if (!block && memory.cached) {
    nb_memory_trim();
    block = aligned_alloc(ALIGNMENT, rounded);
  }
  return block;
}

static void *no_memory(size_t bytes, Error *err) {
  if (nb_is_traced(NB_TRACE_MEMORY))
    nb_trace_line(NB_TRACE_MEMORY, "refused %zu, live %zu, limit %zu", bytes, memory.live, limit());
  nb_fail(err, NB_ERROR_MEMORY,
          "not enough memory: %.4g MB asked for, %.4g MB in use, limit %.4g MB; free tensors, use smaller batches or "
          "raise NABLUA_MEMORY",
          (double)bytes / 1e6, (double)memory.live / 1e6, (double)limit() / 1e6);
  return NULL;
}

void nb_memory_on_need(bool (*free_some)(void)) {
  for (int i = 0; i < RELIEFS; i++) {
    if (memory.relief[i] == free_some) return;
    if (memory.relief[i]) continue;
    memory.relief[i] = free_some;
    return;
  }
}

// Asks those who can give memory back, one after the other, until one has.
static bool is_relieved(void) {
  bool freed = false;
  if (memory.asking) return false;
  memory.asking = true;
  for (int i = 0; !freed && i < RELIEFS && memory.relief[i]; i++) freed = memory.relief[i]();
  memory.asking = false;
  if (nb_is_traced(NB_TRACE_MEMORY))
    nb_trace_line(NB_TRACE_MEMORY, "need: %s, live %zu", freed ? "some was freed" : "nobody frees any", memory.live);
  return freed;
}

static void *take(void *block, size_t rounded) {
  memory.live += rounded;
  if (memory.live > memory.peak) memory.peak = memory.live;
  if (memory.live > memory.high) memory.high = memory.live;
  return block;
}

static void *tell_taken(void *block, size_t rounded, const char *from) {
  if (block && is_told(rounded))
    nb_trace_line(NB_TRACE_MEMORY, "alloc %zu %s, live %zu, cached %zu", rounded, from, memory.live, memory.cached);
  return block;
}

// What is not simply the first of a list's free blocks.
static __attribute__((noinline)) void *alloc_with_care(size_t bytes, int class, size_t rounded, Error *err) {
  if (class < 0 || nb_memory_must_fail() || rounded > limit()) return no_memory(bytes, err);
  while (memory.live + atomic_load_explicit(&beside, memory_order_relaxed) > limit() - rounded)
    if (!is_relieved()) return no_memory(bytes, err);
  FreeBlock *block = memory.list[class];
  if (block) {
    memory.list[class] = block->next;
    memory.cached -= rounded;
    return tell_taken(take(block, rounded), rounded, "from the cache");
  }
  void *fresh = system_block(rounded);
  while (!fresh && is_relieved()) fresh = system_block(rounded);
  return fresh ? tell_taken(take(fresh, rounded), rounded, "from the system") : no_memory(bytes, err);
}

void *nb_alloc(size_t bytes, Error *err) {
  size_t rounded = 0;
  int class = size_class(bytes, &rounded);
  FreeBlock *block = class >= 0 ? memory.list[class] : NULL;
  if (!block || memory.fail_in || memory.live + rounded > memory.limit || is_told(rounded))
    return alloc_with_care(bytes, class, rounded, err);
  memory.list[class] = block->next;
  memory.cached -= rounded;
  return take(block, rounded);
}

void nb_free(void *block, size_t bytes) {
  size_t rounded = 0;
  if (!block) return;
  int class = size_class(bytes, &rounded);
  memory.live -= rounded;
#ifdef NB_NO_CACHE
  (void)class;
  free(block);
#else
  FreeBlock *item = block;
  item->next = memory.list[class];
  memory.list[class] = item;
  memory.cached += rounded;
#endif
  if (is_told(rounded)) nb_trace_line(NB_TRACE_MEMORY, "free %zu, live %zu", rounded, memory.live);
}

bool nb_grow_more(void *array, size_t *room, size_t need, size_t size, Error *err) {
  enum { LEAST = 64 };
  void *old;
  memcpy(&old, array, sizeof old);  // a pointer of any type
  size_t more = *room * 2 > need ? *room * 2 : need;
  if (more < LEAST) more = LEAST;
  void *fresh = nb_alloc(more * size, err);
  if (!fresh) return false;
  if (old) memcpy(fresh, old, *room * size);
  nb_free(old, *room * size);
  memcpy(array, &fresh, sizeof fresh);
  *room = more;
  return true;
}

MemoryStats nb_memory_stats(void) {
  size_t live = memory.live + atomic_load_explicit(&beside, memory_order_relaxed);
  return (MemoryStats){live, memory.cached, memory.peak > live ? memory.peak : live, limit()};
}

void nb_memory_reset_peak(void) {
  memory.peak = memory.live;
}

void nb_memory_set_limit(size_t bytes) {
  memory.limit = bytes ? bytes : 1;
  atomic_store_explicit(&beside_limit, memory.limit, memory_order_relaxed);
}

void *nb_alloc_beside(size_t bytes, Error *err) {
  size_t most = atomic_load_explicit(&beside_limit, memory_order_relaxed);
  size_t had = atomic_fetch_add_explicit(&beside, bytes, memory_order_relaxed);
  void *block = bytes <= most && had <= most - bytes ? malloc(bytes ? bytes : 1) : NULL;
  if (block) return block;
  atomic_fetch_sub_explicit(&beside, bytes, memory_order_relaxed);
  nb_fail(err, NB_ERROR_MEMORY,
          "not enough memory: %.4g MB asked for by a thread beside, limit %.4g MB; use fewer threads (workers=) or "
          "raise NABLUA_MEMORY",
          (double)bytes / 1e6, (double)most / 1e6);
  return NULL;
}

void nb_free_beside(void *block, size_t bytes) {
  if (!block) return;
  atomic_fetch_sub_explicit(&beside, bytes, memory_order_relaxed);
  free(block);
}
