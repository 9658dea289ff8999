// SPDX-License-Identifier: MIT
// The block is drawn by us, because readline's own redisplay knows neither colours in the text nor a prompt for
// continued lines, nor blocks that are taller than the screen.
//
//   top ─→ ↑ first visible row       what stands above and below is not looked at
//           |  ...
//           |  cursor                the part moves as little as the cursor lets it
//          ↓ last visible row
//            menu, call or search    as many rows as these need are taken from the block
#include "drawing.h"

#include <poll.h>
#include <readline/readline.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block.h"
#include "bytes.h"
#include "canvas.h"
#include "hints.h"
#include "menu.h"
#include "screen.h"
#include "unicode.h"

static Lines lines;
static char continued[128] = "";
static bool finishing;  // the input is done: nothing but it is drawn
static bool finished;
static bool behind;  // something was typed that is not drawn yet
static bool marks_brackets = true;
static const DrawingSearch *search;
static int width, drawn_width, height;

// The first row that is shown.
static struct { int line, row; } top;

const Lines *drawing_lines(void) {
  return lines_update(&lines, rl_line_buffer, (size_t)rl_end) ? &lines : NULL;
}

size_t drawing_unchanged(void) {
  size_t unchanged = lines.unchanged;
  lines.unchanged = (size_t)-1;
  return unchanged;
}

int drawing_height(void) {
  return height > 1 ? height : 1;
}

void drawing_mark_brackets(bool mark) {
  marks_brackets = mark;
}

void drawing_search(const DrawingSearch *s) {
  search = s;
}

// ---- prompts ----

// Calls see for each character of a prompt, with the style that sequences in it ask for; '\n' is one of them.
static void each_of_prompt(const char *prompt, int style, void (*see)(const char *text, size_t length, int style)) {
  char code[48] = "";
  size_t length = strlen(prompt);
  for (size_t i = 0; i < length;) {
    int columns;
    size_t n = canvas_measure(prompt + i, length - i, 0, &columns);
    if (prompt[i] == RL_PROMPT_START_IGNORE || prompt[i] == RL_PROMPT_END_IGNORE) {
      i += n;
      continue;
    }
    size_t sgr = prompt[i] == '\033' && prompt[i + 1] == '[' ? 2 + strspn(prompt + i + 2, "0123456789;:") : 0;
    if (sgr && prompt[i + sgr] == 'm') {
      bool plain = sgr == 2 || (sgr == 3 && prompt[i + 2] == '0');
      size_t used = plain ? 0 : strlen(code);
      snprintf(code + used, sizeof code - used, "%.*s", plain ? 0 : (int)sgr + 1, prompt + i);
      style = canvas_style(code, strlen(code));
      i += sgr + 1;
      continue;
    }
    see(prompt + i, n, style);
    i += n;
  }
}

static void paint_prompt_character(const char *text, size_t length, int style) {
  int columns;
  canvas_measure(text, length, 0, &columns);
  if (*text == '\n')
    canvas_next_row();
  else
    canvas_put(text, length, columns, style);
}

static void print_prompt_character(const char *text, size_t length, int style) {
  int columns;
  canvas_measure(text, length, 0, &columns);
  if (*text == '\n')
    canvas_print_line_end();
  else
    canvas_print(text, length, columns, style);
}

// Where the next character goes.
typedef struct Place {
  int row, column;
} Place;

static void step_by(Place *p, int columns) {
  if (p->column + columns > width) p->row++, p->column = 0;
  p->column += columns;
  if (p->column >= width) p->row++, p->column = 0;
}

static Place measured;

static void measure_prompt_character(const char *text, size_t length, int style) {
  int columns;
  (void)style;
  canvas_measure(text, length, 0, &columns);
  if (*text == '\n')
    measured.row++, measured.column = 0;
  else
    step_by(&measured, columns);
}

static const char *prompt_of(int line) {
  static char changed[256];
  if (line > 0) return continued;
  const char *prompt = rl_display_prompt ? rl_display_prompt : "";
  const char *mode = block_mode_mark(), *mark;
  if (!*mode) return prompt;
  if (*mode == ':' && (mark = strrchr(prompt, '>')))  // commands are typed, not text
    snprintf(changed, sizeof changed, "%.*s:%s", (int)(mark - prompt), prompt, mark + 1);
  else
    snprintf(changed, sizeof changed, "%s%s", mode, prompt);
  return changed;
}

