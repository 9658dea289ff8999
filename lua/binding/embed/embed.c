// SPDX-License-Identifier: MIT
// Run by the build: writes the C file that holds the Lua sources, as text and compiled, packed by zlib.
//
//   embed OUTPUT FOLDER LIST      LIST is a file with the sources' names, separated by ';'
//
// Compiled they load ten times faster, which is most of the time that a start takes; the text is for help, and for an
// interpreter of another version than the one that compiled them (module.c compares).  Packed both take a third of the
// room; a module is unpacked when it is needed.
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

// Pushes a file's bytes.
static const char *push_file(lua_State *L, const char *path, size_t *size) {
  luaL_Buffer b;
  FILE *f = fopen(path, "rb");
  if (!f) luaL_error(L, "cannot open %s", path);
  luaL_buffinit(L, &b);
  for (size_t got = 1; got > 0;) {
    got = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, f);
    luaL_addsize(&b, got);
  }
  luaL_pushresult(&b);
  fclose(f);
  return lua_tolstring(L, -1, size);
}

// As string literals: the compiler reads half a megabyte of those at once, and of numbers in seconds.
static void write_packed(lua_State *L, FILE *out, const char *kind, int number, const char *bytes, size_t size) {
  uLongf room = compressBound((uLong)size);
  unsigned char *packed = lua_newuserdatauv(L, room, 0);
  if (compress2(packed, &room, (const unsigned char *)bytes, (uLong)size, Z_BEST_COMPRESSION) != Z_OK)
    luaL_error(L, "cannot pack %d bytes", (int)size);
  fprintf(out, "static const unsigned char %s_%d[] = \"", kind, number);
  for (size_t i = 0; i < room; i++) fprintf(out, "\\x%02x", packed[i]);
  fprintf(out, "\";\nenum { %s_size_%d = %d };\n", kind, number, (int)size);
  lua_pop(L, 1);
}

typedef struct Code {
  luaL_Buffer buffer;
  bool begun;
} Code;

// The buffer may use the stack, and stands above the function that is dumped then.
static int add(lua_State *L, const void *bytes, size_t size, void *to) {
  Code *code = to;
  if (!code->begun) luaL_buffinit(L, &code->buffer);
  code->begun = true;
  luaL_addlstring(&code->buffer, bytes, size);
  return 0;
}

static void write_source(lua_State *L, FILE *out, int number, const char *path, const char *chunk) {
  size_t size;
  Code code = {.begun = false};
  const char *text = push_file(L, path, &size);
  write_packed(L, out, "text", number, text, size);
  if (luaL_loadbufferx(L, text, size, chunk, "t") != LUA_OK) lua_error(L);
  lua_dump(L, add, &code, 0);
  luaL_pushresult(&code.buffer);
  const char *dumped = lua_tolstring(L, -1, &size);
  write_packed(L, out, "code", number, dumped, size);
  lua_pop(L, 3);
}

// "nn/linear.lua" → "=nablua.nn.linear"
static void chunk_name(const char *file, size_t length, char *chunk, size_t size) {
  snprintf(chunk, size, "=nablua.%.*s", (int)(length - strlen(".lua")), file);
  for (char *c = chunk; *c; c++)
    if (*c == '/') *c = '.';
}

static void write_all(lua_State *L, FILE *out, const char *folder, const char *list, bool rows) {
  char path[4096], chunk[256];
  int number = 0;
  for (size_t length; *list; list += length + (list[length] ? 1 : 0)) {
    length = strcspn(list, ";\n");
    if (length <= strlen(".lua")) continue;
    chunk_name(list, length, chunk, sizeof chunk);
    snprintf(path, sizeof path, "%s/%.*s", folder, (int)length, list);
    if (rows)
      fprintf(
          out,
          "    {\"%s\", {text_%d, sizeof text_%d - 1, text_size_%d}, {code_%d, sizeof code_%d - 1, code_size_%d}},\n",
          chunk + 1, number, number, number, number, number, number);
    else
      write_source(L, out, number, path, chunk);
    number++;
  }
  if (rows) fprintf(out, "    {0},\n};\nconst int nb_lua_source_count = %d;\n", number);
}

// embed(arguments)
static int embed(lua_State *L) {
  char **arguments = lua_touserdata(L, 1);
  const char *list = push_file(L, arguments[3], &(size_t){0});
  FILE *out = fopen(arguments[1], "w");
  if (!out) return luaL_error(L, "cannot write %s", arguments[1]);
  fputs("// Written by lua/embed/embed.c.\n#include \"sources.h\"\n\n", out);
  write_all(L, out, arguments[2], list, false);
  fprintf(out, "const char nb_lua_compiler[] = \"%s\";\nconst LuaSource nb_lua_sources[] = {\n", lua_ident);
  write_all(L, out, arguments[2], list, true);
  return fclose(out) == 0 ? 0 : luaL_error(L, "cannot write %s", arguments[1]);
}

int main(int argc, char **argv) {
  lua_State *L = argc == 4 ? luaL_newstate() : NULL;
  if (!L) {
    fputs("embed OUTPUT FOLDER LIST\n", stderr);
    return 2;
  }
  lua_pushcfunction(L, embed);
  lua_pushlightuserdata(L, argv);
  bool ok = lua_pcall(L, 1, 0, 0) == LUA_OK;
  if (!ok) fprintf(stderr, "embed: %s\n", lua_tostring(L, -1));
  lua_close(L);
  return ok ? 0 : 1;
}
