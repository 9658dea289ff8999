// SPDX-License-Identifier: MIT
// string.find, match, gmatch, gsub and rep as in Lua's manual (§6.4), but an interrupt stops them: a pattern that
// backtracks over a few thousand characters may run for hours.
#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <stdint.h>
#include <string.h>

#include "interrupts.h"
#include "nablua/interrupt.h"

enum {
  MOST_CAPTURES = 32,
  DEEPEST = 200,    // calls of match_at inside each other, as in Lua
  POSITION = -2,    // the length of a capture that is a position: ()
  UNFINISHED = -1,  // and of one that is still open
  STEPS_A_POLL = 512
};

typedef struct Matcher {
  lua_State *L;
  const char *subject, *subject_end, *pattern_end;
  int depth, steps;
  int count;
  struct {
    const char *begin;
    ptrdiff_t length;
  } captures[MOST_CAPTURES];
} Matcher;

static void step(Matcher *m) {
  if (++m->steps < STEPS_A_POLL) return;
  m->steps = 0;
  if (nb_interrupted()) luaL_error(m->L, "interrupted");
}

// ---- single characters ----

static bool in_class(int c, int letter) {
  bool in;
  switch (tolower(letter)) {
    case 'a':
      in = isalpha(c);
      break;
    case 'c':
      in = iscntrl(c);
      break;
    case 'd':
      in = isdigit(c);
      break;
    case 'g':
      in = isgraph(c);
      break;
    case 'l':
      in = islower(c);
      break;
    case 'p':
      in = ispunct(c);
      break;
    case 's':
      in = isspace(c);
      break;
    case 'u':
      in = isupper(c);
      break;
    case 'w':
      in = isalnum(c);
      break;
    case 'x':
      in = isxdigit(c);
      break;
    case 'z':
      in = c == 0;
      break;  // of Lua 5.1, and still there
    default:
      return letter == c;
  }
  return isupper(letter) ? !in : in;
}

// Behind the item that begins at p: a character, %x or [set].
static const char *item_end(Matcher *m, const char *p) {
  char c = *p++;
  if (c == '%') {
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 1;
  }
  if (c != '[') return p;
  if (p < m->pattern_end && *p == '^') p++;
  do {  // a "]" that comes first is one of the set
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
    if (*p++ == '%') {
      if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
      p++;
    }
  } while (p == m->pattern_end || *p != ']');
  return p + 1;
}

// Whether c is in the set from "[" at p to "]" at last.
static bool in_set(int c, const char *p, const char *last) {
  bool in = true;
  p++;
  if (*p == '^') {
    in = false;
    p++;
  }
  while (p < last) {
    if (*p == '%') {
      if (in_class(c, (unsigned char)p[1])) return in;
      p += 2;
    } else if (p[1] == '-' && p + 2 < last) {
      if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) return in;
      p += 3;
    } else {
      if ((unsigned char)*p == c) return in;
      p++;
    }
  }
  return !in;
}

static bool fits(Matcher *m, const char *s, const char *p, const char *end) {
  step(m);
  if (s >= m->subject_end) return false;
  int c = (unsigned char)*s;
  switch (*p) {
    case '.':
      return true;
    case '%':
      return in_class(c, (unsigned char)p[1]);
    case '[':
      return in_set(c, p, end - 1);
    default:
      return (unsigned char)*p == c;
  }
}

// ---- captures ----

static const char *match_at(Matcher *m, const char *s, const char *p);

// %1 as a number from 0.
static int capture_index(Matcher *m, int digit) {
  int i = digit - '1';
  if (i < 0 || i >= m->count || m->captures[i].length == UNFINISHED)
    return luaL_error(m->L, "invalid capture index %%%d", i + 1);
  return i;
}

static const char *open_capture(Matcher *m, const char *s, const char *p, ptrdiff_t length) {
  if (m->count >= MOST_CAPTURES) luaL_error(m->L, "too many captures");
  m->captures[m->count].begin = s;
  m->captures[m->count].length = length;
  m->count++;
  const char *end = match_at(m, s, p);
  if (!end) m->count--;
  return end;
}

static const char *close_capture(Matcher *m, const char *s, const char *p) {
  int i = m->count - 1;
  while (i >= 0 && m->captures[i].length != UNFINISHED) i--;
  if (i < 0) luaL_error(m->L, "invalid pattern capture");
  m->captures[i].length = s - m->captures[i].begin;
  const char *end = match_at(m, s, p);
  if (!end) m->captures[i].length = UNFINISHED;
  return end;
}

