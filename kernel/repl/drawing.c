// SPDX-License-Identifier: MIT
// The block is drawn by us, because readline's own redisplay knows neither colours in the text nor a prompt for
// continued lines.
#include "drawing.h"

#include <readline/history.h>
#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "screen.h"
#include "text.h"
#include "unicode.h"

static bool colored;
static bool finishing;         // the input is done: nothing but it is drawn
static int rows_above_cursor;  // of the block as it was drawn last
static int drawn_width;        // of the terminal then
static char continued[32];     // the prompt of further lines

static const char *color_code(SessionColor color) {
  static const char *const codes[] = {"", "\033[35m", "\033[36m", "\033[32m", "\033[90m", "\033[33m"};
  return codes[color];
}

// Where drawing has come to.
typedef struct Pen {
  Text out;
  int row, column, width;
  int cursor_row, cursor_column;
} Pen;

static void put(Pen *p, const char *text) {
  text_put(&p->out, text);
}

static void put_character(Pen *p, const char *text, size_t length, int columns) {
  if (p->column + columns > p->width) {
    p->row++;
    p->column = 0;
  }
  text_add(&p->out, text, length);
  p->column += columns;
  if (p->column == p->width) {  // step over the margin now, so that the cursor is where we say
    put(p, " \r\033[K");
    p->row++;
    p->column = 0;
  }
}

static void put_prompt(Pen *p, const char *prompt) {
  bool hidden = false;
  size_t length = strlen(prompt);
  for (size_t i = 0; i < length;) {
    int columns;
    size_t n = unicode_character(prompt + i, length - i, &columns);
    if (prompt[i] == RL_PROMPT_START_IGNORE || prompt[i] == RL_PROMPT_END_IGNORE)
      hidden = prompt[i] == RL_PROMPT_START_IGNORE;
    else if (hidden)
      text_add(&p->out, prompt + i, n);
    else
      put_character(p, prompt + i, n, columns);
    i += n;
  }
}

static void put_text(Pen *p, const char *text, size_t length, size_t cursor) {
  size_t begin = 0, end = 0;
  SessionColor color = SESSION_PLAIN;
  bool more = colored;
  for (size_t i = 0; i <= length;) {
    if (i == cursor) {
      p->cursor_row = p->row;
      p->cursor_column = p->column;
    }
    if (i == length) break;
    while (more && i >= end) {
      if (color != SESSION_PLAIN) put(p, "\033[0m");
      color = SESSION_PLAIN;
      more = session_color(text, length, end, &begin, &end, &color);
      if (more && begin > i) break;
    }
    if (more && i == begin) put(p, color_code(color));
    int columns;
    size_t n = unicode_character(text + i, length - i, &columns);
    if (text[i] == '\n') {
      if (color != SESSION_PLAIN) put(p, "\033[0m");
      put(p, "\033[K\r\n");
      p->row++;
      p->column = 0;
      put_prompt(p, continued);
      if (color != SESSION_PLAIN && i + 1 < end) put(p, color_code(color));
    } else if ((unsigned char)text[i] < 32) {
      put_character(p, "^", 1, 1);
      char letter[2] = {(char)(text[i] + 64), 0};
      put_character(p, letter, 1, 1);
    } else {
      put_character(p, text + i, n, columns);
    }
    i += n;
  }
  if (color != SESSION_PLAIN) put(p, "\033[0m");
}

static void move(Pen *p, int rows) {
  char code[16];
  if (rows == 0) return;
  snprintf(code, sizeof code, "\033[%d%c", rows < 0 ? -rows : rows, rows < 0 ? 'A' : 'B');
  put(p, code);
}

// ---- the menu of completions ----

enum { DESCRIBED = 16, CHOSEN_NONE = -1 };  // so many are described, more stand in columns

static struct {
  Completions list;  // open while there are any; its texts hold until the session is asked again
  int chosen;
  bool kept;  // the key that was pressed leaves it open
} menu;

// Puts text cut to so many columns; returns how many it has taken.
static int put_cut(Pen *p, const char *text, int most) {
  size_t length = strlen(text), i = 0;
  int used = 0;
  while (i < length && text[i] != '\n') {
    int columns;
    size_t n = unicode_character(text + i, length - i, &columns);
    if (used + columns > most) break;
    used += columns;
    i += n;
  }
  text_add(&p->out, text, i);
  return used;
}

static void put_item(Pen *p, int i, int widest, int room) {
  const Completion *item = &menu.list.items[i];
  if (i == menu.chosen) put(p, "\033[7m");
  int used = put_cut(p, item->text, room);
  if (i == menu.chosen) put(p, "\033[0m");
  while (used++ < widest) put(p, " ");
}

static void put_note(Pen *p, const Completion *item, int room) {
  char kind[16];
  snprintf(kind, sizeof kind, "%-10s ", item->kind);
  if (room < 20) return;
  if (colored) put(p, "\033[90m");
  put(p, kind);
  room -= (int)strlen(kind);
  bool fits = unicode_columns(item->note) <= room;
  put_cut(p, item->note, fits ? room : room - 1);
  if (!fits) put(p, "…");
  if (colored) put(p, "\033[0m");
}

