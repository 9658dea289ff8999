// SPDX-License-Identifier: MIT
// Colours, keys and switches of nb.terminal.
#include "settings.h"

#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "canvas.h"
#include "drawing.h"
#include "hints.h"

static Session *session;
static int applied;  // the changes that are told already

static bool is_on(const char *name) {
  char *value = session_terminal_setting(session, name);
  bool on = !value || strcmp(value, "false") != 0;
  free(value);
  return on;
}

static void set_colors(void) {
  static const struct {
    const char *name;
    int style;
  } parts[] = {{"keyword", STYLE_KEYWORD}, {"number", STYLE_NUMBER},   {"string", STYLE_STRING},
               {"comment", STYLE_COMMENT}, {"command", STYLE_COMMAND}, {"prompt", STYLE_PROMPT},
               {"note", STYLE_NOTE},       {"found", STYLE_FOUND},     {"suggestion", STYLE_SUGGESTION},
               {"chosen", STYLE_CHOSEN},   {"bracket", STYLE_BRACKET}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char name[32];
    snprintf(name, sizeof name, "colors.%s", parts[i].name);
    char *code = session_terminal_setting(session, name);
    if (code) canvas_set_style(parts[i].style, code);
    free(code);
  }
}

// The keys that have functions, by the bytes that they send.
typedef struct Bound {
  char *keys, *bytes;
} Bound;

static Bound *bound;
static size_t bound_count;

// A key whose function is the user's.
static int press(int count, int key) {
  (void)count, (void)key;
  const char *keys = NULL;
  for (size_t i = 0; i < bound_count && !keys; i++)
    if (strcmp(bound[i].bytes, rl_executing_keyseq ? rl_executing_keyseq : "") == 0) keys = bound[i].keys;
  if (!keys) return 0;
  size_t cursor = (size_t)rl_point;
  char *text = session_terminal_press(session, keys, rl_line_buffer, (size_t)rl_end, &cursor);
  if (text) {
    rl_begin_undo_group();
    rl_delete_text(0, rl_end);
    rl_point = 0;
    rl_insert_text(text);
    rl_end_undo_group();
    rl_point = (int)cursor;
  }
  free(text);
  return 0;
}

static void remember(const char *keys) {
  char bytes[64];
  int length = 0;
  if (strlen(keys) >= sizeof bytes || rl_translate_keyseq(keys, bytes, &length) != 0) return;
  for (size_t i = 0; i < bound_count; i++)
    if (strcmp(bound[i].keys, keys) == 0) return;
  Bound *more = realloc(bound, (bound_count + 1) * sizeof *bound);
  if (!more) return;
  bound = more;
  bytes[length] = '\0';
  bound[bound_count] = (Bound){strdup(keys), strdup(bytes)};
  bound_count += bound[bound_count].keys && bound[bound_count].bytes;
}

static void bind_key(void *user, const char *keys, const char *command) {
  (void)user;
  rl_command_func_t *f = *command ? rl_named_function(command) : press;
  if (!f) {
    fprintf(stderr, "nb.terminal.keys: readline has no command %s\n", command);
    return;
  }
  if (!*command) remember(keys);
  rl_bind_keyseq_in_map(keys, f, emacs_standard_keymap);
  rl_bind_keyseq_in_map(keys, f, vi_insertion_keymap);
}

void settings_apply(Session *s) {
  int changes = session_terminal_changes(s);
  if (changes == applied) return;
  session = s;
  applied = changes;
  set_colors();
  char *editing = session_terminal_setting(s, "editing");
  if (editing) rl_variable_bind("editing-mode", editing);
  free(editing);
  hints_set(is_on("suggestions"), is_on("signatures"));
  drawing_mark_brackets(is_on("brackets"));
  session_terminal_keys(s, bind_key, NULL);
}
