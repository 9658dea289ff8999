// SPDX-License-Identifier: MIT
// The terminal's cursor followed through all output, and texts that are redrawn in place.
//
// Rows count from screen_begin:        row 0   > what an input prints
//                                      top     ┌ a panel: a text with an id
//                                      top + n └
//                                              lines printed since
//                                      row       █ cursor
//                                              footer: in the cursor's row, or below it where something stands there
#include "screen.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "text.h"
#include "unicode.h"

typedef struct Panel {
  struct Panel *next;
  char *id;
  char *held;  // what could not be drawn yet, or NULL
  size_t length;
  int top, rows;
  bool reachable;
} Panel;

static FILE *terminal;  // what stdout was; NULL while output is not followed
static Panel *panels;
static int row, column;
static int width;          // of the terminal when the rows were counted
static int pending_input;  // bytes typed ahead by then
static bool clear_first;   // before the next output
static int lowest;         // the row below which nothing was written
static bool placed;        // somebody has moved the cursor to an absolute place: what is below it is not known
static bool astray;        // another program has moved it: its column is not known
static Text footer;        // what stands below the lowest row; empty: nothing
static enum { FOOTER_NOT_DRAWN, FOOTER_IN_ROW, FOOTER_BELOW } footer_place;

// ---- the terminal ----

FILE *screen_stream(void) {
  return terminal ? terminal : stdout;
}

bool screen_can_move_cursor(void) {
  return terminal;
}

ScreenSize screen_size(void) {
  struct winsize size = {0};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 10 || size.ws_row < 2) return (ScreenSize){24, 80};
  return (ScreenSize){size.ws_row, size.ws_col};
}

static Text batch;  // what is written in one go
static int batches;

static void write_now(const char *data, size_t length) {
  while (length > 0) {
    ssize_t n = write(STDOUT_FILENO, data, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // the terminal is gone
    data += n;
    length -= (size_t)n;
  }
}

static void write_all(const char *data, size_t length) {
  if (batches > 0)
    text_add(&batch, data, length);
  else
    write_now(data, length);
}

// ---- the footer ----

// Makes room for what is to be written: what stands below is cleared.
static void lift_footer(void) {
  static const char *const clear[] = {
      [FOOTER_NOT_DRAWN] = "", [FOOTER_IN_ROW] = "\r\033[J", [FOOTER_BELOW] = "\0337\033[B\r\033[J\0338"};
  if (batches++ == 0) batch.length = 0;
  write_all(clear[footer_place], strlen(clear[footer_place]));
  footer_place = FOOTER_NOT_DRAWN;
}

// Puts it back, where the cursor is in the lowest row.  At the margin the cursor waits for the next row, which it would
// forget.
static void lower_footer(void) {
  if (row > lowest) lowest = row;
  if (batches == 1 && footer.length > 0 && row == lowest && column < width && !placed) {
    footer_place = column > 0 || astray ? FOOTER_BELOW : FOOTER_IN_ROW;
    if (footer_place == FOOTER_BELOW) write_all("\033D\033[A", 5);  // there is a row below
    write_all("\0337", 2);
    if (footer_place == FOOTER_BELOW) write_all("\033[B", 3);
    write_all("\r", 1);
    write_all(footer.data, footer.length);
    write_all("\033[K\0338", 5);
  }
  if (--batches > 0) return;
  write_now(batch.data ? batch.data : "", batch.length);
  text_free(&batch);
}

void screen_set_footer(const char *text) {
  if (!terminal || (!text && footer.length == 0)) return;
  if (text && footer_place != FOOTER_NOT_DRAWN && footer.length == strlen(text) &&
      memcmp(text, footer.data, footer.length) == 0)
    return;
  lift_footer();
  text_free(&footer);
  if (text) text_put(&footer, text);
  lower_footer();
}

// ---- following the cursor ----

static void forget_places(void) {
  lowest = row;
  for (Panel *p = panels; p; p = p->next) p->reachable = false;
}

// Text of the escape sequence at `text`, or 0 when it does not end there.
static size_t escape_length(const char *text, size_t length) {
  if (length < 2) return 0;
  size_t i = 2;
  if (text[1] == '[') {
    while (i < length && (text[i] < 0x40 || text[i] > 0x7e)) i++;
    return i < length ? i + 1 : 0;
  }
  if (text[1] == ']') {
    for (; i < length; i++) {
      if (text[i] == '\a') return i + 1;
      if (text[i] == '\033') return i + 1 < length ? i + 2 : 0;
    }
    return 0;
  }
  return 2;
}

// What a sequence such as "\033[3A" does to the cursor.
static void follow_escape(const char *text, size_t length) {
  if (text[1] != '[') return;
  int n = atoi(text + 2);
  int count = n > 0 ? n : 1;
  switch (text[length - 1]) {
    case 'A':
      row -= count;
      break;
    case 'B':
      row += count;
      break;
    case 'C':
      column += count;
      break;
    case 'D':
      column -= column < count ? column : count;
      break;
    case 'E':
      row += count, column = 0;
      break;
    case 'F':
      row -= count, column = 0;
      break;
    case 'G':
      column = count - 1;
      break;
    case 'H':
    case 'f':
    case 'd':
      forget_places();
      placed = true;
      break;  // an absolute place
    case 'J':
      if (n > 0) forget_places();
      break;
    default:
      break;
  }
}

// Follows what is written; returns how many bytes at the end belong to something that has not come whole.
static size_t follow(const char *text, size_t length) {
  size_t i = 0, bytes;
  int columns;
  for (; i < length; i += bytes) {
    bytes = 1;
    switch (text[i]) {
      case '\n':
        row++, column = 0;
        astray = false;
        continue;
      case '\r':
        column = 0;
        astray = false;
        continue;
      case '\b':
        column -= column > 0;
        continue;
      case '\t':
        column = column / 8 * 8 + 8 < width ? column / 8 * 8 + 8 : width - 1;
        continue;
      case '\a':
        continue;
      case '\033':
        if ((bytes = escape_length(text + i, length - i)) == 0) return length - i;
        follow_escape(text + i, bytes);
        continue;
      default:
        break;
    }
    if (length - i < 4 && unicode_open_tail(text + i, length - i) == length - i) return length - i;
    bytes = unicode_character(text + i, length - i, &columns);
    if (column + columns > width) row++, column = 0;
    column += columns;
  }
  return 0;
}

static void follow_and_write(const char *text, size_t length) {
  static char rest[64];  // a character or sequence that was cut
  static size_t rest_length;
  size_t left;
  if (rest_length > 0) {
    char whole[sizeof rest * 2];
    size_t taken = length < sizeof rest ? length : sizeof rest;
    memcpy(whole, rest, rest_length);
    memcpy(whole + rest_length, text, taken);
    left = follow(whole, rest_length + taken);
    if (taken < length) left = follow(text + taken - left, length - taken + left);
  } else {
    left = follow(text, length);
  }
  rest_length = left < sizeof rest && left <= length ? left : 0;
  memcpy(rest, text + length - rest_length, rest_length);
  write_all(text, length);
}

static void clear_now(void) {
  char code[32];
  int up = row, most = screen_size().rows - 1;
  clear_first = false;
  if (up > most) up = most;
  int n = up > 0 ? snprintf(code, sizeof code, "\r\033[%dA\033[J", up) : snprintf(code, sizeof code, "\r\033[J");
  write_all(code, (size_t)n);
  row -= up;
  column = 0;
  forget_places();
}

static ssize_t write_followed(void *cookie, const char *data, size_t length) {
  (void)cookie;
  lift_footer();
  if (clear_first) clear_now();
  follow_and_write(data, length);
  lower_footer();
  return (ssize_t)length;
}

static FILE *followed_stream(int buffering) {
  FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_followed});
  if (f) setvbuf(f, NULL, buffering, BUFSIZ);
  return f;
}

