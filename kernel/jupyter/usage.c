// SPDX-License-Identifier: MIT
// Memory and processor time as /proc tells them, under the names that clients know from psutil.
#include "usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "session.h"
#include "wire.h"

// Of the call before.
typedef struct Sample {
  double seconds, own;           // since some moment, and of processor time
  unsigned long long busy, all;  // ticks of the whole machine
} Sample;

// ---- reading /proc ----

static unsigned long long resident_bytes(void) {
  unsigned long long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (!f) return 0;
  if (fscanf(f, "%*u %llu", &pages) != 1) pages = 0;
  fclose(f);
  return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static double seconds_of(struct timeval t) {
  return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

// Processor time of this process, and of the programs it has waited for.
static double own_seconds(void) {
  double total = 0;
  static const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
  for (int i = 0; i < 2; i++) {
    struct rusage r;
    if (getrusage(whose[i], &r) == 0) total += seconds_of(r.ru_utime) + seconds_of(r.ru_stime);
  }
  return total;
}

static void read_machine(Sample *s) {
  unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0;
  FILE *f = fopen("/proc/stat", "re");
  if (!f) return;
  if (fscanf(f, "cpu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait) == 5) {
    s->busy = user + nice + system;
    s->all = s->busy + idle + wait;
  }
  fclose(f);
}

// The machine's memory, NULL where it is not told.
static json_t *machine_memory(void) {
  static const char *const names[][2] = {{"MemTotal", "total"},  {"MemAvailable", "available"}, {"MemFree", "free"},
                                         {"Buffers", "buffers"}, {"Cached", "cached"},          {"Shmem", "shared"}};
  char line[128], name[64];
  unsigned long long kilobytes;
  FILE *f = fopen("/proc/meminfo", "re");
  if (!f) return NULL;
  json_t *memory = json_object();
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%63[^:]: %llu", name, &kilobytes) != 2) continue;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
      if (strcmp(name, names[i][0]) == 0)
        json_object_set_new(memory, names[i][1], json_integer((json_int_t)(1024 * kilobytes)));
  }
  fclose(f);
  double total = json_number_value(json_object_get(memory, "total"));
  double used = total - json_number_value(json_object_get(memory, "available"));
  json_object_set_new(memory, "used", json_integer((json_int_t)used));
  json_object_set_new(memory, "percent", json_real(total > 0 ? 100 * used / total : 0));
  return memory;
}

// ---- the answer ----

json_t *usage_now(void) {
  static Sample before;
  Sample now = {.seconds = session_clock(), .own = own_seconds()};
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  read_machine(&now);
  double passed = now.seconds - before.seconds;
  double share = before.seconds > 0 && passed > 0 ? 100 * (now.own - before.own) / passed : 0;
  json_t *answer = json_pack("{s:o, s:i, s:f, s:I, s:I}", "hostname", json_text(host, strlen(host)), "pid",
                             (int)getpid(), "kernel_cpu", share, "kernel_memory", (json_int_t)resident_bytes(),
                             "cpu_count", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
  json_t *memory = machine_memory();
  if (memory) json_object_set_new(answer, "host_virtual_memory", memory);
  if (before.all > 0 && now.all > before.all)
    json_object_set_new(answer, "host_cpu_percent",
                        json_real(100.0 * (double)(now.busy - before.busy) / (double)(now.all - before.all)));
  before = now;
  return answer;
}
