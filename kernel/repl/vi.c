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
#include "keys.h"
#include "search.h"
#include "text.h"

// What was deleted or copied last; whole lines stand without their last line end.
static struct {
  Text text;
  bool lines;
} kept;

static bool inserting;  // text is typed, as one step to undo
static char *change;    // the keys of the last change
static bool keeping;    // its keys are being kept
static int find_key, find_char;

// ---- motions ----

typedef struct Motion {
  int to;
  bool inclusive, lines, fails;
} Motion;

typedef enum Class { BLANK, WORD, OTHER, EMPTY_LINE } Class;

static Class class_at(int at, bool big) {
  unsigned char c = (unsigned char)rl_line_buffer[at];
  if (c == '\n' && (at == 0 || rl_line_buffer[at - 1] == '\n')) return EMPTY_LINE;
  if (c == ' ' || c == '\t' || c == '\n') return BLANK;
  return big || isalnum(c) || c == '_' || c >= 0x80 ? WORD : OTHER;
}

static int next_word(int at, bool big) {
  Class before = at < rl_end ? class_at(at, big) : BLANK;
  while (at < rl_end && before != BLANK && class_at(at, big) == before) {
    at = block_next(at);
    if (before == EMPTY_LINE) break;
  }
  while (at < rl_end && class_at(at, big) == BLANK) at++;
  return at;
}

static int word_end(int at, bool big) {
  at = block_next(at);
  while (at < rl_end && (class_at(at, big) == BLANK || class_at(at, big) == EMPTY_LINE)) at++;
  if (at >= rl_end) return rl_end > 0 ? block_before(rl_end) : 0;
  Class c = class_at(at, big);
  for (int next; (next = block_next(at)) < rl_end && class_at(next, big) == c;) at = next;
  return at;
}

static int word_before(int at, bool big) {
  while (at > 0 && class_at(block_before(at), big) == BLANK) at = block_before(at);
  if (at == 0) return 0;
  Class c = class_at(block_before(at), big);
  while (at > 0 && class_at(block_before(at), big) == c) {
    at = block_before(at);
    if (c == EMPTY_LINE) break;
  }
  return at;
}

// f, t, F, T: to a character of the line.
static Motion to_character(int key, int wanted, int count, bool again) {
  int begin = block_line_begin(rl_point), end = block_line_end(rl_point), at = rl_point;
  bool back = key == 'F' || key == 'T', before = key == 't' || key == 'T';
  if (again && before) at = back ? block_before(at) : block_next(at);
  for (; count > 0; count--) {
    do {
      if (back ? at <= begin : at >= end) return (Motion){.fails = true};
      at = back ? block_before(at) : block_next(at);
      if (at == end) return (Motion){.fails = true};
    } while ((unsigned char)rl_line_buffer[at] != wanted);
  }
  if (before) at = back ? block_next(at) : block_before(at);
  return (Motion){.to = at, .inclusive = !back};
}

static Motion repeat_find(int key, int count) {
  static const char keys[] = "fFtTf";
  const char *k = find_key ? strchr(keys, find_key) : NULL;
  if (!k) return (Motion){.fails = true};
  int again = key == ';' ? find_key : islower(find_key) ? toupper(find_key) : tolower(find_key);
  return to_character(again, find_char, count, true);
}

static Motion to_line(int count, int by) {
  int at = rl_point;
  for (; count > 0; count--) {
    int edge = by < 0 ? block_line_begin(at) : block_line_end(at);
    if (by < 0 ? edge == 0 : edge == rl_end) return (Motion){.fails = true};
    at = by < 0 ? edge - 1 : edge + 1;
  }
  return (Motion){.to = at, .lines = true};
}

static int line_number(int number) {
  int at = 0;
  for (; number > 1 && block_line_end(at) < rl_end; number--) at = block_line_end(at) + 1;
  return at;
}

static Motion to_bracket(void) {
  int before = rl_point, end = block_line_end(rl_point);
  while (rl_point < end && !strchr("()[]{}", rl_line_buffer[rl_point])) rl_point++;
  int from = rl_point;
  if (from < end) rl_vi_match(1, '%');
  Motion m = {.to = rl_point, .inclusive = true, .fails = from == end || rl_point == from};
  rl_point = before;
  return m;
}

