// SPDX-License-Identifier: MIT
// What nearly every file of the binding needs: tensors as userdata, errors at the user's line.
//
// A C function here has one shape: check the arguments, call the library, push the results.
#ifndef NABLUA_BINDING_H
#define NABLUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "nablua/op.h"
#include "raise.h"
#include "sites.h"
#include "userdata.h"

#endif
