// SPDX-License-Identifier: MIT
// A command is an operator with a motion (d w), with itself (d d: lines), or a letter that stands for one of these.
// What changes the text is kept as the keys that were typed, for "." to type again.
#include "vi.h"

#include <ctype.h>
#include <readline/readline.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "bytes.h"
#include "drawing.h"
#include "keys.h"
#include "motions.h"
#include "search.h"
#include "stop.h"
#include "text.h"
#include "unicode.h"

// What was deleted or copied last; whole lines stand without their last line end.
static struct {
  Text text;
  bool lines;
} kept;

static bool inserting;  // text is typed, as one step to undo
static char *change;    // the keys of the last change
static bool keeping;    // its keys are being kept
// How many times more what is typed stands there once that has ended, where it began, and whether it is whole lines.
static int repeats, typed_from;
static bool typed_lines;

// ---- changing ----

static void keep(int begin, int end, bool lines) {
  kept.text.length = 0;
  text_add(&kept.text, rl_line_buffer + begin, (size_t)(end - begin));
  kept.lines = lines;
}

static void insert(void) {
  if (!inserting) rl_begin_undo_group();
  inserting = true;
  repeats = 0;
  block_leave_commands();
}

// What is typed from here on stands there as often as the count says.
static void insert_often(int count) {
  insert();
  repeats = count - 1;
  typed_from = rl_point;
  typed_lines = false;
}

static void repeat_typed(void) {
  int end = rl_point;
  if (repeats <= 0 || end <= typed_from || end > rl_end) return;
  char *typed = rl_copy_text(typed_from, end);
  for (; typed && repeats > 0; repeats--) {
    if (typed_lines) rl_insert_text("\n");
    rl_insert_text(typed);
  }
  free(typed);
}

static void delete_text(int begin, int end) {
  rl_begin_undo_group();
  rl_delete_text(begin, end);
  rl_end_undo_group();
  rl_point = begin;
}

// Moves the lines by a step of the indentation.
static void shift_lines(int begin, int end, bool right) {
  rl_begin_undo_group();
  for (int at = block_line_begin(begin); at <= end && at <= rl_end;) {
    int blanks = block_indent_end(at) - at;
    rl_point = at;
    if (right && block_line_end(at) > at) {
      rl_insert_text("  ");
      end += 2;
    } else if (!right) {
      int less = blanks < 2 ? blanks : 2;
      rl_delete_text(at, at + less);
      end -= less;
    }
    at = block_line_end(at) + 1;
  }
  rl_end_undo_group();
  rl_point = block_indent_end(begin < rl_end ? begin : rl_end);
}

// Does what the operator says with the bytes from `begin` to `end`; of whole lines those between their ends.
static void operate(int verb, int begin, int end, bool lines) {
  if (verb == '<' || verb == '>') {
    shift_lines(begin, end, verb == '>');
    return;
  }
  if (end > begin || lines) keep(begin, end, lines);
  if (verb == 'y') {
    if (!lines || rl_point > end || rl_point < begin) rl_point = begin;
  } else if (verb == 'c') {
    int from = lines ? block_indent_end(begin) : begin;
    insert();
    rl_delete_text(from < end ? from : end, end);
    rl_point = from < end ? from : end;
  } else if (lines) {
    bool last = end == rl_end;
    delete_text(last && begin > 0 ? begin - 1 : begin, last ? end : end + 1);
    rl_point = block_indent_end(last && begin > 0 ? rl_end : rl_point);
  } else {
    delete_text(begin, end);
  }
}

// What an operator does with what a motion passes.
static void operate_to(int verb, Motion m) {
  int begin = m.to < rl_point ? m.to : rl_point, end = m.to < rl_point ? rl_point : m.to;
  if (m.inclusive) end = block_next(end);
  int from = block_line_begin(end);
  if (!m.lines && !m.inclusive && end == from && begin < from) {
    // What ends at the beginning of a line ends in the line before, and is whole lines when it began as one.
    end--;
    m.lines = begin <= block_indent_end(begin);
  }
  if (m.lines) {
    if (verb == 'y' && m.to < rl_point) rl_point = m.to;
    operate(verb, block_line_begin(begin), block_line_end(end), true);
  } else if (end > begin || verb == 'c') {
    operate(verb, begin, end, false);
  }
}

