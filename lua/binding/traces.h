// SPDX-License-Identifier: MIT
// What the binding tells to the trace.
#ifndef NABLUA_LUA_TRACES_H
#define NABLUA_LUA_TRACES_H

// Obeys NABLUA_TRACE and NABLUA_TRACE_FILE, at the first call in a process.
void nb_open_trace(void);

// Tells of a compiled function, with the user's line, where the trace is to tell of plans; else it does nothing.
void nb_trace_plan(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
