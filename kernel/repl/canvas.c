// SPDX-License-Identifier: MIT
// Two pictures are held: the one that the terminal shows, and the one that is painted.
#include "canvas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "unicode.h"

enum { TAB = 4, MOST_STYLES = 64, LONGEST_CODE = 48 };

static bool colored, bytes_only;

static char styles[MOST_STYLES][LONGEST_CODE] = {
    [STYLE_KEYWORD] = "\033[35m", [STYLE_NUMBER] = "\033[36m",     [STYLE_STRING] = "\033[32m",
    [STYLE_COMMENT] = "\033[90m", [STYLE_COMMAND] = "\033[33m",    [STYLE_PROMPT] = "\033[1;32m",
    [STYLE_NOTE] = "\033[90m",    [STYLE_SUGGESTION] = "\033[90m", [STYLE_BRACKET] = "\033[1;4m",
    [STYLE_FOUND] = "\033[7m",    [STYLE_CHOSEN] = "\033[7m",
};
static int style_count = STYLE_COUNT;

typedef struct Cell {
  size_t at;  // of its bytes in the pool
  unsigned short bytes;
  unsigned char columns, style;
} Cell;

typedef struct Row {
  int first, count, columns;
} Row;

typedef struct Picture {
  Text pool;
  Cell *cells;
  Row *rows;
  int cell_count, cell_capacity, row_count, row_capacity;
  int cursor_row, cursor_column;
  bool failed;
} Picture;

static Picture shown, painted;
static int width = 80, skip, most;
static int skipped;  // rows of the painted picture so far, and the column of the one that is being skipped
static int skipped_column;
static Text out;

// ---- styles ----

void canvas_open(bool color, bool utf8) {
  colored = color;
  bytes_only = !utf8;
}

bool canvas_is_colored(void) {
  return colored;
}

bool canvas_is_utf8(void) {
  return !bytes_only;
}

// Whether all of it is one or more sequences that set colours and weights.
static bool is_sgr(const char *code, size_t length) {
  size_t i = 0;
  while (i < length) {
    if (length - i < 3 || code[i] != '\033' || code[i + 1] != '[') return false;
    for (i += 2; i < length && ((code[i] >= '0' && code[i] <= '9') || code[i] == ';' || code[i] == ':');) i++;
    if (i == length || code[i] != 'm') return false;
    i++;
  }
  return length < LONGEST_CODE;
}

bool canvas_set_style(int style, const char *code) {
  if (!is_sgr(code, strlen(code))) return false;
  snprintf(styles[style], sizeof styles[style], "%s", code);
  return true;
}

int canvas_style(const char *code, size_t length) {
  if (!colored || !is_sgr(code, length)) return STYLE_PLAIN;
  for (int i = STYLE_COUNT; i < style_count; i++)
    if (strlen(styles[i]) == length && memcmp(styles[i], code, length) == 0) return i;
  if (style_count == MOST_STYLES) return STYLE_PLAIN;
  memcpy(styles[style_count], code, length);
  return style_count++;
}

static const char *code_of(int style) {
  return colored || style == STYLE_CHOSEN || style == STYLE_FOUND ? styles[style] : "";
}

// ---- characters ----

// What is sent for a character; `glyph` holds what has to be made.
static const char *glyph_of(const char *text, size_t length, int columns, char glyph[16], size_t *bytes) {
  if (*text == '\t') {
    memset(glyph, ' ', 16);
    *bytes = (size_t)columns;
    return glyph;
  }
  *bytes = unicode_shown(text, length, bytes_only, glyph);
  return *bytes ? glyph : text;
}

size_t canvas_measure(const char *text, size_t length, int column, int *columns) {
  unsigned char c = (unsigned char)*text;
  *columns = 1;
  if (c >= ' ' && c < 127) return 1;
  char glyph[16];
  if (c == '\t') {
    *columns = TAB - column % TAB;
    return 1;
  }
  size_t taken = bytes_only ? 1 : unicode_character(text, length, columns), made;
  made = unicode_shown(text, taken, bytes_only, glyph);
  if (made) *columns = (int)made;
  return taken;
}

// ---- painting ----