static void next_row(Pen *p) {
  put(p, "\033[K\r\n");
  p->row++;
}

// The menu below the block: what each is while they are few, else columns, and what the chosen one is.
static void put_menu(Pen *p) {
  int count = menu.list.count, widest = 0, room = p->width - 1, most = screen_size().rows - p->row - 3;
  for (int i = 0; i < count; i++) {
    int columns = unicode_columns(menu.list.items[i].text);
    if (columns > widest) widest = columns;
  }
  bool described = count <= DESCRIBED;
  int across = described ? 1 : room / (widest + 2);
  if (across < 1) across = 1;
  int lines = (count + across - 1) / across;
  if (most > 20) most = 20;
  if (most < 2) most = 2;
  int at = menu.chosen < 0 ? 0 : menu.chosen % lines, first = at < most ? 0 : at - most + 1;
  for (int line = first; line < lines && line < first + most; line++) {
    next_row(p);
    for (int k = 0; k < across && line + k * lines < count; k++) {
      int i = line + k * lines;
      put_item(p, i, k + 1 < across && i + lines < count ? widest + 2 : widest, room);
      if (!described) continue;
      put(p, "  ");
      put_note(p, &menu.list.items[i], room - widest - 2);
    }
  }
  if (lines > most || !described) {
    char text[64];
    next_row(p);
    if (menu.chosen >= 0)
      put_note(p, &menu.list.items[menu.chosen], room);
    else if (lines > most) {
      snprintf(text, sizeof text, "... %d in all", count);
      put_cut(p, text, room);
    }
  }
}

// ---- the suggestion ----

// It is shown in grey, so only with colours.
const char *drawing_suggestion(void) {
  if (!colored || rl_point != rl_end || rl_end < 2 || RL_ISSTATE(RL_STATE_ISEARCH | RL_STATE_NSEARCH) || finishing)
    return NULL;
  for (int i = history_length - 1; i >= 0; i--) {
    const HIST_ENTRY *entry = history_get(history_base + i);
    if (entry && strncmp(entry->line, rl_line_buffer, (size_t)rl_end) == 0 && entry->line[rl_end])
      return entry->line + rl_end;
  }
  return NULL;
}

static void put_suggestion(Pen *p) {
  const char *text = drawing_suggestion();
  if (!text) return;
  put(p, "\033[90m");
  put_cut(p, text, p->width - p->column - 1);
  put(p, "\033[0m");
}

// The block as it looks at this width, from where the pen is.
static void put_block(Pen *p) {
  put_prompt(p, rl_display_prompt ? rl_display_prompt : "");
  put_text(p, rl_line_buffer, (size_t)rl_end, (size_t)rl_point);
  if (menu.list.count > 0)
    put_menu(p);
  else
    put_suggestion(p);
}

void drawing_redraw(void) {
  if (!menu.kept) menu.list.count = 0;
  menu.kept = false;
  Pen p = {.width = screen_size().columns};
  char code[16];
  if (p.width != drawn_width && rows_above_cursor > 0) {  // the terminal has wrapped what stands there anew
    Pen anew = {.width = p.width};
    put_block(&anew);
    rows_above_cursor = anew.cursor_row;
    text_free(&anew.out);
  }
  drawn_width = p.width;
  put(&p, "\r");
  move(&p, -rows_above_cursor);
  put_block(&p);
  put(&p, "\033[J\r");
  move(&p, p.cursor_row - p.row);
  if (p.cursor_column > 0) {
    snprintf(code, sizeof code, "\033[%dC", p.cursor_column);
    put(&p, code);
  }
  rows_above_cursor = p.cursor_row;
  if (p.out.data) fwrite(p.out.data, 1, p.out.length, stdout);
  fflush(stdout);
  text_free(&p.out);
}

void drawing_open(bool color) {
  colored = color;
}

void drawing_begin(const char *prompt) {
  rows_above_cursor = 0;
  if (prompt) snprintf(continued, sizeof continued, "%s", prompt);
}

void drawing_finish(void) {
  rl_point = rl_end;
  finishing = true;
  drawing_redraw();
  finishing = false;
}

void menu_open(const Completions *list) {
  menu.list = *list;
  menu.chosen = CHOSEN_NONE;
  menu.kept = true;
}

bool menu_is_open(void) {
  return menu.list.count > 0;
}

bool menu_has_chosen(void) {
  return menu.list.count > 0 && menu.chosen >= 0;
}

const char *menu_choose(int by, int *begin, int *end) {
  int count = menu.list.count;
  menu.kept = true;
  menu.chosen = menu.chosen < 0 ? (by > 0 ? 0 : count - 1) : (menu.chosen + by + count) % count;
  const char *text = menu.list.items[menu.chosen].text;
  *begin = (int)menu.list.begin;
  *end = (int)menu.list.end;
  menu.list.end = menu.list.begin + strlen(text);
  return text;
}
