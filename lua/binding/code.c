// SPDX-License-Identifier: MIT
// Reading the names out of compiled functions.
#include "code.h"

#include <string.h>

#include "open.h"

// Lua 5.4's numbers of instructions, which its formats 0x54 keep.
enum { OP_GETUPVAL = 9, OP_GETTABUP = 11, OP_GETFIELD = 14, OP_SETTABUP = 15, OP_SETFIELD = 18 };
// And of constants.
enum { A_NIL = 0, A_FALSE = 1, AN_INTEGER = 3, A_SHORT_STRING = 4, A_TRUE = 17, A_FLOAT = 19, A_LONG_STRING = 20 };

enum { MOST_UPVALUES = 255 };

typedef struct Reader {
  lua_State *L;
  const unsigned char *at, *end;
  bool bad;
  int names, all;  // tables to fill
  int lines;       // the same, or 0
} Reader;

// ---- dumping ----

typedef struct Dump {
  bool begun;
  luaL_Buffer buffer;
} Dump;

static int write_dump(lua_State *L, const void *bytes, size_t size, void *user) {
  Dump *d = user;
  if (!d->begun) luaL_buffinit(L, &d->buffer);
  d->begun = true;
  luaL_addlstring(&d->buffer, bytes, size);
  return 0;
}

// ---- reading ----

static const unsigned char *skip(Reader *r, size_t size) {
  const unsigned char *at = r->at;
  if (r->bad || size > (size_t)(r->end - r->at)) {
    r->bad = true;
    return NULL;
  }
  r->at += size;
  return at;
}

static unsigned read_byte(Reader *r) {
  const unsigned char *p = skip(r, 1);
  return p ? *p : 0;
}

// A number in groups of seven bits, the highest first; the last has its eighth bit set.
static size_t read_size(Reader *r) {
  size_t value = 0;
  for (int groups = 0; groups < 10; groups++) {
    unsigned byte = read_byte(r);
    value = value << 7 | (byte & 0x7F);
    if (byte & 0x80) return value;
  }
  r->bad = true;
  return 0;
}

// Pushes a string, or nil where there is none.
static void push_string(Reader *r) {
  size_t size = read_size(r);
  const unsigned char *p = size ? skip(r, size - 1) : NULL;
  if (p)
    lua_pushlstring(r->L, (const char *)p, size - 1);
  else
    lua_pushnil(r->L);
}

static void skip_string(Reader *r) {
  size_t size = read_size(r);
  if (size) skip(r, size - 1);
}

// Pushes a table of the string constants by their numbers, from 0; they go to `all`, too.
static void push_constants(Reader *r) {
  lua_State *L = r->L;
  lua_newtable(L);
  size_t count = read_size(r);
  for (size_t i = 0; i < count && !r->bad; i++) {
    switch (read_byte(r)) {
      case A_NIL:
      case A_FALSE:
      case A_TRUE:
        break;
      case AN_INTEGER:
        skip(r, sizeof(lua_Integer));
        break;
      case A_FLOAT:
        skip(r, sizeof(lua_Number));
        break;
      case A_SHORT_STRING:
      case A_LONG_STRING:
        push_string(r);
        if (lua_isnil(L, -1)) {
          lua_pop(L, 1);
          break;
        }
        lua_pushvalue(L, -1);
        lua_pushboolean(L, 1);
        lua_rawset(L, r->all);
        lua_rawseti(L, -2, (lua_Integer)i);
        break;
      default:
        r->bad = true;
    }
  }
}

// Notes that upvalue `up` of the outermost function is asked for the constant with a number, of those on top.
static void note_name(Reader *r, int up, unsigned constant) {
  lua_State *L = r->L;
  if (up < 0) return;
  int constants = lua_gettop(L), known = lua_rawgeti(L, r->names, up + 1);
  if (known == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, r->names, up + 1);
  }
  if (known != LUA_TBOOLEAN && lua_rawgeti(L, constants, (lua_Integer)constant) == LUA_TSTRING) {
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
  }
  lua_settop(L, constants);
}

// Whether an instruction reads or writes a field, whose name stands in the code, of what register `table` holds.
static bool is_field_of(const unsigned char *code, unsigned table) {
  uint32_t word;
  memcpy(&word, code, sizeof word);
  unsigned operation = word & 0x7F;
  return operation == OP_GETFIELD ? (word >> 16 & 0xFF) == table
                                  : operation == OP_SETFIELD && (word >> 7 & 0xFF) == table;
}

// Notes that the globals are asked for names that do not stand in the code, where constant number `name` is "_G".
static void note_globals(Reader *r, unsigned name) {
  lua_State *L = r->L;
  if (lua_rawgeti(L, -1, (lua_Integer)name) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "_G") == 0) {
    lua_pushboolean(L, 1);
    lua_rawseti(L, r->names, 0);
  }
  lua_pop(L, 1);
}

// Looks at the instructions of a function whose constants are on top.
static void read_code(Reader *r, const unsigned char *code, size_t count, const int *up) {
  for (size_t i = 0; i < count; i++) {
    uint32_t word;
    memcpy(&word, code + i * sizeof word, sizeof word);
    unsigned a = word >> 7 & 0xFF, b = word >> 16 & 0xFF, c = word >> 24;
    switch (word & 0x7F) {
      case OP_GETTABUP:
        note_name(r, up[b], c);
        if (i + 1 == count || !is_field_of(code + (i + 1) * sizeof word, a)) note_globals(r, c);
        break;
      case OP_SETTABUP:
        note_name(r, up[a], b);
        break;
      case OP_GETUPVAL:
        if (up[b] < 0) break;
        lua_pushboolean(r->L, 0);  // used in other ways
        lua_rawseti(r->L, r->names, up[b] + 1);
        break;
    }
  }
}