// Where a key moves from the cursor; `explicit` when a count was typed.
static Motion motion_of(int key, int count, bool explicit) {
  Motion m = {.to = rl_point};
  bool big = key == 'W' || key == 'B' || key == 'E';
  int begin = block_line_begin(rl_point), end = block_line_end(rl_point);
  switch (key) {
    case 'h':
    case 127:
    case '\b':
      for (; count > 0 && m.to > begin; count--) m.to = block_before(m.to);
      break;
    case 'l':
    case ' ':
      for (; count > 0 && m.to < end; count--) m.to = block_next(m.to);
      break;
    case 'w':
    case 'W':
      for (; count > 0; count--) m.to = next_word(m.to, big);
      break;
    case 'b':
    case 'B':
      for (; count > 0; count--) m.to = word_before(m.to, big);
      break;
    case 'e':
    case 'E':
      for (; count > 0; count--) m.to = word_end(m.to, big);
      m.inclusive = true;
      break;
    case '0':
      m.to = begin;
      break;
    case '^':
      m.to = block_indent_end(rl_point);
      break;
    case '$':
      for (m.to = end; count > 1 && m.to < rl_end; count--) m.to = block_line_end(m.to + 1);
      break;
    case '|':
      m.to = block_at_column(rl_point, count - 1);
      break;
    case 'j':
      return to_line(count, 1);
    case 'k':
      return to_line(count, -1);
    case 'G':
      return (Motion){.to = explicit ? line_number(count) : rl_end, .lines = true};
    case 'g':
      return (Motion){.to = line_number(count), .lines = true, .fails = rl_read_key() != 'g'};
    case '%':
      return to_bracket();
    case 'f':
    case 'F':
    case 't':
    case 'T':
      find_key = key;
      find_char = rl_read_key();
      return to_character(key, find_char, count, false);
    case ';':
    case ',':
      return repeat_find(key, count);
    default:
      m.fails = true;
  }
  return m;
}

// iw, aw and what stands between brackets or quotes, with them or without.
static bool text_object(bool around, int key, int *begin, int *end) {
  static const char pairs[] = "()[]{}\"\"''";
  int at = rl_point;
  if (key == 'b') key = '(';
  if (key == 'B') key = '{';
  if (key == 'w') {
    Class c = at < rl_end ? class_at(at, false) : BLANK;
    int first = block_line_begin(at), last = block_line_end(at);
    for (*begin = at; *begin > first && class_at(block_before(*begin), false) == c;) *begin = block_before(*begin);
    for (*end = at; *end < last && class_at(*end, false) == c;) *end = block_next(*end);
    while (around && *end < last && class_at(*end, false) == BLANK) (*end)++;
    return *end > *begin;
  }
  const char *pair = key > 0 && key < 128 ? strchr(pairs, key) : NULL;
  if (!pair) return false;
  char open = pairs[(pair - pairs) / 2 * 2], close = pairs[(pair - pairs) / 2 * 2 + 1];
  int first = open == close ? block_line_begin(at) : 0, last = open == close ? block_line_end(at) : rl_end, depth = 0;
  if (at > first && rl_line_buffer[at] == close && open != close) at--;
  for (*begin = at; *begin >= first; (*begin)--) {
    if (rl_line_buffer[*begin] == close && open != close) depth++;
    if (rl_line_buffer[*begin] == open && depth-- == 0) break;
  }
  if (*begin < first) return false;
  depth = 0;
  for (*end = *begin + 1; *end < last; (*end)++) {
    if (rl_line_buffer[*end] == open && open != close) depth++;
    if (rl_line_buffer[*end] == close && depth-- == 0) break;
  }
  if (*end >= last) return false;
  if (around)
    (*end)++;
  else
    (*begin)++;
  return true;
}

// ---- changing ----

static void keep(int begin, int end, bool lines) {
  kept.text.length = 0;
  text_add(&kept.text, rl_line_buffer + begin, (size_t)(end - begin));
  kept.lines = lines;
}

