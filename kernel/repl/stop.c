// SPDX-License-Identifier: MIT
// The flags that signal handlers set.
#include "stop.h"

#include <signal.h>

static volatile sig_atomic_t interrupted, leaving;

void stop_input(void) {
  interrupted = 1;
}

void stop_inputs(void) {
  leaving = interrupted = 1;
}

bool stop_is_asked(void) {
  return interrupted;
}

bool stop_is_for_good(void) {
  return leaving;
}

void stop_forget(void) {
  interrupted = leaving;
}