// Pushes capture i, or the whole match when there are none.
static void push_capture(Matcher *m, int i, const char *s, const char *end) {
  if (i >= m->count) {
    if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
    lua_pushlstring(m->L, s, (size_t)(end - s));
    return;
  }
  ptrdiff_t length = m->captures[i].length;
  if (length == UNFINISHED) luaL_error(m->L, "unfinished capture");
  if (length == POSITION)
    lua_pushinteger(m->L, m->captures[i].begin - m->subject + 1);
  else
    lua_pushlstring(m->L, m->captures[i].begin, (size_t)length);
}

// All captures; without any the whole match if `whole`.
static int push_captures(Matcher *m, const char *s, const char *end, bool whole) {
  int count = m->count == 0 && whole ? 1 : m->count;
  luaL_checkstack(m->L, count, "too many captures");
  for (int i = 0; i < count; i++) push_capture(m, i, s, end);
  return count;
}

// ---- matching ----

// %bxy: from x to the y that balances it.
static const char *balanced(Matcher *m, const char *s, const char *p) {
  if (m->pattern_end - p < 2) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  if (s >= m->subject_end || *s != p[0]) return NULL;
  int open = 1;
  for (const char *c = s + 1; c < m->subject_end; c++) {
    step(m);
    if (*c == p[1]) {
      if (--open == 0) return c + 1;
    } else if (*c == p[0]) {
      open++;
    }
  }
  return NULL;
}

// %f[set]: from outside the set into it.
static bool at_frontier(Matcher *m, const char *s, const char *p, const char *end) {
  int before = s == m->subject ? 0 : (unsigned char)s[-1], here = s < m->subject_end ? (unsigned char)*s : 0;
  return !in_set(before, p, end - 1) && in_set(here, p, end - 1);
}

// As many as can be, then fewer.
static const char *repeat_most(Matcher *m, const char *s, const char *p, const char *end) {
  ptrdiff_t count = 0;
  while (fits(m, s + count, p, end)) count++;
  for (; count >= 0; count--) {
    const char *result = match_at(m, s + count, end + 1);
    if (result) return result;
  }
  return NULL;
}

// As few as can be, then more.
static const char *repeat_least(Matcher *m, const char *s, const char *p, const char *end) {
  for (;; s++) {
    const char *result = match_at(m, s, end + 1);
    if (result) return result;
    if (!fits(m, s, p, end)) return NULL;
  }
}

