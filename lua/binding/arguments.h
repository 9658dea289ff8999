// SPDX-License-Identifier: MIT
// The arguments of operators in Lua: for each kind of parameter what help calls it, how it is read from the stack, and
// how a value of it and its default are pushed.  What kinds are to the library is nablua/args.h.
#ifndef NABLUA_ARGUMENTS_H
#define NABLUA_ARGUMENTS_H

#include <lua.h>

#include "nablua/args.h"

enum { MAX_INTS = 64, MAX_FEW = 16 };

// One call being read; ops.c fills it.
typedef struct Reader {
  lua_State *L;
  const Op *op;
  const char *suffix;              // "_" for the in-place form, in messages
  int next, last;                  // positional arguments that are left
  int options;                     // stack index of the table of options, 0 without
  bool has_numbers, has_booleans;  // among the OPERANDs
  bool has_tensors;                // among those of the OPERANDs that may stay plain
  Value args[NB_MAX_PARAMS];
  bool given[NB_MAX_PARAMS];
  bool is_number[NB_MAX_PARAMS];  // an OPERAND given as a Lua number, not yet a tensor
  bool is_whole[NB_MAX_PARAMS];
  bool is_boolean[NB_MAX_PARAMS];
  Value numbers[NB_MAX_PARAMS];
  int64_t ints[MAX_INTS];
  int int_count;
  Tensor *few[MAX_FEW];  // the list of tensors, where it is short; rows have one list at most
} Reader;

typedef struct ArgFace {
  const char *type;
  // Reads argument i of the row from stack index `index`; `positional`: it may take what follows it, too.
  void (*read)(Reader *r, int i, int index, bool positional);
  void (*push)(lua_State *L, const Param *p, const Value *v);  // nil for what holds tensors
  void (*push_default)(lua_State *L, const Param *p);          // nil where it stands for no single value
} ArgFace;

extern const ArgFace nb_arg_faces[NB_PARAM_KINDS];  // by ParamKind

// What stands for argument i when it was left out.
void nb_set_default(Reader *r, int i);

// A function of that module of Lua does it, with the arguments on the stack; returns the number of results.
int nb_in_lua(lua_State *L, const char *module, const char *function);

#endif
