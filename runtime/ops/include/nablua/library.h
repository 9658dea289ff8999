// SPDX-License-Identifier: MIT
// Opening the library.
#ifndef NABLUA_LIBRARY_H
#define NABLUA_LIBRARY_H

#include "nablua/error.h"

// Hands the core all families of operators; whoever uses the library calls it before anything else, as often as one
// likes.
bool nb_open(Error *err);

// The library's version, as "0.2.0"; lives as long as the process.
const char *nb_version(void);

#endif
