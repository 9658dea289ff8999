// SPDX-License-Identifier: MIT
// Telling prompts from what stands behind them, line by line.
#include "pasted.h"

#include <string.h>

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Whether the line begins with `text`, which may lack its last space at the line's end.
static size_t begins(const char *line, size_t length, const char *text) {
  size_t n = strlen(text);
  if (length >= n && memcmp(line, text, n) == 0) return n;
  return length == n - 1 && memcmp(line, text, length) == 0 ? length : 0;
}

// Bytes of the prompt that the line begins with, or 0.
static size_t prompt_length(const char *line, size_t length) {
  size_t digits = 0, n;
  while (digits < length && is_digit(line[digits])) digits++;
  if (digits > 0) return (n = begins(line + digits, length - digits, "> ")) ? digits + n : 0;
  if ((n = begins(line, length, ">>> ")) || (n = begins(line, length, "> "))) return n;
  if (!begins(line, length, "In [")) return 0;
  for (n = 4; n < length && is_digit(line[n]);) n++;
  size_t rest = n > 4 ? begins(line + n, length - n, "]: ") : 0;
  return rest ? n + rest : 0;
}

// The same for the prompt of a continued line.
static size_t continued_length(const char *line, size_t length) {
  size_t spaces = 0, n;
  if ((n = begins(line, length, ">> "))) return n;
  while (spaces < length && line[spaces] == ' ') spaces++;
  if ((n = begins(line + spaces, length - spaces, "...: ")) || (n = begins(line + spaces, length - spaces, "... ")) ||
      (spaces > 0 && (n = begins(line + spaces, length - spaces, "| "))))
    return spaces + n;
  return 0;
}

// The line at `at`; returns where the next one begins.
static size_t line_at(const char *code, size_t length, size_t at, size_t *line_length) {
  const char *end = memchr(code + at, '\n', length - at);
  *line_length = end ? (size_t)(end - code) - at : length - at;
  return end ? at + *line_length + 1 : length;
}

bool pasted_begins(const char *code, size_t length) {
  size_t at = 0, n;
  while (at < length && strchr(" \t\r\n", code[at]) && code[at]) at++;
  line_at(code, length, at, &n);
  return prompt_length(code + at, n) > 0;
}

bool pasted_next(const char *code, size_t length, size_t *at, Text *out) {
  bool found = false, open = false;  // open: the line above belongs to the input
  while (*at < length) {
    size_t n, next = line_at(code, length, *at, &n), skip = prompt_length(code + *at, n);
    if (skip && found) return true;
    if (skip)
      found = open = true;
    else if (open)
      open = (skip = continued_length(code + *at, n)) > 0;
    if (open) text_add(out, code + *at + skip, n - skip);
    text_add(out, "\n", 1);
    *at = next;
  }
  return found;
}