void screen_open(void) {
  const char *name = getenv("TERM");
  if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
  if (!isatty(STDOUT_FILENO) || !name || !*name || strcmp(name, "dumb") == 0) return;
  FILE *out = followed_stream(_IOLBF), *err = isatty(STDERR_FILENO) ? followed_stream(_IONBF) : NULL;
  if (!out) return;
  fflush(stdout);
  terminal = stdout;
  setvbuf(terminal, NULL, _IONBF, 0);  // what readline writes there keeps its order with the rest
  stdout = out;
  if (err) stderr = err;
  width = screen_size().columns;
}

static void flush(void) {
  fflush(stdout);
  fflush(stderr);
}

// Lines that were typed ahead are on the screen, in places that nobody knows.
static int typed_ahead(void) {
  int bytes = 0;
  return isatty(STDIN_FILENO) && ioctl(STDIN_FILENO, FIONREAD, &bytes) == 0 ? bytes : 0;
}

void screen_begin(void) {
  flush();
  row = column = lowest = 0;
  placed = astray = false;
  width = screen_size().columns;
  pending_input = typed_ahead();
  clear_first = false;
  forget_places();
}

void screen_lend(void) {
  screen_begin();
  astray = true;
}

void screen_fresh_line(void) {
  flush();
  if (terminal && column > 0) fputc('\n', stdout);
}

void screen_accept_pastes(bool accept) {
  flush();
  if (terminal) write_all(accept ? "\033[?2004h" : "\033[?2004l", 8);
}

void screen_clear(bool wait) {
  flush();
  if (!terminal) return;
  if (wait)
    clear_first = true;
  else {
    lift_footer();
    clear_now();
    lower_footer();
  }
}

// ---- panels ----

static Panel *find_panel(const char *id) {
  Panel *p = panels;
  while (p && strcmp(p->id, id) != 0) p = p->next;
  return p;
}

