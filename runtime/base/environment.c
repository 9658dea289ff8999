// SPDX-License-Identifier: MIT
// The table of environment variables: a row is all that a new one needs.
#include "nablua/environment.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "nablua/error.h"
#include "nablua/memory.h"
#include "nablua/parallel.h"
#include "nablua/random.h"

// A whole number and nothing else.
static bool read_whole(const char *text, long long *value) {
  char *end;
  errno = 0;
  *value = strtoll(text, &end, 10);
  return *text && !*end && !errno;
}

static bool set_seed(const char *text) {
  long long seed;
  if (!read_whole(text, &seed)) return false;
  nb_random_set((RandomState){(uint64_t)seed, 0});
  return true;
}

static bool set_memory(const char *text) {
  static const char letters[] = "kKmMgG";
  static const double scales[] = {1e3, 1e6, 1e9};
  char *end;
  double bytes = strtod(text, &end);
  const char *letter = *end ? strchr(letters, *end) : NULL;
  if (letter) bytes *= scales[(letter - letters) / 2], end++;
  if (*end || !(bytes >= 1e6 && bytes <= 1e18)) return false;
  nb_memory_set_limit((size_t)bytes);
  return true;
}

static bool set_threads(const char *text) {
  long long threads;
  return read_whole(text, &threads) && threads > 0 && threads <= INT_MAX && nb_set_threads((int)threads);
}

static bool set_cpu(const char *text) {
  bool portable = strcmp(text, "portable") == 0;
  if (!portable && strcmp(text, "avx2") != 0) return false;
  nb_cpu_limit(portable ? CPU_PORTABLE : CPU_AVX2);
  return true;
}

// What it sets lies above; nonsense is refused here.
static bool is_time(const char *text) {
  char *end;
  double seconds = strtod(text, &end);
  return *text && !*end && seconds > 0 && seconds < 1e9;
}

const EnvironmentRow nb_environment_rows[] = {
    {.name = "NABLUA_SEED",
     .takes = "a whole number",
     .doc = "The seed of the random numbers, for runs that repeat",
     .fallback = "one that the system draws",
     .apply = set_seed},
    {.name = "NABLUA_MEMORY",
     .takes = "a size of at least 1M such as 2G",
     .doc = "The most that tensors and Lua may take together",
     .fallback = "nine tenths of the machine's memory",
     .apply = set_memory},
    {.name = "NABLUA_THREADS",
     .takes = "a whole number from 1 to 256",
     .doc = "How many threads compute",
     .fallback = "the cores there are",
     .apply = set_threads},
    {.name = "NABLUA_CPU",
     .takes = "portable or avx2",
     .doc = "The newest instructions that the kernels may use",
     .fallback = "all that the machine has",
     .apply = set_cpu},
    {.name = "NABLUA_BLAS",
     .takes = "a library's name, or off",
     .doc = "The BLAS for large products, where it is quicker than our own",
     .fallback = "the system's where our kernels have no vectors, else none"},
    {.name = "NABLUA_STALL",
     .takes = "a number of seconds above 0",
     .doc = "How long all ranks of a machine may stand still before it is said who waits for whom",
     .fallback = "30",
     .apply = is_time},
    {.name = "NABLUA_TRACE",
     .takes = "words of op, tape, write, plan, wire and memory with commas between",
     .doc = "What to tell of: operators, backward rules, writes, plans, messages, memory",
     .fallback = "nothing"},
    {.name = "NABLUA_TRACE_FILE",
     .takes = "the path of a file that can be written",
     .doc = "Where what NABLUA_TRACE tells is added at the end",
     .fallback = "the standard error"},
};

const int nb_environment_count = (int)(sizeof nb_environment_rows / sizeof *nb_environment_rows);

static void refuse(const EnvironmentRow *row, const char *text) {
  nb_notice("%s should be %s, got '%.100s'; going on with %s", row->name, row->takes, text, row->fallback);
}

static const EnvironmentRow *row_of(const char *name) {
  for (int i = 0; i < nb_environment_count; i++)
    if (strcmp(nb_environment_rows[i].name, name) == 0) return &nb_environment_rows[i];
  return NULL;
}

void nb_environment_apply(void) {
  static bool applied;
  if (applied) return;
  applied = true;
  for (int i = 0; i < nb_environment_count; i++) {
    const EnvironmentRow *row = &nb_environment_rows[i];
    const char *text = getenv(row->name);
    if (!text || !row->apply || row->apply(text)) continue;
    refuse(row, text);
  }
}

const char *nb_environment(const char *name) {
  return row_of(name) ? getenv(name) : NULL;
}

void nb_environment_refuse(const char *name) {
  const char *text = nb_environment(name);
  if (text) refuse(row_of(name), text);
}

void nb_environment_describe(char *text, size_t size) {
  size_t used = 0;
  if (size > 0) *text = '\0';
  for (int i = 0; i < nb_environment_count && used < size; i++) {
    const EnvironmentRow *row = &nb_environment_rows[i];
    int n = snprintf(text + used, size - used, "  %-15s %s\n%18s%s; without it: %s\n", row->name, row->doc, "",
                     row->takes, row->fallback);
    used += n > 0 ? (size_t)n : 0;
  }
}