// Reads the motion of an operator and does it.
static void operate_on_motion(int verb, int count) {
  int key = rl_read_key(), second = 0;
  while (isdigit(key) && (key != '0' || second > 0)) {
    second = second < 10000 ? second * 10 + key - '0' : second;
    key = rl_read_key();
  }
  bool explicit = rl_explicit_arg || second > 0, lines;
  if (second > 0) count *= second;
  int begin = rl_point, end = rl_point;
  if (key == verb) {
    for (; count > 1 && block_line_end(end) < rl_end; count--) end = block_line_end(end) + 1;
    operate(verb, block_line_begin(begin), block_line_end(end), true);
    return;
  }
  if (key == 'i' || key == 'a') {
    if (motion_object(key == 'a', rl_read_key(), count, &begin, &end, &lines)) {
      if (verb == 'y') rl_point = begin;
      operate(verb, begin, end, lines);
    }
    return;
  }
  bool on_word = rl_point < rl_end && !isspace((unsigned char)rl_line_buffer[rl_point]);
  if (verb == 'c' && on_word && (key == 'w' || key == 'W')) {  // as vi does: without the blanks behind
    key = key == 'w' ? 'e' : 'E';
    if (motion_at_word_end(key == 'E') && --count == 0) {
      operate(verb, rl_point, block_next(rl_point), false);
      return;
    }
  }
  Motion m = motion_of(key, count, explicit, true);
  if (!m.fails) operate_to(verb, m);
}

static void put(int count, bool before) {
  if (kept.text.length == 0 && !kept.lines) return;
  rl_begin_undo_group();
  int at;
  if (kept.lines) {
    at = before ? block_line_begin(rl_point) : block_line_end(rl_point);
    for (; count > 0; count--) {
      rl_point = at;
      if (!before) rl_insert_text("\n");
      rl_insert_text(kept.text.data ? kept.text.data : "");
      if (before) rl_insert_text("\n");
    }
    rl_point = block_indent_end(before ? at : at + 1);
  } else {
    if (!before && rl_point < block_line_end(rl_point)) rl_point = block_next(rl_point);
    for (; count > 0; count--) rl_insert_text(kept.text.data);
    rl_point = block_before(rl_point);
  }
  rl_end_undo_group();
}

static void open_line(bool above, int count) {
  insert();
  if (above) {
    int begin = block_line_begin(rl_point), blanks = block_indent_end(begin) - begin;
    char line[64];
    snprintf(line, sizeof line, "%*s\n", blanks < 40 ? blanks : 40, "");
    rl_point = begin;
    rl_insert_text(line);
    rl_point = block_line_end(begin);
  } else {
    rl_point = block_line_end(rl_point);
    keys_insert_line();
  }
  repeats = count - 1;
  typed_from = block_line_begin(rl_point);
  typed_lines = true;
}

static void join_lines(int count) {
  rl_begin_undo_group();
  do {
    int end = block_line_end(rl_point);
    if (end == rl_end) break;
    int next = block_indent_end(end + 1);
    bool apart = next < block_line_end(next) && rl_line_buffer[next] != ')' && end > block_line_begin(end) &&
                 !isspace((unsigned char)rl_line_buffer[end - 1]);
    block_replace(end, next, apart ? " " : "");
    rl_point = end;
  } while (--count > 1);
  rl_end_undo_group();
}

static void toggle_case(int count) {
  rl_begin_undo_group();
  for (; count > 0 && rl_point < block_line_end(rl_point); count--) {
    unsigned char c = (unsigned char)rl_line_buffer[rl_point];
    char other[2] = {(char)(islower(c) ? toupper(c) : tolower(c)), '\0'};
    int next = block_next(rl_point), at = rl_point;
    if (isalpha(c)) {
      rl_delete_text(at, at + 1);
      rl_insert_text(other);
    }
    rl_point = next;
  }
  rl_end_undo_group();
}

static void end_change(void) {
  const char *keys = keeping ? bytes_kept() : NULL;
  if (keys) {
    // Readline looks at the byte behind an Esc before it says that there was one.
    const char *escaped = inserting ? strrchr(keys, '\033') : NULL;
    free(change);
    change = escaped ? strndup(keys, (size_t)(escaped - keys) + 1) : strdup(keys);
  }
  keeping = false;
  bytes_keep(NULL);
}

// Esc after text.
static int escape(int count, int key) {
  (void)count, (void)key;
  end_change();
  if (inserting) {
    repeat_typed();
    rl_end_undo_group();
  }
  inserting = false;
  if (rl_point > block_line_begin(rl_point)) rl_point = block_before(rl_point);
  block_enter_commands();
  return 0;
}

