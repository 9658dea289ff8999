// SPDX-License-Identifier: MIT
// Where the trace goes that the environment asks for: the standard error, what a front end says, or a file.
#include "traces.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "binding.h"
#include "nablua/environment.h"
#include "nablua/trace.h"
#include "nablua/traced.h"
#include "nablua_lua.h"
#include "open.h"

static int descriptor = STDERR_FILENO;

void nablua_trace_to(int to) {
  descriptor = to;
}

// One call of the system a line, so that those of several threads and processes stay whole.
static void tell(const char *line) {
  dprintf(descriptor, "%s\n", line);
}

void nb_open_trace(void) {
  static FILE *file;
  Error err;
  const char *words = nb_environment("NABLUA_TRACE"), *path = nb_environment("NABLUA_TRACE_FILE");
  if (!words || file) return;
  if (!nb_trace(words, tell, &err)) {
    nb_environment_refuse("NABLUA_TRACE");
    return;
  }
  if (!path) return;
  if ((file = fopen(path, "ae")))
    descriptor = fileno(file);
  else
    nb_environment_refuse("NABLUA_TRACE_FILE");
}

void nb_trace_plan(const char *format, ...) {
  char text[300];
  va_list ap;
  if (!nb_is_traced(NB_TRACE_PLAN)) return;
  va_start(ap, format);
  vsnprintf(text, sizeof text, format, ap);
  va_end(ap);
  Site site = nb_site_now();
  if (site.source)
    nb_trace_line(NB_TRACE_PLAN, "%s  %s:%d", text, site.source, site.line);
  else
    nb_trace_line(NB_TRACE_PLAN, "%s", text);
}

// native.traces_plans(): whether the trace tells of plans
static int traces_plans(lua_State *L) {
  lua_pushboolean(L, nb_is_traced(NB_TRACE_PLAN));
  return 1;
}

// native.trace_plan(text)
static int trace_plan(lua_State *L) {
  nb_trace_plan("%s", luaL_checkstring(L, 1));
  return 0;
}

void nb_open_traces(lua_State *L) {
  static const luaL_Reg functions[] = {{"traces_plans", traces_plans}, {"trace_plan", trace_plan}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
