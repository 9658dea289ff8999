// SPDX-License-Identifier: MIT
// The menu of completions below the block.
#ifndef NABLUA_MENU_H
#define NABLUA_MENU_H

#include <stdbool.h>

#include "session.h"

// Shows the completions until a key closes them; their texts must stay as long.
void menu_open(const Completions *list);

bool menu_is_open(void);

// Whether one of them was put into the text.
bool menu_has_chosen(void);

// A key was pressed, which closes the menu unless it was one of the menu's.
void menu_key(void);

// The next (1) or the one before (-1): returns its text, and the bytes of the line that it replaces.
const char *menu_choose(int by, int *begin, int *end);

// How many rows it takes below a block of so many on a screen of this size.
int menu_height(int width, int screen_rows, int block_rows);

// Paints these rows.
void menu_paint(int width, int rows);

#endif
