// SPDX-License-Identifier: MIT
// Work of the user's that is due by the clock: lua/ui/clock.lua keeps the list.
#ifndef NABLUA_ALARM_H
#define NABLUA_ALARM_H

#include "state.h"

// Whether something is due.
bool alarm_is_due(const Session *s);

// Does what is due; the user is a Session.
void alarm_run(void *session);

#endif