static int prompt_style(int line) {
  return line == 0 && hints_are_for_input() ? STYLE_PROMPT : STYLE_PLAIN;
}

static Place after_prompt(int line) {
  measured = (Place){0};
  each_of_prompt(prompt_of(line), STYLE_PLAIN, measure_prompt_character);
  return measured;
}

// ---- rows ----

// The column that tabs count from the text's beginning.
static int tab_column(int column, int prompt) {
  return column - prompt + (1 << 16);
}

static bool is_plain(const char *text, size_t length) {
  bool plain = true;
  for (size_t i = 0; i < length; i++) plain &= text[i] >= ' ' && text[i] < 127;
  return plain;
}

// Walks the characters of a line until byte `to`, or until the row `row` (-1: none) begins; *at gets how far it came.
static Place walk(int line, size_t to, int row, size_t *at) {
  enum { STRIDE = 256 };
  Place p = after_prompt(line);
  int prompt = p.column;
  size_t i = lines.items[line].begin;
  while (i < to && (row < 0 || p.row < row)) {
    if (to - i >= STRIDE && is_plain(lines.text + i, STRIDE) && (row < 0 || p.row + STRIDE / width + 1 < row)) {
      p.row += (p.column + STRIDE) / width;
      p.column = (p.column + STRIDE) % width;
      i += STRIDE;
      continue;
    }
    int columns;
    i += canvas_measure(lines.text + i, to - i, tab_column(p.column, prompt), &columns);
    step_by(&p, columns);
  }
  *at = i;
  return p;
}

static int rows_of(int line) {
  size_t at;
  return walk(line, lines_end(&lines, line), -1, &at).row + 1;
}

// Moves the first row that is shown so far that the cursor is in the `room` rows from there on, and no further up than
// there is text below.
static void follow_cursor(int line, int row, int room) {
  if (top.line >= lines.count || line < top.line || (line == top.line && row < top.row)) top.line = line, top.row = row;
  int rows = row - top.row;  // from the first row to the cursor
  for (int i = line; i > top.line && rows < room; i--) rows += rows_of(i - 1);
  int below = rows_of(line) - 1 - row;
  for (int i = line + 1; i < lines.count && rows + below < room; i++) below += rows_of(i);
  int up = rows + below + 1 < room ? room - rows - below - 1 : 0;  // rows that are left free below the text
  if (rows < room && up == 0) return;
  if (rows >= room) {
    top.line = line;
    top.row = row;
    up = room - 1;
  }
  while (up > 0 && (top.row > 0 || top.line > 0)) {
    int step = up < top.row ? up : top.row;
    top.row -= step;
    up -= step;
    if (up > 0 && top.line > 0) {
      top.row = rows_of(--top.line) - 1;
      up--;
    }
  }
}

// ---- colours ----

// The stretches of colour of a line, one after the other.
typedef struct Colors {
  size_t begin, end;
  SessionColor color;
  bool more;
} Colors;

static Colors colors_of(int line) {
  const Line *l = &lines.items[line];
  bool more = canvas_is_colored() && lines_end(&lines, line) - l->begin <= LINES_COLORED;
  if (l->span_end > l->span_begin) return (Colors){l->span_begin, l->span_end, l->color, more};
  return (Colors){l->begin, l->begin, SESSION_PLAIN, more};
}

static int color_at(Colors *c, size_t at) {
  while (c->more && at >= c->end)
    c->more = session_color(lines.text, lines.length, c->end, &c->begin, &c->end, &c->color);
  return at >= c->begin && at < c->end ? (int)c->color : STYLE_PLAIN;
}

_Static_assert((int)SESSION_KEYWORD == STYLE_KEYWORD && (int)SESSION_COMMAND == STYLE_COMMAND, "one order of colours");