// What follows "%" where that is no class.  Returns false when it is one; else *s is where matching goes on, or NULL.
static bool special_item(Matcher *m, const char **s, const char **p) {
  const char *q = *p + 1;
  if (q == m->pattern_end) return false;
  if (*q == 'b') {
    *s = balanced(m, *s, q + 1);
    *p = q + 3;
    return true;
  }
  if (*q == 'f') {
    q++;
    if (q == m->pattern_end || *q != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
    const char *end = item_end(m, q);
    if (!at_frontier(m, *s, q, end)) *s = NULL;
    *p = end;
    return true;
  }
  if (!isdigit((unsigned char)*q)) return false;
  int i = capture_index(m, (unsigned char)*q);
  size_t length = (size_t)m->captures[i].length;
  bool same = (size_t)(m->subject_end - *s) >= length && memcmp(m->captures[i].begin, *s, length) == 0;
  *s = same ? *s + length : NULL;
  *p = q + 1;
  return true;
}

static const char *match_items(Matcher *m, const char *s, const char *p) {
  while (s && p != m->pattern_end) {
    if (*p == '(') {
      bool position = p + 1 < m->pattern_end && p[1] == ')';
      return position ? open_capture(m, s, p + 2, POSITION) : open_capture(m, s, p + 1, UNFINISHED);
    }
    if (*p == ')') return close_capture(m, s, p + 1);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->subject_end ? s : NULL;
    if (*p == '%' && special_item(m, &s, &p)) continue;
    const char *end = item_end(m, p);
    switch (end < m->pattern_end ? *end : '\0') {
      case '*':
        return repeat_most(m, s, p, end);
      case '+':
        return fits(m, s, p, end) ? repeat_most(m, s + 1, p, end) : NULL;
      case '-':
        return repeat_least(m, s, p, end);
      case '?': {
        const char *result = fits(m, s, p, end) ? match_at(m, s + 1, end + 1) : NULL;
        if (result) return result;
        p = end + 1;
        break;
      }
      default:
        s = fits(m, s, p, end) ? s + 1 : NULL;
        p = end;
    }
  }
  return s;
}

// Where the match of the pattern from p at s ends, or NULL.
static const char *match_at(Matcher *m, const char *s, const char *p) {
  if (m->depth-- == 0) luaL_error(m->L, "pattern too complex");
  const char *end = match_items(m, s, p);
  m->depth++;
  return end;
}

static const char *match_from(Matcher *m, const char *s, const char *p) {
  step(m);
  m->count = 0;
  m->depth = DEEPEST;
  return match_at(m, s, p);
}

// ---- the functions ----

typedef struct Bytes {
  const char *data;
  size_t length;
} Bytes;

static Bytes check_bytes(lua_State *L, int index) {
  Bytes b;
  b.data = luaL_checklstring(L, index, &b.length);
  return b;
}

static Matcher new_matcher(lua_State *L, Bytes s, Bytes p) {
  return (Matcher){.L = L, .subject = s.data, .subject_end = s.data + s.length, .pattern_end = p.data + p.length};
}

// The place, from 0, where the argument says to begin; beyond the end when it is past it.
static size_t first_place(lua_State *L, int index, size_t length) {
  lua_Integer i = luaL_optinteger(L, index, 1);
  if (i > 0) return (lua_Unsigned)i - 1 > length ? length + 1 : (size_t)i - 1;
  if (i == 0 || i < -(lua_Integer)length) return 0;
  return length - (size_t)-i;
}

static bool is_plain(Bytes p) {
  for (size_t i = 0; i < p.length; i++)
    if (p.data[i] && strchr("^$*+?.([%-", p.data[i])) return false;
  return true;
}

// The first place of p in s, or NULL.
static const char *find_plain(Bytes s, Bytes p) {
  if (p.length == 0) return s.data;
  // Few places begin like p, as a rule; where many do, memmem looks at no byte twice.
  for (int tries = 0; tries < 1000; tries++) {
    const char *found = s.length < p.length ? NULL : memchr(s.data, *p.data, s.length - p.length + 1);
    if (!found || memcmp(found, p.data, p.length) == 0) return found;
    s.length -= (size_t)(found + 1 - s.data);
    s.data = found + 1;
  }
  return memmem(s.data, s.length, p.data, p.length);
}

static int find_or_match(lua_State *L, bool find) {
  Bytes s = check_bytes(L, 1), p = check_bytes(L, 2);
  size_t first = first_place(L, 3, s.length);
  if (first > s.length) {
    luaL_pushfail(L);
    return 1;
  }
  if (find && (lua_toboolean(L, 4) || is_plain(p))) {
    const char *found = find_plain((Bytes){s.data + first, s.length - first}, p);
    if (found) {
      lua_pushinteger(L, found - s.data + 1);
      lua_pushinteger(L, found - s.data + (ptrdiff_t)p.length);
      return 2;
    }
    luaL_pushfail(L);
    return 1;
  }
  Matcher m = new_matcher(L, s, p);
  bool anchored = p.length > 0 && *p.data == '^';
  const char *at = s.data + first;
  do {
    const char *end = match_from(&m, at, p.data + anchored);
    if (!end) continue;
    if (!find) return push_captures(&m, at, end, true);
    lua_pushinteger(L, at - s.data + 1);
    lua_pushinteger(L, end - s.data);
    return 2 + push_captures(&m, at, end, false);
  } while (at++ < m.subject_end && !anchored);
  luaL_pushfail(L);
  return 1;
}

static int find(lua_State *L) {
  return find_or_match(L, true);
}

static int match(lua_State *L) {
  return find_or_match(L, false);
}

// Upvalues: subject, pattern, the place to go on from, where the last match ended (an empty one there is the same).
static int next_match(lua_State *L) {
  Bytes s, p;
  s.data = lua_tolstring(L, lua_upvalueindex(1), &s.length);
  p.data = lua_tolstring(L, lua_upvalueindex(2), &p.length);
  lua_Integer place = lua_tointeger(L, lua_upvalueindex(3)), last = lua_tointeger(L, lua_upvalueindex(4));
  if (place > (lua_Integer)s.length) return 0;
  Matcher m = new_matcher(L, s, p);
  for (const char *at = s.data + place; at <= m.subject_end; at++) {
    const char *end = match_from(&m, at, p.data);
    if (!end || end - s.data == last) continue;
    lua_pushinteger(L, end - s.data);
    lua_copy(L, -1, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(&m, at, end, true);
  }
  return 0;
}

static int gmatch(lua_State *L) {
  Bytes s = check_bytes(L, 1);
  check_bytes(L, 2);
  lua_Integer first = (lua_Integer)first_place(L, 3, s.length);
  lua_settop(L, 2);
  lua_pushinteger(L, first);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, next_match, 4);
  return 1;
}

// Adds the replacement string, its %1 filled in.
static void add_string(Matcher *m, luaL_Buffer *b, const char *s, const char *end) {
  Bytes r;
  r.data = lua_tolstring(m->L, 3, &r.length);
  const char *stop = r.data + r.length;
  for (const char *c = r.data; c < stop; c++) {
    if (*c != '%') {
      const char *next = memchr(c, '%', (size_t)(stop - c));
      luaL_addlstring(b, c, (size_t)((next ? next : stop) - c));
      c = (next ? next : stop) - 1;
      continue;
    }
    c++;
    if (c < stop && *c == '%') {
      luaL_addchar(b, '%');
    } else if (c < stop && *c == '0') {
      luaL_addlstring(b, s, (size_t)(end - s));
    } else if (c < stop && isdigit((unsigned char)*c)) {
      int i = *c - '1';
      if (i >= m->count && i != 0) luaL_error(m->L, "invalid capture index %%%d in replacement string", i + 1);
      push_capture(m, i, s, end);
      luaL_tolstring(m->L, -1, NULL);
      lua_remove(m->L, -2);
      luaL_addvalue(b);
    } else {
      luaL_error(m->L, "invalid use of '%%' in replacement string");
    }
  }
}

// Adds what stands for the match from s to end; false when that is the match itself.
static bool add_replacement(Matcher *m, luaL_Buffer *b, const char *s, const char *end) {
  lua_State *L = m->L;
  switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
      lua_pushvalue(L, 3);
      lua_call(L, push_captures(m, s, end, true), 1);
      break;
    case LUA_TTABLE:
      push_capture(m, 0, s, end);
      lua_gettable(L, 3);
      break;
    default:
      add_string(m, b, s, end);
      return true;
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(end - s));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(b);
  return true;
}