// The character that begins with this byte, the rest of which is read.
static void read_character(int key, char text[8]) {
  int length = 0;
  text[length++] = (char)(key == '\r' ? '\n' : key);
  for (int more = key >= 0xF0 ? 3 : key >= 0xE0 ? 2 : key >= 0xC0 ? 1 : 0; more > 0; more--)
    text[length++] = (char)rl_read_key();
  text[length] = '\0';
}

// r: other characters in the place of as many.
static void replace_characters(int count) {
  char text[8];
  int key = rl_read_key(), end = rl_point;
  if (key < 0 || key == '\033') return;
  read_character(key, text);
  for (int i = 0; i < count; i++) {
    if (end >= block_line_end(rl_point)) return;
    end = block_next(end);
  }
  rl_begin_undo_group();
  rl_delete_text(rl_point, end);
  for (int i = 0; i < count; i++) rl_insert_text(text);
  rl_end_undo_group();
  rl_point = block_before(rl_point);
}

// R: what is typed takes the place of what is there, and Backspace brings that back.
static void replace_from_here(void) {
  int key, behind = 0;  // characters that were typed where the line had ended
  char text[8], *old = rl_copy_text(rl_point, block_line_end(rl_point));
  size_t at = 0;  // how much of that has been replaced
  insert();
  for (;;) {
    drawing_redraw();
    key = rl_read_key();
    bool back = key == 127 || key == '\b';
    if (!old || stop_is_asked() || (!back && (key < ' ' || key > 255))) break;
    int next = block_next(rl_point), before = block_before(rl_point);
    if (!back && rl_point < block_line_end(rl_point)) {
      rl_delete_text(rl_point, next);
      at += (size_t)(next - rl_point);
    } else if (!back) {
      behind++;
    } else if (behind > 0 || at > 0) {
      rl_delete_text(before, rl_point);
      rl_point = before;
    }
    if (!back) {
      read_character(key, text);
      rl_insert_text(text);
    } else if (behind > 0) {
      behind--;
    } else if (at > 0) {
      size_t from = unicode_cut(old, at - 1);
      snprintf(text, sizeof text, "%.*s", (int)(at - from), old + from);
      rl_insert_text(text);
      rl_point = before;
      at = from;
    }
  }
  free(old);
  if (key == '\033' && !bytes_are_held())
    escape(1, key);
  else if (key >= 0)
    rl_execute_next(key);
}

// ---- commands ----

static int move(int count, int key) {
  Motion m = motion_of(key, count, rl_explicit_arg, false);
  if (!m.fails) rl_point = m.to;
  return 0;
}

static void do_change(int count, int key) {
  int begin = block_line_begin(rl_point), end = block_line_end(rl_point), at = rl_point;
  switch (key) {
    case 'x':
    case 's':
      for (; count > 0 && at < end; count--) at = block_next(at);
      if (at > rl_point || key == 's') operate(key == 'x' ? 'd' : 'c', rl_point, at, false);
      break;
    case 'X':
      for (; count > 0 && at > begin; count--) at = block_before(at);
      if (at < rl_point) operate('d', at, rl_point, false);
      break;
    case 'D':
    case 'C':
      if (end > rl_point || key == 'C') operate(key == 'D' ? 'd' : 'c', rl_point, end, false);
      break;
    case 'S':
      operate('c', begin, end, true);
      break;
    case 'p':
    case 'P':
      put(count, key == 'P');
      break;
    case 'i':
      insert_often(count);
      break;
    case 'a':
      if (rl_point < end) rl_point = block_next(rl_point);
      insert_often(count);
      break;
    case 'I':
      rl_point = block_indent_end(rl_point);
      insert_often(count);
      break;
    case 'A':
      rl_point = end;
      insert_often(count);
      break;
    case 'o':
    case 'O':
      open_line(key == 'O', count);
      break;
    case 'R':
      replace_from_here();
      break;
    case 'J':
      join_lines(count);
      break;
    case '~':
      toggle_case(count);
      break;
    case 'r':
      replace_characters(count);
      break;
    default:
      operate_on_motion(key, count);
  }
}

// A command that changes the text, whose keys are kept.
static int change_text(int count, int key) {
  if (!RL_ISSTATE(RL_STATE_MACROINPUT)) {
    char typed[32];
    if (rl_explicit_arg)
      snprintf(typed, sizeof typed, "%d%c", count, key);
    else
      snprintf(typed, sizeof typed, "%c", key);
    bytes_keep(typed);
    keeping = true;
  }
  do_change(count > 0 ? count : 1, key);
  if (!inserting) end_change();
  return 0;
}

