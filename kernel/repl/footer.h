// SPDX-License-Identifier: MIT
// The line of the controls: it stands below what is printed while something runs, and takes keys after a Tab.
//
// Without it keys are the terminal's own until somebody reads them, and so they are with it, until a Tab comes before
// anything else has been typed ahead: the terminal hands out what is typed by lines, and a Tab then ends one.  Nobody
// but the line may be told by an echo of what is typed, for it would stand somewhere in the output.
#ifndef NABLUA_FOOTER_H
#define NABLUA_FOOTER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "session.h"

// Takes stdin over, so that the line is not in the way of what is read; to be called before anything keeps it, and
// after screen_open.  `unread` gives an editor what was read and is for the next input, `take` takes that from it for
// somebody else: as many bytes as there are.
void footer_open(void (*unread)(const char *bytes, size_t length), ssize_t (*take)(char *bytes, size_t size));

// The line is to be drawn anew: of a sink.
void footer_changed(void);

// Something runs from now on, or no more.  `prompt`: what was typed meanwhile is an editor's.
void footer_begin(Session *s, bool prompt);
void footer_end(void);

// Somebody else writes to the terminal or reads from it: it is as if there were no line.  Until what runs has visitors
// again, or, of who waits for the user, until footer_go_on.
void footer_rest(void);
void footer_wait(void);
void footer_go_on(void);

// A signal wants attention; safe in its handler.
void footer_attend(void);

// Draws the line and obeys keys: of a sink.
bool footer_visit(SessionLevel level);

#endif