// The bracket at or before the cursor and its partner, among what is shown; false when there is no pair.
static bool find_brackets(int last, size_t *one, size_t *other) {
  enum { DEEP = 256 };
  static const char open[] = "([{", close[] = ")]}";
  size_t stack[DEEP], point = (size_t)rl_point;
  int depth = 0;
  if (!canvas_is_colored() || !marks_brackets || finishing) return false;
  bool here = point < lines.length && memchr("()[]{}", lines.text[point], 6);
  bool before = !here && point > 0 && memchr("()[]{}", lines.text[point - 1], 6);
  if (!here && !before) return false;
  if (before) point--;
  for (int line = top.line; line <= last; line++) {
    size_t end = lines_end(&lines, line);
    Colors c = colors_of(line);
    for (size_t at = lines.items[line].begin; at < end && c.more; at = c.end) {
      if (at < c.end) continue;
      c.more = session_color(lines.text, lines.length, c.end, &c.begin, &c.end, &c.color);
      if (!c.more || c.begin >= end) break;
      const char *opens = c.color == SESSION_PLAIN && c.end == c.begin + 1 ? strchr(open, lines.text[c.begin]) : NULL;
      const char *closes = c.color == SESSION_PLAIN && c.end == c.begin + 1 ? strchr(close, lines.text[c.begin]) : NULL;
      if (opens && depth < DEEP) stack[depth++] = c.begin;
      if (!closes || depth == 0) continue;
      *one = stack[--depth];
      *other = c.begin;
      bool fits = lines.text[*one] == open[closes - close];
      if (*one == point || *other == point) return fits;
    }
  }
  return false;
}

// ---- painting ----

// In the place of a prompt: that more is above or below.  Above, the prompt is out of sight, and what it says of vi's
// mode is said here.
static void paint_mark(int line, const char *mark, const char *ascii) {
  Place p = after_prompt(line);
  for (int i = 0; i + 2 < p.column; i++) canvas_put(" ", 1, 1, STYLE_NOTE);
  if (p.column >= 2) canvas_put(canvas_is_utf8() ? mark : ascii, canvas_is_utf8() ? strlen(mark) : 1, 1, STYLE_NOTE);
  bool commands = line == top.line && block_in_commands();
  if (p.column >= 1) canvas_put(commands ? ":" : " ", 1, 1, commands ? STYLE_NOTE : STYLE_PLAIN);
}

// What is suggested behind the cursor, as far as there is room; lines of it have prompts.
static void paint_suggestion(const char *text, size_t length, bool in_block) {
  int prompt = after_prompt(rl_point == 0 ? 0 : 1).column;
  for (size_t i = 0; i < length;) {
    int columns;
    if (text[i] == '\n') {
      if (in_block) return;
      canvas_next_row();
      each_of_prompt(continued, STYLE_SUGGESTION, paint_prompt_character);
      i++;
      continue;
    }
    size_t n = canvas_measure(text + i, length - i, tab_column(canvas_column(), prompt), &columns);
    if (canvas_column() + columns >= width && in_block) return;
    if (!canvas_put(text + i, n, columns, STYLE_SUGGESTION)) return;
    i += n;
  }
}

// Paints a line from byte `at` on; false when the room is full.
static bool paint_line(int line, size_t at, const size_t brackets[2], const Suggestion *s) {
  size_t end = lines_end(&lines, line);
  Colors colors = colors_of(line);
  int prompt = after_prompt(line).column;
  while (at <= end) {
    if (at == (size_t)rl_point) {
      canvas_put_cursor();
      if (s->text) paint_suggestion(s->text, s->length, (size_t)rl_point < lines.length);
    }
    if (at == end) return true;
    int columns, style = color_at(&colors, at);
    if (at == brackets[0] || at == brackets[1]) style = STYLE_BRACKET;
    if (search && at >= (size_t)search->begin && at < (size_t)search->end) style = STYLE_FOUND;
    size_t n = canvas_measure(lines.text + at, end - at, tab_column(canvas_column(), prompt), &columns);
    if (!canvas_put(lines.text + at, n, columns, style)) return false;
    at += n;
  }
  return true;
}

static void paint_search(void) {
  int used = canvas_put_cut(search->label, strlen(search->label), width - 1, STYLE_NOTE);
  canvas_put_cut(search->text, strlen(search->text), width - 1 - used, STYLE_PLAIN);
}

// The rows of the block that fit into `room`.
static void paint_block(int cursor_line, int cursor_row, int room, const Suggestion *s) {
  size_t brackets[2] = {(size_t)-1, (size_t)-1};
  follow_cursor(cursor_line, cursor_row, room);
  int last = top.line + room < lines.count ? top.line + room : lines.count - 1;
  if (!find_brackets(last, &brackets[0], &brackets[1])) brackets[0] = brackets[1] = (size_t)-1;
  int prompt_rows = after_prompt(top.line).row;
  bool begun = top.row > prompt_rows;
  canvas_start(width, begun ? 0 : top.row, room);
  for (int line = top.line; line <= last; line++) {
    size_t at = lines.items[line].begin;
    if (line == top.line && begun) {
      walk(line, lines_end(&lines, line), top.row, &at);
    } else if (line == top.line && line > 0) {
      paint_mark(line, "↑", "^");
    } else {
      if (line > top.line) canvas_next_row();
      bool cut = canvas_rows() - top.row >= room && line + 1 < lines.count;
      if (cut)
        paint_mark(line, "↓", "v");
      else
        each_of_prompt(prompt_of(line), prompt_style(line), paint_prompt_character);
    }
    if (!paint_line(line, at, brackets, s) || canvas_rows() - (begun ? 0 : top.row) > room) break;
  }
}

