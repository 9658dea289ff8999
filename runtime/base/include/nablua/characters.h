// SPDX-License-Identifier: MIT
// UTF-8 as the Unicode standard has it, and the columns that a terminal gives a character.
#ifndef NABLUA_CHARACTERS_H
#define NABLUA_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The length of the character at `text`, of which `left` bytes are there, and its code; 0 where no valid one begins: no
// surrogates, nothing overlong, nothing above U+10FFFF.
size_t nb_utf8_read(const char *text, size_t left, uint32_t *code);

// Whether a text is characters and nothing else.
bool nb_utf8_valid(const char *text, size_t length);

// 0 for what joins the character before it, 2 for wide ones, else 1.
int nb_code_columns(uint32_t code);

#endif
