// SPDX-License-Identifier: MIT
// To readline the block is one line; what a line is in it is found here.
#include "block.h"

#include <ctype.h>
#include <readline/readline.h>
#include <string.h>

#include "canvas.h"
#include "unicode.h"

int block_line_begin(int at) {
  while (at > 0 && rl_line_buffer[at - 1] != '\n') at--;
  return at;
}

int block_line_end(int at) {
  const char *end = memchr(rl_line_buffer + at, '\n', (size_t)(rl_end - at));
  return end ? (int)(end - rl_line_buffer) : rl_end;
}

int block_indent_end(int at) {
  int i = block_line_begin(at);
  while (i < rl_end && (rl_line_buffer[i] == ' ' || rl_line_buffer[i] == '\t')) i++;
  return i;
}

int block_next(int at) {
  int columns;
  if (at >= rl_end) return rl_end;
  do at += (int)canvas_measure(rl_line_buffer + at, (size_t)(rl_end - at), 0, &columns);
  while (at < rl_end && rl_line_buffer[at] != '\n' &&
         (canvas_measure(rl_line_buffer + at, (size_t)(rl_end - at), 0, &columns), columns == 0));
  return at;
}

int block_before(int at) {
  int from = at > 64 ? at - 64 : 0;
  from = (int)unicode_cut(rl_line_buffer, (size_t)from);
  int i = from;
  for (int next; (next = block_next(i)) < at;) i = next;
  return at > 0 ? i : 0;
}

int block_column(int at) {
  int column = 0, columns;
  for (int i = block_line_begin(at); i < at; column += columns)
    i += (int)canvas_measure(rl_line_buffer + i, (size_t)(at - i), column, &columns);
  return column;
}

int block_at_column(int at, int column) {
  int i = block_line_begin(at), end = block_line_end(at), columns;
  for (int now = 0; i < end; now += columns) {
    size_t n = canvas_measure(rl_line_buffer + i, (size_t)(end - i), now, &columns);
    if (now + columns > column) break;
    i += (int)n;
  }
  return i;
}

static bool is_word(int at) {
  unsigned char c = (unsigned char)rl_line_buffer[at];
  return isalnum(c) || c == '_' || c >= 0x80;
}

int block_word_end(int at) {
  while (at < rl_end && !is_word(at)) at++;
  while (at < rl_end && is_word(at)) at++;
  return at;
}

int block_word_begin(int at) {
  while (at > 0 && !is_word(at - 1)) at--;
  while (at > 0 && is_word(at - 1)) at--;
  return at;
}

void block_replace(int begin, int end, const char *text) {
  rl_begin_undo_group();
  rl_delete_text(begin, end);
  rl_point = begin;
  rl_insert_text(text);
  rl_end_undo_group();
}

// ---- modes ----

static Keymap commands;

void block_open(void) {
  commands = rl_copy_keymap(vi_movement_keymap);
}

bool block_is_vi(void) {
  return rl_editing_mode == 0;
}

bool block_in_commands(void) {
  return block_is_vi() && commands && rl_get_keymap() == commands;
}

void block_enter_commands(void) {
  if (commands) rl_set_keymap(commands);
}

void block_leave_commands(void) {
  rl_set_keymap(vi_insertion_keymap);
}

const char *block_mode_mark(void) {
  const char *shown = rl_variable_value("show-mode-in-prompt");
  if (!shown || strcmp(shown, "on") != 0) return block_in_commands() ? ":" : "";
  const char *name = !block_is_vi()        ? "emacs-mode-string"
                     : block_in_commands() ? "vi-cmd-mode-string"
                                           : "vi-ins-mode-string";
  const char *mark = rl_variable_value(name);
  return mark ? mark : "";
}