// Notes in which lines the instructions of a function are: each has its distance from the one before, or, where that is
// -128, its line in a table of its own.  The first of one with varargs is none that lines stop at.
static void read_lines(Reader *r, size_t line, bool varargs) {
  enum { ELSEWHERE = -128 };
  size_t count = read_size(r);
  const signed char *distances = (const signed char *)skip(r, count);
  size_t left = read_size(r);
  for (size_t i = 0; i < count && distances && !r->bad; i++) {
    if (distances[i] == ELSEWHERE && left > 0) {
      read_size(r);  // which instruction's it is: they come in order
      line = read_size(r);
      left--;
    } else {
      line = (size_t)((long long)line + distances[i]);
    }
    if (r->lines == 0 || (varargs && i == 0)) continue;
    lua_pushboolean(r->L, 1);
    lua_rawseti(r->L, r->lines, (lua_Integer)line);
  }
  for (; left > 0 && !r->bad; left--) read_size(r), read_size(r);
}

static void read_function(Reader *r, const int *of_parent, int depth) {
  lua_State *L = r->L;
  int up[MOST_UPVALUES + 1];
  for (int i = 0; i <= MOST_UPVALUES; i++) up[i] = of_parent ? -1 : i;
  luaL_checkstack(L, 12, "functions within functions");
  skip_string(r);  // its source
  size_t line = read_size(r);
  read_size(r);
  const unsigned char *kind = skip(r, 3);  // its parameters, whether there may be more, its registers
  bool varargs = kind && kind[1];
  size_t count = read_size(r);
  const unsigned char *code = count <= SIZE_MAX / 8 ? skip(r, count * sizeof(uint32_t)) : NULL;
  push_constants(r);
  size_t upvalues = read_size(r);
  if (upvalues > MOST_UPVALUES || depth > 190) r->bad = true;
  for (size_t i = 0; i < upvalues && !r->bad; i++) {
    const unsigned char *u = skip(r, 3);  // whether it is the parent's local, its number, its kind
    if (u && of_parent && !u[0]) up[i] = of_parent[u[1]];
  }
  if (!r->bad && code) read_code(r, code, count, up);
  lua_pop(L, 1);
  size_t functions = read_size(r);
  for (size_t i = 0; i < functions && !r->bad; i++) read_function(r, up, depth + 1);
  // What only a debugger reads; a stripped dump has none.
  read_lines(r, line, varargs);
  for (size_t n = read_size(r); n > 0 && !r->bad; n--) skip_string(r), read_size(r), read_size(r);
  for (size_t n = read_size(r); n > 0 && !r->bad; n--) skip_string(r);
}

// The header: what this Lua writes, whose sizes must be those that are read above.
static void read_header(Reader *r) {
  static const unsigned char expected[] = {
      0x1B, 'L', 'u', 'a', 0x54, 0, 0x19, 0x93, '\r', '\n', 0x1A, '\n', 4, sizeof(lua_Integer), sizeof(lua_Number)};
  const unsigned char *p = skip(r, sizeof expected);
  if (p && memcmp(p, expected, sizeof expected) != 0) r->bad = true;
  skip(r, sizeof(lua_Integer) + sizeof(lua_Number) + 1);  // a number of each kind; how many upvalues
}

// Pushes the tables of names, of all constants and, where lines are wanted, of these; nothing where it cannot be read.
static bool read_code_of(lua_State *L, int f, bool lines) {
  f = lua_absindex(L, f);
  luaL_checkstack(L, 20, "compile");
  Dump d = {.begun = false};
  int top = lua_gettop(L), tables = lines ? 3 : 2;
  for (int i = 0; i < tables; i++) lua_newtable(L);
  lua_pushvalue(L, f);
  if (lua_dump(L, write_dump, &d, !lines) != 0 || !d.begun) {
    lua_settop(L, top);
    return false;
  }
  luaL_pushresult(&d.buffer);
  size_t size;
  const char *bytes = lua_tolstring(L, -1, &size);
  Reader r = {.L = L,
              .at = (const unsigned char *)bytes,
              .end = (const unsigned char *)bytes + size,
              .names = top + 1,
              .all = top + 2,
              .lines = lines ? top + 3 : 0};
  read_header(&r);
  if (!r.bad) read_function(&r, NULL, 0);
  lua_settop(L, r.bad ? top : top + tables);
  return !r.bad;
}

bool nb_push_code_names(lua_State *L, int f) {
  return read_code_of(L, f, false);
}

// native.code_lines(f): the lines that a Lua function and those within it have instructions in, { [line] = true }; nil
// where that cannot be read.
static int code_lines(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  return !lua_iscfunction(L, 1) && read_code_of(L, 1, true);
}

void nb_open_code(lua_State *L) {
  lua_pushcfunction(L, code_lines);
  lua_setfield(L, -2, "code_lines");
}

bool nb_is_library_function(lua_State *L, int index) {
  lua_Debug ar;
  if (!lua_isfunction(L, index) || lua_iscfunction(L, index)) return false;
  lua_pushvalue(L, index);
  return lua_getinfo(L, ">S", &ar) && strncmp(ar.source, "=nablua.", 8) == 0;
}