static void add_row(Picture *p) {
  if (p->row_count == p->row_capacity) {
    int capacity = p->row_capacity * 2 + 32;
    Row *bigger = realloc(p->rows, (size_t)capacity * sizeof *bigger);
    if (!bigger) {
      p->failed = true;
      return;
    }
    p->rows = bigger;
    p->row_capacity = capacity;
  }
  p->rows[p->row_count++] = (Row){.first = p->cell_count};
}

void canvas_start(int columns, int skip_rows, int most_rows) {
  width = columns;
  skip = skip_rows;
  most = most_rows;
  skipped = 0;
  skipped_column = 0;
  painted.pool.length = 0;
  painted.cell_count = painted.row_count = 0;
  painted.cursor_row = painted.cursor_column = 0;
  painted.failed = painted.pool.failed = false;
  if (skip == 0) add_row(&painted);
}

int canvas_column(void) {
  return skipped < skip ? skipped_column : painted.row_count > 0 ? painted.rows[painted.row_count - 1].columns : 0;
}

int canvas_rows(void) {
  return skipped + painted.row_count;
}

void canvas_more(int rows) {
  if (painted.row_count > most) painted.row_count = most;
  most = rows;
}

void canvas_next_row(void) {
  if (skipped < skip) {
    skipped_column = 0;
    if (++skipped == skip) add_row(&painted);
  } else {
    add_row(&painted);
  }
}

static bool is_full(void) {
  return painted.failed || painted.row_count > most;
}

static void add_cell(const char *text, size_t length, int columns, int style) {
  Picture *p = &painted;
  Row *row = &p->rows[p->row_count - 1];
  size_t at = p->pool.length;
  text_add(&p->pool, text, length);
  if (columns == 0 && row->count > 0 && p->cells[p->cell_count - 1].bytes + length < 4096) {  // it joins the one before
    p->cells[p->cell_count - 1].bytes = (unsigned short)(p->cells[p->cell_count - 1].bytes + length);
    return;
  }
  if (p->cell_count == p->cell_capacity) {
    int capacity = p->cell_capacity * 2 + 1024;
    Cell *bigger = realloc(p->cells, (size_t)capacity * sizeof *bigger);
    if (!bigger) {
      p->failed = true;
      return;
    }
    p->cells = bigger;
    p->cell_capacity = capacity;
  }
  p->cells[p->cell_count++] = (Cell){at, (unsigned short)length, (unsigned char)columns, (unsigned char)style};
  row->count++;
  row->columns += columns;
}

bool canvas_put(const char *text, size_t length, int columns, int style) {
  char glyph[16];
  size_t bytes;
  if (canvas_column() + columns > width) canvas_next_row();
  if (is_full()) return false;
  if (skipped < skip) {
    skipped_column += columns;
  } else {
    const char *sent = glyph_of(text, length, columns, glyph, &bytes);
    if (sent == glyph && columns > 1)  // of blanks, or of ASCII
      for (int i = 0; i < columns; i++) add_cell(glyph + i, 1, 1, style);
    else
      add_cell(sent, sent == glyph ? bytes : length, columns, style);
  }
  if (canvas_column() >= width) canvas_next_row();
  return !is_full();
}

int canvas_put_cut(const char *text, size_t length, int most_columns, int style) {
  int used = 0;
  for (size_t i = 0; i < length && text[i] != '\n';) {
    int columns;
    size_t n = canvas_measure(text + i, length - i, used, &columns);
    if (used + columns > most_columns) break;
    canvas_put(text + i, n, columns, style);
    used += columns;
    i += n;
  }
  return used;
}

void canvas_put_cursor(void) {
  painted.cursor_row = painted.row_count - 1;
  painted.cursor_column = canvas_column();
}

// ---- showing ----

static void move_by(int rows, int column) {
  char code[32];
  if (rows != 0) {
    snprintf(code, sizeof code, "\033[%d%c", rows < 0 ? -rows : rows, rows < 0 ? 'A' : 'B');
    text_put(&out, code);
  }
  text_put(&out, "\r");
  if (column > 0) {
    snprintf(code, sizeof code, "\033[%dC", column);
    text_put(&out, code);
  }
}