static int gsub(lua_State *L) {
  Bytes s = check_bytes(L, 1), p = check_bytes(L, 2);
  int kind = lua_type(L, 3);
  luaL_argexpected(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                   "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)s.length + 1), count = 0;
  bool anchored = p.length > 0 && *p.data == '^', changed = false;
  Matcher m = new_matcher(L, s, p);
  const char *at = s.data, *last = NULL;
  luaL_Buffer b;
  if (kind == LUA_TNUMBER) lua_tostring(L, 3);
  luaL_buffinit(L, &b);
  while (count < most) {
    const char *end = match_from(&m, at, p.data + anchored);
    if (end && end != last) {
      count++;
      if (add_replacement(&m, &b, at, end)) changed = true;
      at = last = end;
    } else if (at < m.subject_end) {
      luaL_addchar(&b, *at++);
    } else {
      break;
    }
    if (anchored) break;
  }
  if (changed) {
    luaL_addlstring(&b, at, (size_t)(m.subject_end - at));
    luaL_pushresult(&b);
  } else {
    lua_pushvalue(L, 1);
  }
  lua_pushinteger(L, count);
  return 2;
}

// string.rep by doubling: Lua's copies piece by piece, which takes seconds for single characters.
static int rep(lua_State *L) {
  Bytes s = check_bytes(L, 1), separator = {"", 0};
  lua_Integer n = luaL_checkinteger(L, 2);
  separator.data = luaL_optlstring(L, 3, "", &separator.length);
  size_t piece = s.length + separator.length, total;
  if (n <= 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (piece < s.length || __builtin_mul_overflow(piece, (size_t)n, &total) || total > INT_MAX)
    return luaL_error(L, "resulting string too large");
  total -= separator.length;
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, total);
  size_t done = piece < total ? piece : total;
  memcpy(out, s.data, s.length);
  if (n > 1) memcpy(out + s.length, separator.data, separator.length);
  while (done < total) {
    size_t more = done < total - done ? done : total - done;
    memcpy(out + done, out, more);
    done += more;
  }
  luaL_pushresultsize(&b, total);
  return 1;
}

void open_patterns(lua_State *L) {
  static const luaL_Reg functions[] = {{"find", find}, {"match", match}, {"gmatch", gmatch},
                                       {"gsub", gsub}, {"rep", rep},     {NULL, NULL}};
  lua_getglobal(L, "string");
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
