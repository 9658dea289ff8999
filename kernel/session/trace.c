// SPDX-License-Identifier: MIT
// The trace as front ends use it: they know nothing of the library itself.
#include "nablua/traced.h"
#include "nablua_lua.h"
#include "session.h"

void session_trace_to(int descriptor) {
  nablua_trace_to(descriptor);
}

SessionTrace session_traces_messages(void) {
  if (!nb_is_traced(NB_TRACE_WIRE)) return SESSION_TRACE_NONE;
  return nb_traced.contents ? SESSION_TRACE_CONTENTS : SESSION_TRACE_MESSAGES;
}

void session_trace_message(const char *line) {
  if (nb_is_traced(NB_TRACE_WIRE)) nb_trace_line(NB_TRACE_WIRE, "%s", line);
}