static bool same_cell(const Picture *a, const Cell *x, const Picture *b, const Cell *y) {
  return x->bytes == y->bytes && x->style == y->style && x->columns == y->columns &&
         memcmp(a->pool.data + x->at, b->pool.data + y->at, x->bytes) == 0;
}

// How many cells two rows have in common at their beginning; the columns of those go to *columns.
static int same_cells(int row, int *columns) {
  const Row *a = &shown.rows[row], *b = &painted.rows[row];
  int n = 0;
  *columns = 0;
  while (n < a->count && n < b->count &&
         same_cell(&shown, &shown.cells[a->first + n], &painted, &painted.cells[b->first + n])) {
    *columns += painted.cells[b->first + n].columns;
    n++;
  }
  return n;
}

static void put_style(int *now, int style) {
  if (*now == style) return;
  if (*code_of(*now)) text_put(&out, "\033[0m");
  text_put(&out, code_of(style));
  *now = style;
}

static void send_cells(const Row *row, int from) {
  int style = STYLE_PLAIN;
  for (int i = from; i < row->count; i++) {
    const Cell *c = &painted.cells[row->first + i];
    put_style(&style, c->style);
    text_add(&out, painted.pool.data + c->at, c->bytes);
  }
  put_style(&style, STYLE_PLAIN);
}

static void write_out(void) {
  if (out.data && !out.failed) fwrite(out.data, 1, out.length, stdout);
  fflush(stdout);
  out.length = 0;
  out.failed = false;
}

void canvas_show(void) {
  int at = shown.cursor_row, last = shown.row_count > 0 ? shown.row_count - 1 : 0;
  if (painted.row_count > most) painted.row_count = most;
  if (painted.failed || painted.pool.failed || painted.row_count == 0) return;
  bool moved = false;
  if (shown.row_count == 0) text_put(&out, "\r\033[J");  // what was typed ahead may stand there
  for (int i = 0; i < painted.row_count; i++) {
    const Row *row = &painted.rows[i];
    int same = 0, columns = 0, before = 0;
    if (i < shown.row_count) {
      same = same_cells(i, &columns);
      before = shown.rows[i].columns;
      if (same == row->count && same == shown.rows[i].count) continue;
    }
    if (i > last) {  // a row that the terminal does not have yet
      move_by(last - at, 0);
      for (; last < i; last++) text_put(&out, "\r\n");
      at = i;
    }
    move_by(i - at, columns);
    at = i;
    moved = true;
    send_cells(row, same);
    if (row->columns < before) text_put(&out, "\033[K");
  }
  if (painted.row_count < shown.row_count) {
    move_by(painted.row_count - at, 0);
    at = painted.row_count;
    moved = true;
    text_put(&out, "\033[J");
  }
  if (moved || painted.cursor_row != shown.cursor_row || painted.cursor_column != shown.cursor_column)
    move_by(painted.cursor_row - at, painted.cursor_column);
  if (out.length > 0) write_out();
  Picture swap = shown;
  shown = painted;
  painted = swap;
}

void canvas_begin(void) {
  shown.row_count = shown.cell_count = 0;
  shown.cursor_row = shown.cursor_column = 0;
}

void canvas_rewrap(int columns) {
  int above = 0;
  for (int i = 0; i < shown.cursor_row && i < shown.row_count; i++)
    above += shown.rows[i].columns > columns ? (shown.rows[i].columns + columns - 1) / columns : 1;
  above += shown.cursor_column / columns;
  move_by(-above, 0);
  text_put(&out, "\033[J");
  canvas_begin();
}

// ---- printing ----

static int print_style;

void canvas_print_begin(void) {
  move_by(-shown.cursor_row, 0);
  text_put(&out, "\033[J");
  print_style = STYLE_PLAIN;
}

void canvas_print(const char *text, size_t length, int columns, int style) {
  char glyph[16];
  size_t bytes = length;
  const char *sent = glyph_of(text, length, columns, glyph, &bytes);
  put_style(&print_style, style);
  text_add(&out, sent, sent == glyph ? bytes : length);
}

void canvas_print_line_end(void) {
  put_style(&print_style, STYLE_PLAIN);
  text_put(&out, "\r\n");
}

void canvas_print_end(void) {
  put_style(&print_style, STYLE_PLAIN);
  write_out();
  canvas_begin();
}
