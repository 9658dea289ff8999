// SPDX-License-Identifier: MIT
// UTF-8 as the Unicode standard has it (version 15, table 3-7): no surrogates, nothing overlong, nothing above
// U+10FFFF; and the columns that a terminal gives a character.
#ifndef NABLUA_CHARACTERS_H
#define NABLUA_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Utf8 {
  size_t size;    // bytes of the character, 0 when there is none
  uint32_t code;  // its number
  size_t bad;     // when there is none: bytes of the run that is no character (the maximal subpart), at least 1
  bool open;      // ... and whether the text ended before the character did
} Utf8;

// What stands at the beginning of `left` > 0 bytes.
Utf8 nb_utf8_at(const char *text, size_t left);

// Whether all of it is UTF-8.
bool nb_utf8_valid(const char *text, size_t length);

// 0 for what joins the character before it, 2 for wide ones, else 1.
int nb_code_columns(uint32_t code);

#endif
