// SPDX-License-Identifier: MIT
// The bytes that come from the keyboard: keys whole, pastes as texts, and signals that come while they are waited for.
#ifndef NABLUA_BYTES_H
#define NABLUA_BYTES_H

#include <stdbool.h>
#include <stdio.h>

#include "text.h"

// What happens while a byte is waited for.
typedef struct BytesEvents {
  bool (*interrupted)(void);  // the input is given up: Enter is pressed
  void (*wait)(void);         // nothing more has been typed: what was held back is drawn
  void (*resized)(void);
  void (*suspend)(void);  // before the program stops
  void (*resume)(void);   // and when it goes on
} BytesEvents;

// Gives readline its bytes.
void bytes_open(const BytesEvents *events);

// Watches the signals of the terminal while an input is read.
void bytes_begin(void);
void bytes_end(void);

// Bytes that somebody else has read: they come behind what was read already.  And taking these instead of readline.
void bytes_unread(const char *bytes, size_t length);
size_t bytes_take(char *bytes, size_t size);

// How many bytes were typed and not yet read.
int bytes_waiting(void);

// Whether the rest of a key that was begun is at hand: a lone Esc is followed by nothing.
bool bytes_are_held(void);

// The text of a paste whose first mark was read, up to the mark of its end.
void bytes_read_paste(Text *text);

// Keeps the bytes that are read from now on, after `first`; what was kept until bytes_kept is asked for.
void bytes_keep(const char *first);
const char *bytes_kept(void);

#endif
