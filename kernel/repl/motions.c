// SPDX-License-Identifier: MIT
// Vim is the model, also where vi has nothing: what a motion passes, and whether an operator takes the last character.
#include "motions.h"

#include <ctype.h>
#include <readline/readline.h>
#include <stdio.h>
#include <string.h>

#include "block.h"

const char motion_keys[] = "hlwWbBeE0^$|G%fFtT;,g{}_ \b\177";

static int find_key, find_char;

static bool is_empty_line(int at) {
  return block_line_begin(at) == at && block_line_end(at) == at;
}

// ---- words ----

typedef enum Class { BLANK, WORD, OTHER, EMPTY_LINE } Class;

static Class class_at(int at, bool big) {
  unsigned char c = (unsigned char)(at < rl_end ? rl_line_buffer[at] : '\n');
  if (c == '\n') return is_empty_line(at) ? EMPTY_LINE : BLANK;
  if (c == ' ' || c == '\t') return BLANK;
  return big || isalnum(c) || c == '_' || c >= 0x80 ? WORD : OTHER;
}

// Behind what is of one class in the line, from `at` on.
static int class_end(int at, bool big) {
  Class c = class_at(at, big);
  int end = block_line_end(at);
  while (at < end && class_at(at, big) == c) at = block_next(at);
  return at;
}

static int class_begin(int at, bool big) {
  Class c = class_at(at, big);
  int begin = block_line_begin(at);
  while (at > begin && class_at(block_before(at), big) == c) at = block_before(at);
  return at;
}

// `last`: an operator works as far as this, and the line end behind a word is not for it.
static int next_word(int at, bool big, bool last) {
  Class before = class_at(at, big);
  if (before == EMPTY_LINE) {
    at = block_next(at);
    if (last) return at;
  } else if (before != BLANK) {
    at = class_end(at, big);
    if (last && at == block_line_end(at)) return at;
  }
  while (at < rl_end && class_at(at, big) == BLANK) at++;
  return at;
}

static int word_end(int at, bool big) {
  at = block_next(at);
  while (at < rl_end && (class_at(at, big) == BLANK || class_at(at, big) == EMPTY_LINE)) at++;
  if (at >= rl_end) return rl_end > 0 ? block_before(rl_end) : 0;
  return block_before(class_end(at, big));
}

static int word_before(int at, bool big) {
  while (at > 0 && class_at(block_before(at), big) == BLANK) at = block_before(at);
  if (at == 0) return 0;
  at = block_before(at);
  return class_at(at, big) == EMPTY_LINE ? at : class_begin(at, big);
}

static int word_end_before(int at, bool big) {
  Class c = class_at(at, big);
  if (c == WORD || c == OTHER) at = class_begin(at, big);
  if (at > 0) at = block_before(at);
  while (at > 0 && class_at(at, big) == BLANK) at = block_before(at);
  return at;
}

bool motion_at_word_end(bool big) {
  return block_next(rl_point) >= class_end(rl_point, big);
}

// ---- motions ----