static int copy(int count, int key) {
  if (key == 'Y')
    operate('y', block_line_begin(rl_point), block_line_end(rl_point), true);
  else
    operate_on_motion('y', count);
  return 0;
}

// The last change once more, as often as it was told or is told now.
static int again(int count, int key) {
  (void)key;
  if (!change) return 0;
  const char *keys = change;
  if (rl_explicit_arg) keys += strspn(keys, "0123456789");
  size_t size = strlen(keys) + 16;
  char *typed = malloc(size);
  if (!typed) return 0;
  if (rl_explicit_arg)
    snprintf(typed, size, "%d%s", count, keys);
  else
    snprintf(typed, size, "%s", keys);
  rl_push_macro_input(typed);
  return 0;
}

// The cursor goes to where the text becomes another.
static int undo(int count, int key) {
  char *before = strdup(rl_line_buffer);
  rl_undo_command(count, key);
  if (!before) return 0;
  int at = 0;
  while (before[at] && before[at] == rl_line_buffer[at]) at++;
  bool same = !before[at] && !rl_line_buffer[at];
  if (!before[at] && rl_line_buffer[at] == '\n') at++;  // lines came back at the end
  if (!same) rl_point = (int)unicode_cut(rl_line_buffer, (size_t)at);
  free(before);
  return 0;
}

// + and -: as down and up, to the first character that is no blank.
static int to_text_of_line(int count, int key) {
  int result = key == '+' ? keys_down(count, key) : keys_up(count, key);
  rl_point = block_indent_end(rl_point);
  return result;
}

static int enter(int count, int key) {
  (void)count, (void)key;
  keys_enter(true);
  return 0;
}

static int nothing(int count, int key) {
  (void)count, (void)key;
  return 0;
}

// What we have not, and reads one key more: that key is no command.
static int nothing_with_key(int count, int key) {
  (void)count, (void)key;
  rl_read_key();
  return 0;
}

void vi_settle(void) {
  if (!block_in_commands()) return;
  if (rl_point > block_line_begin(rl_point) && rl_point == block_line_end(rl_point)) rl_point = block_before(rl_point);
}

void vi_begin(void) {
  if (inserting) rl_end_undo_group();
  inserting = false;
  keeping = false;
  bytes_keep(NULL);
}

void vi_open(void) {
  for (const char *c = motion_keys; *c; c++) rl_bind_key_in_map((unsigned char)*c, move, vi_movement_keymap);
  rl_bind_key_in_map('j', keys_down, vi_movement_keymap);
  rl_bind_key_in_map('k', keys_up, vi_movement_keymap);
  for (const char *c = "+-"; *c; c++) rl_bind_key_in_map(*c, to_text_of_line, vi_movement_keymap);
  for (const char *c = "xXsSDCpPiaIAoOJ~rRdc<>"; *c; c++) rl_bind_key_in_map(*c, change_text, vi_movement_keymap);
  rl_bind_key_in_map('y', copy, vi_movement_keymap);
  rl_bind_key_in_map('Y', copy, vi_movement_keymap);
  rl_bind_key_in_map('.', again, vi_movement_keymap);
  rl_bind_key_in_map('u', undo, vi_movement_keymap);
  rl_bind_key_in_map('/', search_back, vi_movement_keymap);
  rl_bind_key_in_map('?', search_forward, vi_movement_keymap);
  rl_bind_key_in_map('R' & 31, search_back, vi_movement_keymap);
  rl_bind_key_in_map('\r', enter, vi_movement_keymap);
  rl_bind_key_in_map('\n', enter, vi_movement_keymap);
  rl_bind_key_in_map('n', search_again_back, vi_movement_keymap);
  rl_bind_key_in_map('N', search_again_forward, vi_movement_keymap);
  rl_bind_key_in_map('#', keys_comment, vi_movement_keymap);
  for (const char *c = "=*\\&v\t"; *c; c++) rl_bind_key_in_map(*c, nothing, vi_movement_keymap);
  for (const char *c = "\"m'`@qZz"; *c; c++) rl_bind_key_in_map(*c, nothing_with_key, vi_movement_keymap);
  rl_bind_key_in_map('D' & 31, nothing, vi_movement_keymap);
  rl_bind_key_in_map('D' & 31, nothing, vi_insertion_keymap);
  rl_bind_key_in_map('\033', escape, vi_insertion_keymap);
}
