// SPDX-License-Identifier: MIT
// What each completion is, a row each, while they are few; else columns, and below them what the chosen one is.
#include "menu.h"

#include <stdio.h>
#include <string.h>

#include "canvas.h"

enum { DESCRIBED = 16, CHOSEN_NONE = -1, TALLEST = 20 };

static struct {
  Completions list;  // open while there are any; its texts hold until the session is asked again
  int chosen;
  bool kept;  // the key that was pressed leaves it open
} menu;

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

void menu_key(void) {
  if (!menu.kept) menu.list.count = 0;
  menu.kept = false;
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

// ---- how it looks ----

static int columns_of(const char *text) {
  int total = 0, columns;
  for (size_t left = strlen(text), n; left > 0 && *text != '\n'; text += n, left -= n, total += columns)
    n = canvas_measure(text, left, total, &columns);
  return total;
}

static int widest_item(void) {
  int widest = 0;
  for (int i = 0; i < menu.list.count; i++) {
    int columns = columns_of(menu.list.items[i].text);
    if (columns > widest) widest = columns;
  }
  return widest;
}

static int items_across(int width) {
  int across = menu.list.count <= DESCRIBED ? 1 : (width - 1) / (widest_item() + 2);
  return across > 1 ? across : 1;
}

// Rows of items when all are shown, and whether one more says what the chosen one is or how many there are.
static int item_rows(int width) {
  int across = items_across(width);
  return (menu.list.count + across - 1) / across;
}

int menu_height(int width, int screen_rows, int block_rows) {
  int rows = item_rows(width), most = screen_rows - block_rows - 2;
  if (most > TALLEST) most = TALLEST;
  if (most < 2) most = 2;
  bool more = rows > most || menu.list.count > DESCRIBED;
  return (rows < most ? rows : most) + more;
}

static void put_blanks(int count) {
  for (int i = 0; i < count; i++) canvas_put(" ", 1, 1, STYLE_PLAIN);
}

static void put_note(const Completion *item, int room) {
  char kind[16];
  if (room < 20) return;
  snprintf(kind, sizeof kind, "%-10s ", item->kind);
  room -= canvas_put_cut(kind, strlen(kind), room, STYLE_NOTE);
  bool fits = columns_of(item->note) <= room;
  canvas_put_cut(item->note, strlen(item->note), fits ? room : room - 3, STYLE_NOTE);
  if (!fits) canvas_put_cut("...", 3, 3, STYLE_NOTE);
}

static void put_item(int i, int columns, int room) {
  const char *text = menu.list.items[i].text;
  int used = canvas_put_cut(text, strlen(text), room, i == menu.chosen ? STYLE_CHOSEN : STYLE_PLAIN);
  put_blanks(columns - used);
}

void menu_paint(int width, int rows) {
  int count = menu.list.count, room = width - 1, across = items_across(width), lines = item_rows(width);
  int widest = widest_item();
  bool described = count <= DESCRIBED, more = !described || lines > rows;
  int most = more && rows > 1 ? rows - 1 : rows;
  if (widest > room - 2) widest = room - 2;
  int at = menu.chosen < 0 ? 0 : menu.chosen % lines, first = at < most ? 0 : at - most + 1;
  for (int line = first; line < lines && line < first + most; line++) {
    canvas_next_row();
    for (int k = 0; k < across && line + k * lines < count; k++) {
      int i = line + k * lines;
      bool last = k + 1 == across || i + lines >= count;
      put_item(i, described ? widest + 2 : last ? 0 : widest + 2, room);
      if (described) put_note(&menu.list.items[i], room - widest - 2);
    }
  }
  if (!more || rows < 2) return;
  canvas_next_row();
  if (menu.chosen >= 0) {
    put_note(&menu.list.items[menu.chosen], room);
  } else if (lines > most) {
    char text[64];
    snprintf(text, sizeof text, "... %d in all", count);
    canvas_put_cut(text, strlen(text), room, STYLE_NOTE);
  }
}