static void measure_screen(void) {
  ScreenSize size = screen_size();
  width = size.columns;
  height = size.rows;
}

void drawing_redraw(void) {
  behind = false;
  menu_key();
  if (!drawing_lines()) return;
  measure_screen();
  size_t at;
  int line = lines_find(&lines, (size_t)rl_point);
  Place cursor = walk(line, (size_t)rl_point, -1, &at);
  Suggestion suggestion = {0};
  const char *call = NULL;
  if (!finishing && !search) {
    if (!menu_is_open()) suggestion = hints_suggestion(&lines);
    call = hints_call(&lines);
  }
  int rows = 0;
  for (int i = 0; menu_is_open() && i < lines.count && rows < height; i++) rows += rows_of(i);
  int menu = finishing || !menu_is_open() ? 0 : menu_height(width, height, rows);
  if (menu > 0 && rows + menu >= height) call = NULL;  // there is room for one of them
  int foot = finishing ? 0 : menu + (search || call);
  if (foot >= height) foot = height - 1;
  paint_block(line, cursor.row, height - foot, &suggestion);
  if (foot > 0) {
    canvas_more(height);
    if (search)
      canvas_next_row(), paint_search();
    else if (call)
      canvas_next_row(), hints_paint_call(width);
    if (menu > 0) menu_paint(width, foot - (call != NULL));
  }
  canvas_show();
  drawn_width = width;
}

void drawing_key(void) {
  behind = bytes_waiting() > 0;
  if (!behind) drawing_redraw();
}

void drawing_catch_up(void) {
  if (behind) drawing_redraw();
}

void drawing_resized(void) {
  measure_screen();
  if (width != drawn_width) canvas_rewrap(width);
  drawing_redraw();
}

void drawing_begin(const char *prompt) {
  canvas_begin();
  if (!prompt) return;
  snprintf(continued, sizeof continued, "%s", prompt);
  top.line = top.row = 0;
  finished = false;
}

bool drawing_is_finished(void) {
  return finished;
}

// ---- the last time ----

enum { WHOLE = 1000, ENDS = 10 };  // lines that are printed all, and at each end of more of them

static void print_line(int line) {
  size_t at = lines.items[line].begin, end = lines_end(&lines, line);
  Colors colors = colors_of(line);
  int column = 0;
  each_of_prompt(prompt_of(line), prompt_style(line), print_prompt_character);
  while (at < end) {
    int columns, style = color_at(&colors, at);
    size_t n = canvas_measure(lines.text + at, end - at, column, &columns);
    canvas_print(lines.text + at, n, columns, style);
    column += columns;
    at += n;
  }
}

static void print_text(const char *text) {
  for (; *text; text++) canvas_print(text, 1, 1, STYLE_NOTE);
}

// Prints the whole block, or both ends of a long one.
static void print_block(void) {
  canvas_print_begin();
  for (int line = 0; line < lines.count; line++) {
    if (lines.count > WHOLE && line == ENDS) {
      char text[64];
      line = lines.count - ENDS;
      snprintf(text, sizeof text, "... %d lines ...", lines.count - 2 * ENDS);
      print_text(text);
      canvas_print_line_end();
    }
    print_line(line);
    if (line + 1 < lines.count) canvas_print_line_end();
  }
  canvas_print_end();
}

void drawing_finish(const char *end) {
  bool whole = true;
  rl_point = rl_end;
  search = NULL;
  finishing = true;
  measure_screen();
  int rows = 0;
  if (drawing_lines()) {
    for (int i = 0; i < lines.count && rows < height && whole; i++) {
      int more = rows_of(i);
      whole = more == 1;
      rows += more;
    }
  }
  menu_key();
  // Rows that the terminal wraps itself are one line to it when it gets wider, and when they are copied.
  if (whole && rows < height)
    drawing_redraw();
  else
    print_block();
  finishing = false;
  finished = true;
  fputs(end, stdout);
  fputs("\r\n", stdout);
  fflush(stdout);
}
