// SPDX-License-Identifier: MIT
// Matrix products in GFLOP/s, beside OpenBLAS when the machine has it: one thread of each, taking
// turns, medians; then our threads against one of ours.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gemm.h"
#include "nablua/parallel.h"

enum { ROUNDS = 31, ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

typedef void Sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                   int ldb, float beta, float *c, int ldc);

typedef struct Case {
  const char *name;
  int m, n, k;
  bool ta, tb;
} Case;

static const Case cases[] = {
    {"2x1x4 (XOR)", 2, 1, 4, false, false},
    {"8", 8, 8, 8, false, false},
    {"16", 16, 16, 16, false, false},
    {"32", 32, 32, 32, false, false},
    {"64", 64, 64, 64, false, false},
    {"100", 100, 100, 100, false, false},
    {"128", 128, 128, 128, false, false},
    {"256", 256, 256, 256, false, false},
    {"512", 512, 512, 512, false, false},
    {"1024", 1024, 1024, 1024, false, false},
    {"2048", 2048, 2048, 2048, false, false},
    {"32, B transposed", 32, 32, 32, false, true},
    {"1024, A transposed", 1024, 1024, 1024, true, false},
    {"1024, B transposed", 1024, 1024, 1024, false, true},
    {"64x784 . 784x256", 64, 256, 784, false, false},
    {"64x784 . (256x784)'", 64, 256, 784, false, true},
    {"(64x784)' . 64x256", 784, 256, 64, true, false},
    {"64x256 . (784x256)'", 64, 784, 256, false, true},
    {"(64x256)' . 64x784", 256, 784, 64, true, false},
    {"64x256 . 256x784", 64, 784, 256, false, false},
    {"64x256 . 256x128", 64, 128, 256, false, false},
    {"64x128 . 128x10", 64, 10, 128, false, false},
    {"(64x128)' . 64x10", 128, 10, 64, true, false},
    {"64x10 . (128x10)'", 64, 128, 10, false, true},
    {"512x1024 . 1024x1024", 512, 1024, 1024, false, false},
    {"1x784 . 784x256", 1, 256, 784, false, false},
    {"1x784 . (256x784)'", 1, 256, 784, false, true},
    {"1024x1024 . 1024x1", 1024, 1, 1024, false, false},
    {"4096x64 . 64x16", 4096, 16, 64, false, false},
};

static float *fill(size_t count) {
  float *data = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
  for (size_t i = 0; data && i < count; i++) data[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
  return data;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, by_value);
  return values[count / 2];
}

// Seconds for one product, by theirs when there is one, else by ours.
static double seconds(const Case *s, Sgemm *theirs, int repeats, const float *a, const float *b, float *c) {
  int lda = s->ta ? s->m : s->k, ldb = s->tb ? s->k : s->n;
  Error err;
  double start = now();
  for (int i = 0; i < repeats; i++) {
    if (theirs)
      theirs(ROW_MAJOR, s->ta ? TRANSPOSED : PLAIN, s->tb ? TRANSPOSED : PLAIN, s->m, s->n, s->k, 1, a, lda, b, ldb, 0,
             c, s->n);
    else if (!nb_gemm(NB_F32, s->m, s->n, s->k, (GemmMatrix){a, lda, s->ta}, (GemmMatrix){b, ldb, s->tb}, c, s->n,
                      &err))
      exit(1);
  }
  return (now() - start) / repeats;
}

static void measure(const Case *s, Sgemm *theirs, int threads) {
  double flop = 2.0 * s->m * s->n * s->k, own[ROUNDS], peer[ROUNDS], many[ROUNDS];
  int repeats = flop < 1e6 ? (int)(2e6 / flop) + 1 : 1, rounds = flop > 5e9 ? 5 : ROUNDS;
  float *a = fill((size_t)s->m * (size_t)s->k), *b = fill((size_t)s->k * (size_t)s->n);
  float *c = fill((size_t)s->m * (size_t)s->n);
  if (!a || !b || !c) exit(1);
  for (int i = -1; i < rounds; i++) {  // the first round warms up
    int at = i < 0 ? 0 : i;
    if (theirs) peer[at] = seconds(s, theirs, repeats, a, b, c);
    nb_set_threads(1);
    own[at] = seconds(s, NULL, repeats, a, b, c);
  }
  nb_set_threads(threads);
  for (int i = -1; i < rounds; i++) many[i < 0 ? 0 : i] = seconds(s, NULL, repeats, a, b, c);
  double t1 = median(own, rounds), t2 = median(many, rounds), tp = theirs ? median(peer, rounds) : 0;
  printf("%-22s %10.2f %8.1f %9.1f %8.2f %9.1f %7.2f\n", s->name, t1 * 1e6, flop / t1 / 1e9,
         theirs ? flop / tp / 1e9 : 0, theirs ? tp / t1 : 0, flop / t2 / 1e9, t1 / t2);
  free(a);
  free(b);
  free(c);
}

int main(int argc, char **argv) {
  int threads = nb_threads();
  if (getenv("OPENBLAS_CORETYPE") || getenv("OPENBLAS_L2_SIZE")) {  // they make the peer slow on some machines
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_L2_SIZE");
    execv("/proc/self/exe", argv);
  }
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL), *symbol = NULL;
  Sgemm *theirs = NULL;
  if (library) symbol = dlsym(library, "cblas_sgemm");
  if (symbol) {
    *(void **)&theirs = symbol;
    void *name = dlsym(library, "openblas_get_corename"), *set = dlsym(library, "openblas_set_num_threads");
    char *(*corename)(void) = NULL;
    void (*set_threads)(int) = NULL;
    *(void **)&corename = name;
    *(void **)&set_threads = set;
    if (set_threads) set_threads(1);
    printf("OpenBLAS core: %s\n", corename ? corename() : "unknown");
  }
  printf("%-22s %10s %8s %9s %8s %6d thr. %7s\n", "GFLOP/s, f32", "us", "ours", "OpenBLAS", "ratio", threads,
         "speedup");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    if (argc < 2 || atoi(argv[1]) == (int)i) measure(&cases[i], theirs, threads);
  return 0;
}
