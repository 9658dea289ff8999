// SPDX-License-Identifier: MIT
// Included before every source of the coverage build: a process that ends by _exit writes what it counted, too, and so
// does one that a test ends, by SIGUSR2 in place of SIGKILL.
#ifndef NABLUA_COVERAGE_H
#define NABLUA_COVERAGE_H

#include <signal.h>
#include <unistd.h>

void __gcov_dump(void);

__attribute__((noreturn, unused)) static inline void covered_exit(int code) {
  __gcov_dump();
  _exit(code);
}

// Weak, as every object has them.
__attribute__((weak)) void covered_signal(int number) {
  (void)number;
  alarm(5);  // it may have come in the middle of what the dump needs
  covered_exit(0);
}

__attribute__((weak, constructor)) void covered_begin(void) {
  signal(SIGUSR2, covered_signal);
}

#define _exit covered_exit

#endif