static Panel *new_panel(const char *id) {
  Panel *p = calloc(1, sizeof *p), **last = &panels;
  if (!p || !(p->id = strdup(id))) {
    free(p);
    return NULL;
  }
  while (*last) last = &(*last)->next;
  return *last = p;
}

static void put_code(Text *d, const char *format, int n) {
  char code[32];
  if (n > 0) text_add(d, code, (size_t)snprintf(code, sizeof code, format, n));
}

// Draws the text as rows that end in a new line each, none wider than the terminal and at most `most`; what stood in
// a row before is cleared.  Returns the number of rows.
static int put_rows(Text *d, const char *text, size_t length, int most) {
  int rows = 0, columns = 0;
  for (size_t i = 0, bytes; i <= length; i += bytes) {
    int wide = 0;
    bytes = 1;
    bool end = i == length || text[i] == '\n';
    if (!end && text[i] == '\033') {
      bytes = escape_length(text + i, length - i);
      if (bytes == 0) bytes = length - i;
    } else if (!end && (unsigned char)text[i] >= ' ') {
      bytes = unicode_character(text + i, length - i, &wide);
    } else if (!end && text[i] == '\t') {
      for (int stop = columns / 8 * 8 + 8; columns < stop && columns < width; columns++) text_put(d, " ");
      continue;
    } else if (!end) {
      continue;  // a control character would move the cursor
    }
    if (end || columns + wide > width) {
      if (columns < width) text_put(d, "\033[K");
      text_put(d, "\r\n");
      columns = 0;
      if (++rows == most) return rows;
    }
    if (!end) {
      text_add(d, text + i, bytes);
      columns += wide;
    }
  }
  return rows;
}

static void move_lower_panels(const Panel *above, int by) {
  for (Panel *p = panels; p; p = p->next)
    if (p != above && p->top > above->top) p->top += by;
}

// Puts rows where the panel stands, with more or fewer of them than before if need be.
static void redraw(Panel *p, const Text *rows, int height) {
  Text d = {0};
  int more = height - p->rows;
  if (column >= width) {  // step over the margin, where a terminal waits with the next row
    text_put(&d, " \r");
    row++, column = 0;
  }
  int below = row - p->top - p->rows;
  if (more > 0) {  // room at the bottom, then below the panel
    for (int i = 0; i < more; i++) text_put(&d, "\n");
    put_code(&d, "\033[%dA", more + below);
    put_code(&d, "\033[%dL", more);
    put_code(&d, "\033[%dA", p->rows);
  } else {
    put_code(&d, "\033[%dA", below - more);
    put_code(&d, "\033[%dM", -more);
    put_code(&d, "\033[%dA", height);
  }
  text_put(&d, "\r");
  text_add(&d, rows->data, rows->length);
  put_code(&d, "\033[%dB", below);
  put_code(&d, "\033[%dC", column);
  if (!d.failed) {
    write_all(d.data, d.length);
    row += more;
    move_lower_panels(p, more);
    p->rows = height;
  }
  text_free(&d);
}

static void append(Panel *p, const Text *rows, int height) {
  if (column > 0) write_all("\r\n", 2), row++, column = 0;
  write_all(rows->data, rows->length);
  p->top = row;
  p->rows = height;
  p->reachable = true;
  row += height;
}

static void show_panel(Panel *p, const char *text, size_t length, bool update) {
  ScreenSize size = screen_size();
  if (footer.length > 0) size.rows--;
  if (size.columns != width || (footer.length == 0 && typed_ahead() != pending_input)) {
    forget_places();
    width = size.columns;
    pending_input = typed_ahead();
  }
  Text rows = {0};
  int height = put_rows(&rows, text, length, size.rows - 1);
  bool visible = row - p->top < size.rows && row - p->top + height - p->rows < size.rows;
  if (rows.failed) {
    // there is no memory to draw with
  } else if (update && p->reachable && visible) {
    redraw(p, &rows, height);
  } else {
    append(p, &rows, height);
  }
  text_free(&rows);
}

static void hold(Panel *p, const char *text, size_t length) {
  free(p->held);
  p->held = malloc(length + 1);
  p->length = length;
  if (p->held) memcpy(p->held, text, length);
}

void screen_show(const char *text, size_t length, const char *id, bool update) {
  Panel *p = id ? find_panel(id) : NULL;
  if (id && !p) p = new_panel(id);
  if (!terminal && update && p && p->reachable) {
    hold(p, text, length);
    return;
  }
  if (!terminal || !p) {
    screen_fresh_line();
    fwrite(text, 1, length, stdout);
    fputc('\n', stdout);
    if (p) p->reachable = true;
  } else {
    flush();
    lift_footer();
    if (clear_first) clear_now();
    show_panel(p, text, length, update);
    lower_footer();
  }
  flush();
}

void screen_finish(void) {
  for (Panel *p = panels; p; p = p->next) {
    if (!p->held) continue;
    fwrite(p->held, 1, p->length, stdout);
    fputc('\n', stdout);
    free(p->held);
    p->held = NULL;
  }
  flush();
}
