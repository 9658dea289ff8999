// SPDX-License-Identifier: MIT
// Loading LAPACK, any of the libraries that offer its interface, without threads of its own.
#include "lapack.h"

#include <dlfcn.h>
#include <string.h>

#include "blas.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct {
  const char *name;
  size_t place;
} functions[] = {
    {"getrf", offsetof(Lapack, getrf)}, {"getri", offsetof(Lapack, getri)}, {"getrs", offsetof(Lapack, getrs)},
    {"trtrs", offsetof(Lapack, trtrs)}, {"potrf", offsetof(Lapack, potrf)}, {"geqrf", offsetof(Lapack, geqrf)},
    {"orgqr", offsetof(Lapack, orgqr)}, {"gesdd", offsetof(Lapack, gesdd)}, {"syevd", offsetof(Lapack, syevd)},
    {"geev", offsetof(Lapack, geev)},
};

// The kind of number is the first letter of a name.
static bool find_functions(void *library, char kind, Lapack *into) {
  for (size_t i = 0; i < COUNT(functions); i++) {
    char name[16] = {kind};
    strcat(strcat(name, functions[i].name), "_");
    void *symbol = dlsym(library, name);
    if (!symbol) return false;
    memcpy((char *)into + functions[i].place, &symbol, sizeof symbol);
  }
  return true;
}

const Lapack *nb_lapack(DType dtype, Error *err) {
  static const char *const names[] = {"liblapack.so.3", "libopenblas.so.0", "liblapack.so", "libopenblas.so"};
  static Lapack single, twice;  // f32, f64
  static bool found;
  for (size_t i = 0; i < COUNT(names) && !found; i++) {
    void *library = nb_blas_load(names[i]);
    found = library && find_functions(library, 's', &single) && find_functions(library, 'd', &twice);
    if (library && !found) dlclose(library);
  }
  if (found) return dtype == NB_F32 ? &single : &twice;
  nb_fail(err, NB_ERROR_STATE,
          "this needs LAPACK, and there is no liblapack.so.3; install the package liblapack3 or libopenblas0");
  return NULL;
}
