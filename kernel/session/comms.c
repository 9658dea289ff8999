// SPDX-License-Identifier: MIT
// Comms: messages between the user's objects and the client, as JSON outside and tables inside.  See
// lua/session/comms.lua for what the user sees.
#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

#include "call.h"
#include "native.h"

// JSON as Lua's values; null is nil.
static void push_json(lua_State *L, const json_t *j) {
  const char *key;
  json_t *item;
  size_t i;
  luaL_checkstack(L, 4, "too deep");
  switch (json_typeof(j)) {
    case JSON_OBJECT:
      lua_createtable(L, 0, (int)json_object_size(j));
      json_object_foreach((json_t *)(uintptr_t)j, key, item) {
        push_json(L, item);
        lua_setfield(L, -2, key);
      }
      break;
    case JSON_ARRAY:
      lua_createtable(L, (int)json_array_size(j), 0);
      json_array_foreach(j, i, item) {
        push_json(L, item);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
      }
      break;
    case JSON_STRING:
      lua_pushlstring(L, json_string_value(j), json_string_length(j));
      break;
    case JSON_INTEGER:
      lua_pushinteger(L, json_integer_value(j));
      break;
    case JSON_REAL:
      lua_pushnumber(L, json_real_value(j));
      break;
    case JSON_TRUE:
      lua_pushboolean(L, 1);
      break;
    case JSON_FALSE:
      lua_pushboolean(L, 0);
      break;
    default:
      lua_pushnil(L);
  }
}

// ---- from the client ----

static const char *const kinds[] = {
    [SESSION_COMM_OPEN] = "open", [SESSION_COMM_MESSAGE] = "message", [SESSION_COMM_CLOSE] = "close"};

typedef struct Delivery {
  const Comm *comm;
  json_t *data;
  bool known;
} Delivery;

static void push_comms_function(lua_State *L, const char *name) {
  push_module(L, "nablua.session.comms");
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

// handler(data, buffers, more)
static int deliver(lua_State *L) {
  Delivery *d = lua_touserdata(L, 1);
  push_comms_function(L, "find");
  lua_pushstring(L, kinds[d->comm->kind]);
  lua_pushstring(L, d->comm->id);
  lua_pushstring(L, d->comm->target);
  lua_call(L, 3, 1);  // the handler
  if (lua_isnil(L, -1)) return 0;
  d->known = true;
  push_json(L, d->data);
  lua_createtable(L, d->comm->buffer_count, 0);
  for (int i = 0; i < d->comm->buffer_count; i++) {
    lua_pushlstring(L, d->comm->buffers[i].data, d->comm->buffers[i].length);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushboolean(L, d->comm->more);
  lua_call(L, 3, 0);
  return 0;
}

bool session_comm(Session *s, const Comm *comm) {
  Delivery d = {comm, json_loadb(comm->data, comm->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL), false};
  if (!d.data) d.data = json_object();
  lua_pushcfunction(s->L, deliver);
  lua_pushlightuserdata(s->L, &d);
  protected_call(s, 1, 0);
  json_decref(d.data);
  return d.known;
}

void session_comms(Session *s, void (*see)(void *user, const char *id, const char *target), void *user) {
  lua_State *L = s->L;
  int top = lua_gettop(L);
  push_session_table(L, "comms");
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1)) continue;
    lua_pushliteral(L, "target");
    lua_rawget(L, -2);
    const char *target = lua_tostring(L, -1);
    see(user, lua_tostring(L, -3), target ? target : "");
    lua_pop(L, 1);
  }
  lua_settop(L, top);
}

// ---- to the client ----

// send_comm(kind, id, target, json, buffers, metadata)
int send_comm(lua_State *L) {
  static const char *const options[] = {"open", "message", "close", NULL};
  enum { MOST_BUFFERS = 64 };
  Session *s = session_of(L);
  Mime buffers[MOST_BUFFERS];
  Comm c = {.kind = (CommKind)luaL_checkoption(L, 1, NULL, options),
            .id = luaL_checkstring(L, 2),
            .target = luaL_optstring(L, 3, ""),
            .data = luaL_checklstring(L, 4, &c.length),
            .metadata = luaL_optstring(L, 6, NULL),
            .buffers = buffers};
  luaL_checktype(L, 5, LUA_TTABLE);
  luaL_argcheck(L, lua_rawlen(L, 5) <= MOST_BUFFERS, 5, "at most 64 buffers can be sent");
  luaL_checkstack(L, MOST_BUFFERS, NULL);
  for (; c.buffer_count < (int)lua_rawlen(L, 5); c.buffer_count++) {
    lua_rawgeti(L, 5, c.buffer_count + 1);
    buffers[c.buffer_count].data = luaL_checklstring(L, -1, &buffers[c.buffer_count].length);
  }
  if (!s->sink.comm) return luaL_error(L, "there is no client here that a comm could talk to");
  s->sink.comm(s->sink.user, &c);
  return 0;
}

int has_client(lua_State *L) {
  lua_pushboolean(L, session_of(L)->front.comm != NULL);
  return 1;
}

int json_error(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  json_error_t error;
  json_t *j = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
  if (j) {
    json_decref(j);
    lua_pushnil(L);
  } else {
    lua_pushfstring(L, "%s, at byte %d", error.text, error.position);
  }
  return 1;
}

// A name that no other comm has.
int new_comm_id(lua_State *L) {
  unsigned char bytes[16];
  char text[2 * sizeof bytes + 1];
  if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return luaL_error(L, "no random bytes");
  for (size_t i = 0; i < sizeof bytes; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
  lua_pushstring(L, text);
  return 1;
}
