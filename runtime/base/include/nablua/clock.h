// SPDX-License-Identifier: MIT
// The one clock by which durations are measured.
#ifndef NABLUA_CLOCK_H
#define NABLUA_CLOCK_H

// Seconds since some moment; never set back.
double nb_clock(void);

#endif