// f, t, F, T: to a character of the line.
static Motion to_character(int key, int wanted, int count, bool again) {
  int begin = block_line_begin(rl_point), end = block_line_end(rl_point), at = rl_point;
  bool back = key == 'F' || key == 'T', before = key == 't' || key == 'T';
  if (again && before && count == 1) at = back ? block_before(at) : block_next(at);
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

// As many lines on or back as there are, in the same column or at the first character that is no blank.
static Motion to_line(int count, int by, bool same_column) {
  int at = rl_point;
  for (; count > 0; count--) {
    int edge = by < 0 ? block_line_begin(at) : block_line_end(at);
    if (by < 0 ? edge == 0 : edge == rl_end) break;
    at = by < 0 ? edge - 1 : edge + 1;
  }
  bool moved = block_line_begin(at) != block_line_begin(rl_point);
  at = same_column ? block_at_column(at, block_column(rl_point)) : block_indent_end(at);
  return (Motion){.to = at, .lines = true, .fails = !moved};
}

static int line_number(int number) {
  int at = 0;
  for (; number > 1 && block_line_end(at) < rl_end; number--) at = block_line_end(at) + 1;
  return block_indent_end(at);
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

// The empty line before or behind the paragraph; the block's edge when there is none.
static Motion to_paragraph(int count, bool back) {
  int at = rl_point;
  for (; count > 0; count--) {
    if (back ? at == 0 : at >= rl_end) return (Motion){.fails = true};
    bool text = false;  // lines with something in them have been passed
    while (back ? at > 0 : at < rl_end) {
      if (text && is_empty_line(at)) break;
      text = text || !is_empty_line(at);
      if (back)
        at = block_line_begin(at) > 0 ? block_line_begin(block_line_begin(at) - 1) : 0;
      else
        at = block_line_end(at) < rl_end ? block_line_end(at) + 1 : rl_end;
    }
  }
  return (Motion){.to = at, .fails = at == rl_point};
}

// g with a second key.
static Motion to_second(int count) {
  int key = rl_read_key();
  Motion m = {.to = rl_point};
  if (key == 'g') {
    m = (Motion){.to = line_number(count), .lines = true};
  } else if (key == 'e' || key == 'E') {
    for (; count > 0; count--) m.to = word_end_before(m.to, key == 'E');
    m.inclusive = true;
  } else if (key == '_') {
    for (m.to = block_line_end(rl_point); count > 1 && m.to < rl_end; count--) m.to = block_line_end(m.to + 1);
    int first = block_line_begin(m.to);
    while (m.to > first && class_at(m.to, true) != WORD) m.to = block_before(m.to);
    m.inclusive = true;
  } else {
    m.fails = true;
  }
  return m;
}

// Those that go from word to word; false for other keys.
static bool by_words(int key, int count, bool operating, Motion *m) {
  bool big = key == 'W' || key == 'B' || key == 'E';
  if (!strchr("wWbBeE", key)) return false;
  for (; count > 0; count--) switch (key) {
      case 'w':
      case 'W':
        m->to = next_word(m->to, big, operating && count == 1);
        break;
      case 'b':
      case 'B':
        m->to = word_before(m->to, big);
        break;
      default:
        m->to = word_end(m->to, big);
    }
  m->inclusive = key == 'e' || key == 'E';
  return true;
}

Motion motion_of(int key, int count, bool explicit, bool operating) {
  Motion m = {.to = rl_point};
  int begin = block_line_begin(rl_point), end = block_line_end(rl_point);
  if (key > 0 && key < 128 && by_words(key, count, operating, &m)) return m;
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
    case '+':
      return to_line(count, 1, key == 'j');
    case 'k':
    case '-':
      return to_line(count, -1, key == 'k');
    case '_':
      m = to_line(count - 1, 1, false);
      m.fails = m.fails && count > 1;
      return m;
    case 'G':
      return (Motion){.to = line_number(explicit ? count : rl_end + 1), .lines = true};
    case 'g':
      return to_second(count);
    case '{':
    case '}':
      return to_paragraph(count, key == '{');
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

// ---- text objects ----

// Words of the line, and the blanks between them: as many as `count` says, with those behind, or else those before.
static bool word_object(bool around, bool big, int count, int *begin, int *end) {
  int last = block_line_end(rl_point);
  *begin = *end = rl_point;
  if (rl_point >= last) return block_line_begin(last) == last && count == 1;
  *begin = *end = class_begin(rl_point, big);
  bool blank = class_at(rl_point, big) == BLANK, without = false;
  for (; count > 0 && *end < last; count--) {
    *end = class_end(*end, big);
    if (!around) continue;
    without = !blank && (*end >= last || class_at(*end, big) != BLANK);
    if (*end < last && !without) *end = class_end(*end, big);
  }
  int first = block_line_begin(rl_point);
  if (without && *begin > first && class_at(block_before(*begin), big) == BLANK) {
    int blanks = class_begin(block_before(*begin), big);
    if (blanks > first) *begin = blanks;
  }
  return count == 0;
}

// The next of these quotes in the line that has no backslash before it; the line's end when there is none.
static int next_quote(int at, int end, char quote) {
  while (at < end && rl_line_buffer[at] != quote) at += rl_line_buffer[at] == '\\' && at + 1 < end ? 2 : 1;
  return at;
}

// The first string that ends at the cursor or behind it.
static bool quote_object(bool around, char quote, int *begin, int *end) {
  int first = block_line_begin(rl_point), last = block_line_end(rl_point), close;
  for (int open = next_quote(first, last, quote);; open = next_quote(close + 1, last, quote)) {
    close = open < last ? next_quote(open + 1, last, quote) : last;
    if (close >= last) return false;
    *begin = open + !around, *end = close + around;
    if (close >= rl_point) break;
  }
  if (!around) return true;
  if (*end < last && class_at(*end, true) == BLANK)
    *end = class_end(*end, true);
  else if (*begin > first && class_at(*begin - 1, true) == BLANK)
    *begin = class_begin(*begin - 1, true);
  return true;
}

// Where the bracket's partner is; -1 when it has none.
static int partner(int at, char open, char close, int by) {
  int depth = 0;
  for (; at >= 0 && at < rl_end; at += by) {
    depth += rl_line_buffer[at] == open ? by : rl_line_buffer[at] == close ? -by : 0;
    if (depth == 0) return at;
  }
  return -1;
}

// What is between brackets; where the cursor is between none, the next ones.
static bool bracket_object(bool around, char open, char close, int count, int *begin, int *end, bool *lines) {
  int at = rl_point, depth = 0, wanted = count;
  if (at < rl_end && rl_line_buffer[at] == close) depth = -1;
  for (;; at--) {
    if (at < 0) break;
    if (at < rl_end && rl_line_buffer[at] == close) depth++;
    if (at < rl_end && rl_line_buffer[at] == open && depth-- == 0 && --count <= 0) break;
    if (depth < 0) depth = 0;
  }
  if (at < 0) {
    const char *next = wanted == 1 ? memchr(rl_line_buffer + rl_point, open, (size_t)(rl_end - rl_point)) : NULL;
    if (!next) return false;
    at = (int)(next - rl_line_buffer);
  }
  *begin = at;
  *end = partner(at, open, close, 1);
  if (*end < 0) return false;
  if (around) {
    (*end)++;
    return true;
  }
  (*begin)++;
  int indent = block_line_begin(*end);
  if (*begin == block_line_end(*begin) && indent > *begin && block_indent_end(indent) == *end) {
    (*begin)++;
    *end = indent - 1;
    *lines = *end >= *begin;
  }
  return true;
}

// Where the last line begins of those from `at` on that are empty, or are not, as that one.
static int last_alike(int at) {
  bool empty = is_empty_line(at);
  for (int next; (next = block_line_end(at) + 1) <= rl_end && is_empty_line(next) == empty;) at = next;
  return at;
}

static int first_alike(int at) {
  bool empty = is_empty_line(at);
  for (int before; at > 0 && is_empty_line(before = block_line_begin(at - 1)) == empty;) at = before;
  return at;
}

// Lines up to the next empty ones, or these; around, with the empty ones behind, or else those before.
static bool paragraph_object(bool around, int count, int *begin, int *end, bool *lines) {
  int from = first_alike(block_line_begin(rl_point)), to = from;
  bool empty = is_empty_line(from);
  for (int i = around ? 2 * count : count; i > 0; i--) {
    to = last_alike(to);
    if (i == 1) break;
    int next = block_line_end(to) + 1;
    if (next > rl_end) {
      if (i > 2 || empty || !around) return false;
      if (from > 0) from = first_alike(block_line_begin(from - 1));
      break;
    }
    to = next;
  }
  *begin = from;
  *end = block_line_end(to);
  *lines = true;
  return true;
}

bool motion_object(bool around, int key, int count, int *begin, int *end, bool *lines) {
  static const char brackets[] = "()[]{}<>";
  *lines = false;
  if (key == 'w' || key == 'W') return word_object(around, key == 'W', count, begin, end);
  if (key == 'p') return paragraph_object(around, count, begin, end, lines);
  if (key == '"' || key == '\'') return quote_object(around, (char)key, begin, end);
  if (key == 'b') key = '(';
  if (key == 'B') key = '{';
  const char *pair = key > 0 && key < 128 ? strchr(brackets, key) : NULL;
  if (!pair) return false;
  int first = (int)(pair - brackets) / 2 * 2;
  return bracket_object(around, brackets[first], brackets[first + 1], count, begin, end, lines);
}
