// SPDX-License-Identifier: MIT
// One table of what terminals send, in readline's notation without the leading Esc.
#include "sequences.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct Sequences {
  int key;
  const char *sent;  // apart by spaces
} Sequences;

// "[A" is xterm's, "OA" that of its other mode, "[a" rxvt's with Shift, "Oa" rxvt's with Ctrl, "\\e[A" rxvt's with Alt.
static const Sequences plain[] = {
    {KEY_UP, "[A OA [a"},
    {KEY_DOWN, "[B OB [b"},
    {KEY_RIGHT, "[C OC [c"},
    {KEY_LEFT, "[D OD [d"},
    {KEY_HOME, "[H OH [1~ [7~ [OH [7$ [1$"},
    {KEY_END, "[F OF [4~ [8~ [OF [8$ [4$ Ow"},
    {KEY_PAGE_UP, "[5~ [5$ [5^ [5@ [[5~"},
    {KEY_PAGE_DOWN, "[6~ [6$ [6^ [6@ [[6~"},
    {KEY_DELETE, "[3~ [3$"},
    {KEY_OLDER, "Oa \\e[A \\eOA"},
    {KEY_NEWER, "Ob \\e[B \\eOB"},
    {KEY_WORD_RIGHT, "Oc \\e[C \\eOC [5C O5C"},
    {KEY_WORD_LEFT, "Od \\e[D \\eOD [5D O5D"},
    {KEY_BLOCK_HOME, "[7^ [7@ [1^"},
    {KEY_BLOCK_END, "[8^ [8@ [4^"},
    {KEY_KILL_WORD, "[3^ [3@ \\e[3~"},
    {KEY_PASTE, "[200~"},
    {KEY_BACK_TAB, "[Z"},
    {KEY_ENTER, "OM"},
    {KEY_NEW_LINE, "[13;2u [13;3u [27;2;13~ [27;3;13~"},
    {KEY_RUN, "[13;5u [27;5;13~"},
    {KEY_KEYPAD, "Oj Ok Ol Om On Oo Op Oq Or Os Ot Ou Ov Ox Oy"},
};

// With modifiers: the number of Shift is 2, of Alt 3, of Ctrl 5; and their sums.
static const struct {
  int key, with_shift, with_others;
  const char *format;
} modified[] = {
    {KEY_UP, KEY_UP, KEY_OLDER, "[1;%dA"},
    {KEY_DOWN, KEY_DOWN, KEY_NEWER, "[1;%dB"},
    {KEY_RIGHT, KEY_RIGHT, KEY_WORD_RIGHT, "[1;%dC"},
    {KEY_LEFT, KEY_LEFT, KEY_WORD_LEFT, "[1;%dD"},
    {KEY_HOME, KEY_HOME, KEY_BLOCK_HOME, "[1;%dH"},
    {KEY_END, KEY_END, KEY_BLOCK_END, "[1;%dF"},
    {KEY_HOME, KEY_HOME, KEY_BLOCK_HOME, "[1;%d~"},
    {KEY_END, KEY_END, KEY_BLOCK_END, "[4;%d~"},
    {KEY_HOME, KEY_HOME, KEY_BLOCK_HOME, "[7;%d~"},
    {KEY_END, KEY_END, KEY_BLOCK_END, "[8;%d~"},
    {KEY_DELETE, KEY_DELETE, KEY_KILL_WORD, "[3;%d~"},
    {KEY_PAGE_UP, KEY_PAGE_UP, KEY_PAGE_UP, "[5;%d~"},
    {KEY_PAGE_DOWN, KEY_PAGE_DOWN, KEY_PAGE_DOWN, "[6;%d~"},
};

static rl_command_func_t *command_of(const Named *named, size_t count, int key) {
  for (size_t i = 0; i < count; i++)
    if (named[i].key == key) return named[i].command;
  return NULL;
}

static void bind(Keymap map, const char *sent, size_t length, rl_command_func_t *command) {
  char sequence[32];
  snprintf(sequence, sizeof sequence, "\\e%.*s", (int)length, sent);
  if (command) rl_bind_keyseq_in_map(sequence, command, map);
}

void sequences_bind(Keymap map, const Named *named, size_t count) {
  enum { FIRST = 2, LAST = 8, SHIFT = 2 };
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
    rl_command_func_t *command = command_of(named, count, plain[i].key);
    for (const char *at = plain[i].sent; *at; at += strspn(at, " ")) {
      size_t n = strcspn(at, " ");
      bind(map, at, n, command);
      at += n;
    }
  }
  for (size_t i = 0; i < sizeof modified / sizeof *modified; i++)
    for (int m = FIRST; m <= LAST; m++) {
      char sent[16];
      int n = snprintf(sent, sizeof sent, modified[i].format, m);
      bind(map, sent, (size_t)n,
           command_of(named, count, m == SHIFT ? modified[i].with_shift : modified[i].with_others));
    }
}
