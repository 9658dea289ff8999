// SPDX-License-Identifier: MIT
// What the user has set in nb.terminal, told to those whom it concerns.
#ifndef NABLUA_SETTINGS_H
#define NABLUA_SETTINGS_H

#include "session.h"

// Before an input; costs nothing where nothing has changed.
void settings_apply(Session *s);

#endif