static void insert(void) {
  if (!inserting) rl_begin_undo_group();
  inserting = true;
  block_leave_commands();
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
static void operate(int operator, int begin, int end, bool lines) {
  if (operator== '<' || operator== '>') {
    shift_lines(begin, end, operator== '>');
    return;
  }
  keep(begin, end, lines);
  if (operator== 'y') {
    rl_point = lines && begin < rl_point ? rl_point : begin;
  } else if (operator== 'c') {
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

// Reads the motion of an operator and does it.
static void operate_on_motion(int operator, int count) {
  int key = rl_read_key(), second = 0;
  while (isdigit(key) && (key != '0' || second > 0)) {
    second = second * 10 + key - '0';
    key = rl_read_key();
  }
  bool explicit = rl_explicit_arg || second > 0;
  if (second > 0) count *= second;
  int begin = rl_point, end = rl_point;
  if (key == operator) {
    for (; count > 1 && block_line_end(end) < rl_end; count--) end = block_line_end(end) + 1;
    operate(operator, block_line_begin(begin), block_line_end(end), true);
    return;
  }
  if (key == 'i' || key == 'a') {
    if (text_object(key == 'a', rl_read_key(), &begin, &end)) operate(operator, begin, end, false);
    return;
  }
  bool on_word = rl_point < rl_end && !isspace((unsigned char)rl_line_buffer[rl_point]);
  if (operator== 'c' && on_word &&(key == 'w' || key == 'W')) {  // as vi does: without the blanks behind
    key = key == 'w' ? 'e' : 'E';
    bool big = key == 'E';
    int next = block_next(rl_point);
    if (next >= rl_end || class_at(next, big) != class_at(rl_point, big)) count--;  // the word is one character long
    if (count == 0) {
      operate(operator, rl_point, next, false);
      return;
    }
  }
  Motion m = motion_of(key, count, explicit);
  if (m.fails) return;
  begin = m.to < rl_point ? m.to : rl_point;
  end = m.to < rl_point ? rl_point : m.to;
  if (m.lines) {
    operate(operator, block_line_begin(begin), block_line_end(end), true);
    return;
  }
  if (m.inclusive) end = block_next(end);
  // A word that ends a line does not take the line end along.
  if ((key == 'w' || key == 'W') && block_line_end(begin) < end && operator!= 'y') end = block_line_end(begin);
  if (end > begin) operate(operator, begin, end, false);
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

static void open_line(bool above) {
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
}

static void join_lines(void) {
  int end = block_line_end(rl_point);
  if (end == rl_end) return;
  block_replace(end, block_indent_end(end + 1), " ");
  rl_point = end;
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

// r: other characters in the place of as many.
static void replace_characters(int count) {
  char text[8];
  int key = rl_read_key(), end = rl_point, length = 0;
  if (key < 0 || key == '\033') return;
  text[length++] = (char)(key == '\r' ? '\n' : key);
  for (int more = key >= 0xF0 ? 3 : key >= 0xE0 ? 2 : key >= 0xC0 ? 1 : 0; more > 0; more--)
    text[length++] = (char)rl_read_key();
  text[length] = '\0';
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

// ---- commands ----

static int move(int count, int key) {
  Motion m = motion_of(key, count, rl_explicit_arg);
  if (!m.fails) rl_point = m.lines ? block_indent_end(m.to) : m.to;
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
      insert();
      break;
    case 'a':
      if (rl_point < end) rl_point = block_next(rl_point);
      insert();
      break;
    case 'I':
      rl_point = block_indent_end(rl_point);
      insert();
      break;
    case 'A':
      rl_point = end;
      insert();
      break;
    case 'o':
    case 'O':
      open_line(key == 'O');
      break;
    case 'J':
      join_lines();
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

static void end_change(void) {
  const char *keys = keeping ? bytes_kept() : NULL;
  if (keys) {
    free(change);
    change = strdup(keys);
  }
  keeping = false;
  bytes_keep(NULL);
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

static int again(int count, int key) {
  (void)count, (void)key;
  if (change) rl_push_macro_input(strdup(change));
  return 0;
}

static int undo(int count, int key) {
  return rl_undo_command(count, key);
}

// Esc after text.
static int escape(int count, int key) {
  (void)count, (void)key;
  if (inserting) rl_end_undo_group();
  inserting = false;
  if (rl_point > block_line_begin(rl_point)) rl_point = block_before(rl_point);
  block_enter_commands();
  end_change();
  return 0;
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
  for (const char *c = "hlwWbBeE0^$|G%fFtT;,g \b\177"; *c; c++)
    rl_bind_key_in_map((unsigned char)*c, move, vi_movement_keymap);
  for (const char *c = "j+"; *c; c++) rl_bind_key_in_map(*c, keys_down, vi_movement_keymap);
  for (const char *c = "k-"; *c; c++) rl_bind_key_in_map(*c, keys_up, vi_movement_keymap);
  for (const char *c = "xXsSDCpPiaIAoOJ~rdc<>"; *c; c++) rl_bind_key_in_map(*c, change_text, vi_movement_keymap);
  rl_bind_key_in_map('y', copy, vi_movement_keymap);
  rl_bind_key_in_map('Y', copy, vi_movement_keymap);
  rl_bind_key_in_map('.', again, vi_movement_keymap);
  rl_bind_key_in_map('u', undo, vi_movement_keymap);
  rl_bind_key_in_map('/', search_back, vi_movement_keymap);
  rl_bind_key_in_map('?', search_forward, vi_movement_keymap);
  rl_bind_key_in_map('R' & 31, search_back, vi_movement_keymap);
  rl_bind_key_in_map('\r', enter, vi_movement_keymap);
  rl_bind_key_in_map('\n', enter, vi_movement_keymap);
  for (const char *c = "=*\\_&@qvmRnN\t"; *c; c++) rl_bind_key_in_map(*c, nothing, vi_movement_keymap);
  rl_bind_key_in_map('D' & 31, nothing, vi_movement_keymap);
  rl_bind_key_in_map('D' & 31, nothing, vi_insertion_keymap);
  rl_bind_key_in_map('\033', escape, vi_insertion_keymap);
}
