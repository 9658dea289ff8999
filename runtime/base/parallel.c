// SPDX-License-Identifier: MIT
// The thread pool: workers spin for a moment after a job, then sleep until the next.
//
// A job is split into one part for each thread; a part runs in blocks of a bounded size, with a look at the interrupt
// flag between them.  Each thread claims its own part first, so that job after job the same data stay
// in the same core's caches, and then what others have left: where a worker is late, because another
// process has its core, the caller does its part and waits for nobody.
#include "nablua/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "nablua/interrupt.h"
#include "subnormal.h"

enum { MAX_THREADS = 256, SPINS = 20000, BLOCKS_A_PART = 8, GRAINS_A_BLOCK = 64, PARTS_LIMIT = 1 << 16 };

static struct {
  pthread_t threads[MAX_THREADS];
  pthread_mutex_t lock;
  pthread_cond_t wake;
  int wanted;   // threads that shall compute, the caller's included; 0 before the first look
  int running;  // workers that exist
  pid_t owner;  // the process that made them: after a fork there are none
  // The job.  Its fields are stable while a part of it is unclaimed or unfinished.
  void (*body)(int64_t, int64_t, void *);
  void *ctx;
  int64_t n, grain;
  uint64_t control;  // how the caller computes: see subnormal.h
  int parts;
  atomic_uint_least64_t job;                 // its number times PARTS_LIMIT, plus its parts
  atomic_uint_least64_t taken[MAX_THREADS];  // for each part the last job in which it was claimed
  atomic_int unfinished;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Part `part` of the job, block by block.
static void run_part(int part) {
  int64_t begin = pool.n * part / pool.parts, end = pool.n * (part + 1) / pool.parts;
  int64_t block = (end - begin + BLOCKS_A_PART - 1) / BLOCKS_A_PART;
  if (block > GRAINS_A_BLOCK * pool.grain) block = GRAINS_A_BLOCK * pool.grain;
  if (block < pool.grain) block = pool.grain;
  if (float_control() != pool.control) float_control_set(pool.control);
  for (int64_t i = begin; i < end && !nb_interrupted(); i += block)
    pool.body(i, i + block < end ? i + block : end, pool.ctx);
}

// Claims and runs parts of a job until none is left, `mine` first.  A part can be claimed once in a job: whoever has
// claimed one knows that the job goes on, and that its fields are those of this job.
static void take_parts(uint64_t job, int mine) {
  int parts = (int)(job % PARTS_LIMIT);
  for (int i = 0; i < parts; i++) {
    int part = (mine + i) % parts;
    uint64_t last = atomic_load_explicit(&pool.taken[part], memory_order_acquire);
    if (last >= job || !atomic_compare_exchange_strong_explicit(&pool.taken[part], &last, job, memory_order_acq_rel,
                                                                memory_order_relaxed))
      continue;
    run_part(part);
    atomic_fetch_sub_explicit(&pool.unfinished, 1, memory_order_release);
  }
}

static void *worker(void *arg) {
  int mine = (int)(intptr_t)arg;
  for (uint64_t last = 0;;) {
    uint64_t job = atomic_load_explicit(&pool.job, memory_order_acquire);
    for (int i = 0; job == last && i < SPINS; i++) {
      pause_cpu();
      job = atomic_load_explicit(&pool.job, memory_order_acquire);
    }
    if (job == last) {
      pthread_mutex_lock(&pool.lock);
      while ((job = atomic_load_explicit(&pool.job, memory_order_acquire)) == last)
        pthread_cond_wait(&pool.wake, &pool.lock);
      pthread_mutex_unlock(&pool.lock);
    }
    if (mine < (int)(job % PARTS_LIMIT)) take_parts(job, mine);
    last = job;
  }
  return NULL;
}

static int default_threads(void) {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : cores;
}

int nb_threads(void) {
  if (!pool.wanted) pool.wanted = default_threads();
  return pool.wanted;
}

bool nb_set_threads(int count) {
  if (count < 1 || count > MAX_THREADS) return false;
  pool.wanted = count;
  return true;
}

// Brings the pool up to the wanted size; returns how many threads can compute.
static int ready_threads(void) {
  int wanted = nb_threads();
  if (pool.owner != getpid()) {
    // A worker that this process does not have may have been at the lock, and waits for ever in the copy of it.
    if (pool.owner) {
      pthread_mutex_init(&pool.lock, NULL);
      pthread_cond_init(&pool.wake, NULL);
    }
    pool.running = 0;
    pool.owner = getpid();
  }
  if (wanted - 1 > pool.running) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the main thread's
    while (pool.running < wanted - 1) {
      if (pthread_create(&pool.threads[pool.running], NULL, worker, (void *)(intptr_t)(pool.running + 1))) break;
      pthread_detach(pool.threads[pool.running]);
      pool.running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  return wanted < pool.running + 1 ? wanted : pool.running + 1;
}

void nb_parallel_for(int64_t n, int64_t grain, void (*body)(int64_t, int64_t, void *), void *ctx) {
  if (n <= 0) return;
  if (n <= grain) {
    body(0, n, ctx);
    return;
  }
  if (grain < 1) grain = 1;
  int64_t parts = n / grain;
  if (parts > 1 && nb_threads() > 1) {
    int threads = ready_threads();
    if (parts > threads) parts = threads;
  } else {
    parts = 1;
  }
  pool.body = body;
  pool.ctx = ctx;
  pool.n = n;
  pool.grain = grain;
  pool.control = float_control();
  pool.parts = (int)parts;
  if (parts == 1) {
    run_part(0);
    return;
  }
  atomic_store_explicit(&pool.unfinished, pool.parts, memory_order_relaxed);
  uint64_t job = atomic_load_explicit(&pool.job, memory_order_relaxed);
  job += PARTS_LIMIT - job % PARTS_LIMIT + (uint64_t)parts;
  pthread_mutex_lock(&pool.lock);
  atomic_store_explicit(&pool.job, job, memory_order_release);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.lock);
  take_parts(job, 0);
  for (int spins = 0; atomic_load_explicit(&pool.unfinished, memory_order_acquire) > 0; spins++) {
    if (spins < SPINS)
      pause_cpu();
    else
      sched_yield();
  }
}
