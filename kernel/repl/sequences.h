// SPDX-License-Identifier: MIT
// The bytes that keys send: xterm and its kin, tmux, screen, PuTTY, rxvt, the Linux console.
#ifndef NABLUA_SEQUENCES_H
#define NABLUA_SEQUENCES_H

#include <readline/readline.h>
#include <stddef.h>

enum {
  KEY_UP = 256,
  KEY_DOWN,
  KEY_LEFT,
  KEY_RIGHT,
  KEY_HOME,
  KEY_END,
  KEY_PAGE_UP,
  KEY_PAGE_DOWN,
  KEY_DELETE,
  KEY_OLDER,  // up with Ctrl or Alt: to another input, whatever line the cursor is in
  KEY_NEWER,
  KEY_WORD_LEFT,  // left with Ctrl or Alt
  KEY_WORD_RIGHT,
  KEY_BLOCK_HOME,  // Home with Ctrl
  KEY_BLOCK_END,
  KEY_KILL_WORD,  // Delete with Ctrl
  KEY_PASTE,      // what the terminal sends before a paste
  KEY_BACK_TAB,
  KEY_ENTER,     // of the keypad
  KEY_NEW_LINE,  // Enter with Shift or Alt
  KEY_RUN,       // Enter with Ctrl
  KEY_KEYPAD,    // its other keys, in its other mode
};

// What a key, named or a byte, does.
typedef struct Named {
  int key;
  rl_command_func_t *command;
} Named;

// Binds all sequences of the named keys.
void sequences_bind(Keymap map, const Named *named, size_t count);

#endif
