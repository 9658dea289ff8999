// SPDX-License-Identifier: MIT
// Texts in a terminal's columns: how wide they are, cut to fit and padded.  Escape sequences of colours take no column,
// wide characters two, what is no UTF-8 one for each byte.
#include <string.h>

#include "binding.h"
#include "nablua/characters.h"
#include "open.h"

// The length of a sequence of colours at `text`, such as "\033[1;31m"; 0 when there is none.
static size_t color_length(const char *text, size_t left) {
  size_t n = 2;
  if (left < 3 || text[0] != '\033' || text[1] != '[') return 0;
  while (n < left && text[n] && strchr("0123456789;", text[n])) n++;
  return n < left && text[n] == 'm' ? n + 1 : 0;
}

// The length in bytes of what comes next, and its columns.
static size_t next_piece(const char *text, size_t left, int *columns) {
  size_t n = color_length(text, left);
  *columns = 0;
  if (n > 0) return n;
  Utf8 u = nb_utf8_at(text, left);
  *columns = u.size > 0 ? nb_code_columns(u.code) : 1;
  return u.size > 0 ? u.size : 1;
}

static lua_Integer width_of(const char *text, size_t length) {
  lua_Integer width = 0;
  int columns;
  for (size_t i = 0; i < length; width += columns) i += next_piece(text + i, length - i, &columns);
  return width;
}

// native.width(text): its columns.
static int width(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  lua_pushinteger(L, width_of(text, length));
  return 1;
}

// native.fit(text, columns): the text, cut with … where it would be wider.  Colours outlast the cut, so that they end.
static int fit(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  lua_Integer room = luaL_checkinteger(L, 2), used = 0;
  lua_settop(L, 1);
  if (width_of(text, length) <= room) return 1;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  bool cut = room < 1;
  for (size_t i = 0, n; i < length; i += n) {
    int columns;
    n = next_piece(text + i, length - i, &columns);
    bool colors = color_length(text + i, length - i) > 0;
    if (!colors && !cut && used + columns > room - 1) {
      luaL_addstring(&b, "…");
      cut = true;
    }
    if (colors || !cut) luaL_addlstring(&b, text + i, n);
    used += columns;
  }
  luaL_pushresult(&b);
  return 1;
}

// native.pad(text, columns[, side]): with spaces behind it, before it ("right") or on both sides ("center").
static int pad(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length), *side = luaL_optstring(L, 3, "left");
  lua_Integer missing = luaL_checkinteger(L, 2) - width_of(text, length);
  lua_Integer before = *side == 'r' ? missing : *side == 'c' ? missing / 2 : 0;
  luaL_Buffer b;
  if (missing <= 0) {
    lua_settop(L, 1);
    return 1;
  }
  luaL_buffinit(L, &b);
  for (lua_Integer i = 0; i < before; i++) luaL_addchar(&b, ' ');
  luaL_addlstring(&b, text, length);
  for (lua_Integer i = before; i < missing; i++) luaL_addchar(&b, ' ');
  luaL_pushresult(&b);
  return 1;
}

void nb_open_columns(lua_State *L) {
  static const luaL_Reg functions[] = {{"width", width}, {"fit", fit}, {"pad", pad}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
