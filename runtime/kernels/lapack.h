// SPDX-License-Identifier: MIT
// LAPACK, found when it is first needed, so that starting costs nothing and its package is no must.
//
// The functions are Fortran's: all arguments by address, matrices column-major, the lengths of strings at the end.
// What `info` says is the caller's to turn into a sentence.
#ifndef NABLUA_LAPACK_H
#define NABLUA_LAPACK_H

#include <stddef.h>

#include "nablua/error.h"
#include "nablua/tensor.h"

typedef struct Lapack {
  void (*getrf)(const int *m, const int *n, void *a, const int *lda, int *pivots, int *info);
  void (*getri)(const int *n, void *a, const int *lda, const int *pivots, void *work, const int *lwork, int *info);
  void (*getrs)(const char *trans, const int *n, const int *nrhs, const void *a, const int *lda, const int *pivots,
                void *b, const int *ldb, int *info, size_t);
  void (*trtrs)(const char *uplo, const char *trans, const char *diag, const int *n, const int *nrhs, const void *a,
                const int *lda, void *b, const int *ldb, int *info, size_t, size_t, size_t);
  void (*potrf)(const char *uplo, const int *n, void *a, const int *lda, int *info, size_t);
  void (*geqrf)(const int *m, const int *n, void *a, const int *lda, void *tau, void *work, const int *lwork,
                int *info);
  void (*orgqr)(const int *m, const int *n, const int *k, void *a, const int *lda, const void *tau, void *work,
                const int *lwork, int *info);
  void (*gesdd)(const char *jobz, const int *m, const int *n, void *a, const int *lda, void *s, void *u, const int *ldu,
                void *vt, const int *ldvt, void *work, const int *lwork, int *iwork, int *info, size_t);
  void (*syevd)(const char *jobz, const char *uplo, const int *n, void *a, const int *lda, void *w, void *work,
                const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
  void (*geev)(const char *jobvl, const char *jobvr, const int *n, void *a, const int *lda, void *wr, void *wi,
               void *vl, const int *ldvl, void *vr, const int *ldvr, void *work, const int *lwork, int *info, size_t,
               size_t);
} Lapack;

// The functions for f32 or f64; NULL with a sentence that names the package when there is no LAPACK.
const Lapack *nb_lapack(DType dtype, Error *err);

#endif
