// SPDX-License-Identifier: MIT
// Something that happened, as a descriptor that a thread can poll: readable from when it is set until it is cleared.
#ifndef NABLUA_EVENT_H
#define NABLUA_EVENT_H

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

// -1 where the system refuses.
static inline int event_new(void) {
  return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

// Safe in a signal handler.
static inline void event_set(int event) {
  uint64_t one = 1;
  ssize_t n = write(event, &one, sizeof one);
  (void)n;  // what is full is set
}

static inline void event_clear(int event) {
  uint64_t count;
  ssize_t n = read(event, &count, sizeof count);
  (void)n;  // what cannot be read is clear
}

#endif
