// SPDX-License-Identifier: MIT
// vi's commands in a block of several lines; readline's own take the block for one line.
#ifndef NABLUA_VI_H
#define NABLUA_VI_H

// Binds them in vi's keymaps, before readline reads the user's inputrc.
void vi_open(void);

// After each command: the cursor stands on a character, not behind the last one of a line.
void vi_settle(void);

// An input begins or has ended.
void vi_begin(void);

#endif
