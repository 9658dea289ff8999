// SPDX-License-Identifier: MIT
// Commands of the editor, as functions that readline calls.
#include "keys.h"

#include <readline/history.h>
#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "bytes.h"
#include "drawing.h"
#include "hints.h"
#include "menu.h"
#include "search.h"
#include "sequences.h"
#include "stop.h"
#include "text.h"
#include "unicode.h"

static Session *session;
static bool asking;  // for a line that a program wants, not for an input

void keys_ask(bool ask) {
  asking = ask;
}

bool keys_are_pasted(void) {
  enum { FASTER_THAN_FINGERS = 8 };
  return bytes_waiting() >= FASTER_THAN_FINGERS;
}

// ---- Enter ----

// Whether the block needs more lines.  A long one is looked at from where it was looked at last.
static bool goes_on(void) {
  enum { LONG = 4096 };
  static SessionGrowth growth;
  size_t length = (size_t)rl_end, unchanged;
  if (length <= LONG) return session_is_complete(session, rl_line_buffer, length, NULL) == SESSION_INCOMPLETE;
  drawing_lines();
  unchanged = drawing_unchanged();
  bool same = unchanged > growth.at || (unchanged == growth.at && strchr(" \t\n", rl_line_buffer[growth.at]));
  if (!same || unchanged < growth.searched || length < growth.judged) growth = (SessionGrowth){0};
  return session_goes_on(session, rl_line_buffer, length, &growth);
}

// Whether the cursor stands behind two lines of nothing but spaces.
static bool after_empty_lines(void) {
  int begin = block_line_begin(rl_point), before = begin > 0 ? block_line_begin(begin - 1) : 0;
  return before > 0 && rl_point == rl_end && (int)strspn(rl_line_buffer + before, " \n") == rl_end - before;
}

// Whether byte `at` is inside of a string or comment that goes on in the next line.
static bool is_literal(int at) {
  const Lines *l = drawing_lines();
  if (!l) return false;
  const Line *line = &l->items[lines_find(l, at > 0 ? (size_t)at - 1 : 0)];
  size_t begin = line->span_begin, end = line->span_end > line->span_begin ? line->span_end : line->begin;
  SessionColor color = line->span_end > line->span_begin ? line->color : SESSION_PLAIN;
  while (end < (size_t)at && session_color(l->text, l->length, end, &begin, &end, &color)) continue;
  if ((color != SESSION_STRING && color != SESSION_COMMENT) || begin >= (size_t)at) return false;
  if ((size_t)at < end) return true;
  bool is_long = l->text[begin] == '[' || strncmp(l->text + begin, "--[", 3) == 0;
  return is_long && end == l->length && end > begin && l->text[end - 1] != ']';
}

static bool is_closer(int at) {
  static const char *const closers[] = {"end", "until", "else", "elseif", "}", ")"};
  for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
    size_t n = strlen(closers[i]);
    char behind = at + (int)n < rl_end ? rl_line_buffer[at + (int)n] : ' ';
    if (strncmp(rl_line_buffer + at, closers[i], n) == 0 && (n == 1 || strchr(" \t\n;,)", behind))) return true;
  }
  return false;
}

// The spaces that a line which begins at the cursor should have.
static int indent_here(void) {
  enum { LONG = 1 << 16, DEEPEST = 40 };
  int indent = 0, begin = block_line_begin(rl_point);
  if (is_literal(rl_point)) return 0;
  if (rl_point <= LONG) {
    if (session_is_complete(session, rl_line_buffer, (size_t)rl_point, &indent) == SESSION_INVALID)
      indent = block_column(block_indent_end(begin));
  } else {  // by the line alone: looking at all that is above would take long
    session_is_complete(session, rl_line_buffer + begin, (size_t)(rl_point - begin), &indent);
    indent += block_column(block_indent_end(begin));
  }
  int rest = rl_point + (int)strspn(rl_line_buffer + rl_point, " \t");
  if (indent >= 2 && is_closer(rest)) indent -= 2;
  return indent < DEEPEST ? indent : DEEPEST;
}

static int own_indent = -1;  // where an indentation of ours ends that a paste may bring itself

void keys_insert_line(void) {
  char line[64];
  bool pasted = bytes_waiting() > 0;
  snprintf(line, sizeof line, "\n%*s", indent_here(), "");
  int blanks = (int)strspn(rl_line_buffer + rl_point, " \t");
  block_replace(rl_point, rl_point + blanks, line);
  own_indent = pasted && line[1] ? rl_point : -1;
}

// A blank that comes with a paste, behind an indentation of ours: the paste has its own.
static int blank(int count, int key) {
  int begin = block_line_begin(rl_point);
  if (rl_point == own_indent && block_indent_end(begin) >= rl_point) {
    rl_delete_text(begin, rl_point);
    rl_point = begin;
  }
  own_indent = -1;
  return rl_insert(count, key);
}

void keys_enter(bool anywhere) {
  bool given_up = stop_is_asked();
  int end = block_line_end(rl_point);
  bool last = (int)strspn(rl_line_buffer + end, " \t\n") == rl_end - end;
  if (!given_up && !asking && !anywhere && !last) {
    keys_insert_line();
    return;
  }
  // Two empty lines end what is not complete, unless more of it is on its way.
  if (!given_up && !asking && goes_on() && (!after_empty_lines() || bytes_waiting() > 0)) {
    if (anywhere) rl_point = rl_end;
    keys_insert_line();
    if (block_in_commands()) block_leave_commands();
    return;
  }
  drawing_finish(given_up ? "^C" : "");
  rl_newline(1, '\n');
}

static int enter(int count, int key) {
  (void)count, (void)key;
  if (stop_is_asked() || !menu_has_chosen()) keys_enter(false);  // else what was chosen is taken; the menu closes
  return 0;
}

static int new_line(int count, int key) {
  (void)count, (void)key;
  keys_insert_line();
  return 0;
}

static int run(int count, int key) {
  (void)count, (void)key;
  keys_enter(true);
  return 0;
}

int keys_comment(int count, int key) {
  (void)count, (void)key;
  rl_begin_undo_group();
  for (int at = 0;; at = block_line_end(at) + 1) {
    rl_point = at;
    rl_insert_text("-- ");
    if (block_line_end(at) >= rl_end) break;
  }
  rl_end_undo_group();
  keys_enter(true);
  return 0;
}

// "end" and its kin go back to where their block began.
static int close_block(int count, int key) {
  static const char *const closers[] = {"end", "until", "else", "elseif", "}", ")"};
  char typed[2] = {(char)key, '\0'};
  while (count-- > 0) rl_insert_text(typed);  // rl_insert would take what waits behind this key, too
  int begin = block_line_begin(rl_point), first = begin;
  while (first < rl_point && rl_line_buffer[first] == ' ') first++;
  size_t length = (size_t)(rl_point - first);
  for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
    if (strlen(closers[i]) != length || memcmp(rl_line_buffer + first, closers[i], length) != 0) continue;
    int indent = 0;
    if (begin == 0 || is_literal(first)) break;
    session_is_complete(session, rl_line_buffer, (size_t)begin, &indent);
    int extra = first - begin - (indent >= 2 ? indent - 2 : 0);
    if (extra > 0) {
      rl_delete_text(begin, begin + extra);
      rl_point -= extra;
    }
  }
  return 0;
}

// ---- up and down ----

static void (*load_older)(void);
static bool older_is_elsewhere;

void keys_set_older(void (*load)(void)) {
  load_older = load;
}

void keys_leave_older(bool leave) {
  older_is_elsewhere = leave;
}

void keys_want_older(void) {
  if (older_is_elsewhere) return;
  void (*load)(void) = load_older;
  if (!load || asking) return;
  load_older = NULL;
  load();
  using_history();
}

static int choose_in_menu(int by);
static int page_up(int count, int key);
static int page_down(int count, int key);

static bool searching;  // the keys go through the inputs that begin like the one that was typed
static int goal;        // the column that moving up and down keeps

static bool goes_on_moving(void) {
  return rl_last_func == keys_up || rl_last_func == keys_down || rl_last_func == page_up || rl_last_func == page_down;
}

// To an older or a newer input.
static int through_history(int count, int key, bool older) {
  rl_command_func_t *search = older ? rl_history_search_backward : rl_history_search_forward;
  bool goes_on = rl_last_func == keys_up || rl_last_func == keys_down;
  if (older) keys_want_older();
  if (!goes_on) searching = rl_point > 0 && !block_in_commands();
  if (!searching) return older ? rl_get_previous_history(count, key) : rl_get_next_history(count, key);
  if (goes_on) rl_last_func = search;
  return search(count, key);
}

int keys_up(int count, int key) {
  if (menu_has_chosen()) return choose_in_menu(-1);
  if (!goes_on_moving()) goal = block_column(rl_point);
  for (; count > 0; count--) {
    int begin = block_line_begin(rl_point);
    if (begin == 0) return through_history(count, key, true);
    rl_point = block_at_column(begin - 1, goal);
  }
  return 0;
}

int keys_down(int count, int key) {
  if (menu_has_chosen()) return choose_in_menu(1);
  if (!goes_on_moving()) goal = block_column(rl_point);
  for (; count > 0; count--) {
    int end = block_line_end(rl_point);
    if (end == rl_end || (searching && (rl_last_func == keys_up || rl_last_func == keys_down)))
      return through_history(count, key, false);
    searching = false;
    rl_point = block_at_column(end + 1, goal);
  }
  return 0;
}

static int page(int by) {
  int lines = drawing_height() > 3 ? drawing_height() - 2 : 1;
  if (!goes_on_moving()) goal = block_column(rl_point);
  for (int i = 0; i < lines; i++) {
    int begin = block_line_begin(rl_point), end = block_line_end(rl_point);
    if (by < 0 ? begin == 0 : end == rl_end) break;
    rl_point = block_at_column(by < 0 ? begin - 1 : end + 1, goal);
  }
  return 0;
}

static int page_up(int count, int key) {
  (void)count, (void)key;
  return page(-1);
}

static int page_down(int count, int key) {
  (void)count, (void)key;
  return page(1);
}

static int older_input(int count, int key) {
  keys_want_older();
  return rl_get_previous_history(count, key);
}

// ---- along a line, and to the block's ends ----

static int home(int count, int key) {
  (void)count, (void)key;
  rl_point = block_line_begin(rl_point);
  return 0;
}

// Takes what is suggested, or its next word; false when nothing is.
static bool take_suggestion(bool word) {
  const Lines *lines = drawing_lines();
  Suggestion s = lines ? hints_suggestion(lines) : (Suggestion){0};
  char *text = s.text ? strndup(s.text, s.length) : NULL;
  if (!text) return false;
  int at = rl_point;
  rl_begin_undo_group();
  rl_insert_text(text);
  if (word && block_word_end(at) < rl_point) {
    rl_point = block_word_end(at);
    rl_delete_text(rl_point, at + (int)s.length);
  }
  rl_end_undo_group();
  free(text);
  return true;
}

static int end_of_line(int count, int key) {
  (void)count, (void)key;
  if (!take_suggestion(false)) rl_point = block_line_end(rl_point);
  return 0;
}

static int forward(int count, int key) {
  return take_suggestion(false) ? 0 : rl_forward_char(count, key);
}

static int forward_word(int count, int key) {
  (void)key;
  if (count > 0 && take_suggestion(true)) return 0;
  for (; count > 0; count--) rl_point = block_word_end(rl_point);
  for (; count < 0; count++) rl_point = block_word_begin(rl_point);
  return 0;
}

static int back_word(int count, int key) {
  return forward_word(-count, key);
}

static int block_home(int count, int key) {
  if (key == '<' && rl_point == 0) return keys_want_older(), rl_beginning_of_history(count, key);
  rl_point = 0;
  return 0;
}

static int block_end(int count, int key) {
  if (key == '>' && rl_point == rl_end) return rl_end_of_history(count, key);
  rl_point = rl_end;
  return 0;
}

// ---- killing ----

// At a line's end the next one is joined to it.
static int kill_to_end(int count, int key) {
  (void)count, (void)key;
  int end = block_line_end(rl_point);
  if (end == rl_point && end < rl_end) end++;
  if (end > rl_point) rl_kill_text(rl_point, end);
  return 0;
}

static int kill_to_begin(int count, int key) {
  (void)count, (void)key;
  int begin = block_line_begin(rl_point), point = rl_point;
  if (begin == point && begin > 0) begin--;
  if (begin < point) rl_kill_text(point, begin);
  rl_point = begin;
  return 0;
}

// A word up to blanks; in front of it the indentation, then the line end.
static int kill_back(int count, int key) {
  (void)count, (void)key;
  int begin = block_line_begin(rl_point), at = rl_point, point = rl_point;
  while (at > begin && strchr(" \t", rl_line_buffer[at - 1])) at--;
  while (at > begin && !strchr(" \t", rl_line_buffer[at - 1])) at--;
  if (at == point && at > 0) at--;
  if (at == point) return 0;
  rl_kill_text(point, at);
  rl_point = at;
  return 0;
}

static int clear_screen(int count, int key) {
  (void)count, (void)key;
  fputs("\033[H\033[2J", stdout);
  drawing_begin(NULL);
  drawing_redraw();
  return 0;
}

// ---- pastes ----

// Line ends as ours, and what readline cannot hold as a sign.
static void normalize(Text *text, Text *out) {
  for (size_t i = 0; i < text->length;) {
    size_t n = strcspn(text->data + i, "\r");
    if (i + n > text->length) n = text->length - i;
    text_add(out, text->data + i, n);
    i += n;
    if (i == text->length) return;
    bool pair = text->data[i] == '\r' && text->data[i + 1] == '\n';
    text_put(out, text->data[i] == '\r' ? "\n" : "\xEF\xBF\xBD");
    i += pair ? 2 : 1;
  }
}

// Takes a paste without the line ends behind it, and a single line without its prompt.
static int paste(int count, int key) {
  bool alone = rl_end == 0;
  (void)count, (void)key;
  Text text = {0}, clean = {0};
  bytes_read_paste(&text);
  normalize(&text, &clean);
  text_free(&text);
  while (clean.length > 0 && clean.data[clean.length - 1] == '\n') clean.data[--clean.length] = '\0';
  if (clean.length > 0 && !clean.failed) {
    rl_begin_undo_group();
    rl_insert_text(clean.data);
    rl_end_undo_group();
  }
  text_free(&clean);
  int prompt = (int)strspn(rl_line_buffer, "0123456789");
  if (alone && prompt > 0 && strncmp(rl_line_buffer + prompt, "> ", 2) == 0 &&
      !memchr(rl_line_buffer, '\n', (size_t)rl_end)) {
    rl_delete_text(0, prompt + 2);
    rl_point = rl_end;
  }
  return 0;
}

// ---- completion ----

static size_t common_prefix(const Completions *c) {
  size_t n = strlen(c->items[0].text);
  for (int i = 1; i < c->count; i++) {
    size_t k = 0;
    while (k < n && c->items[0].text[k] == c->items[i].text[k]) k++;
    n = k;
  }
  return unicode_cut(c->items[0].text, n);
}

// The next or the one before in the menu, into the text.
static int choose_in_menu(int by) {
  int begin, end;
  const char *text = menu_choose(by, &begin, &end);
  block_replace(begin, end, text);
  return 0;
}

static int complete_back(int count, int key) {
  (void)count, (void)key;
  return menu_is_open() ? choose_in_menu(-1) : rl_ding();
}

static int complete(int count, int key) {
  Completions c;
  if (menu_is_open()) return choose_in_menu(1);
  if (keys_are_pasted()) return blank(count, key);
  // At a line's beginning Tab indents.
  int begin = block_line_begin(rl_point);
  if (block_indent_end(begin) >= rl_point && rl_end > 0 && begin > 0) {
    rl_insert_text("  ");
    return 0;
  }
  session_complete(session, rl_line_buffer, (size_t)rl_end, (size_t)rl_point, &c);
  if (c.count == 0) return rl_ding();
  size_t prefix = common_prefix(&c), typed = c.end - c.begin;
  if (prefix > typed || c.count == 1) {
    char *text = strndup(c.items[0].text, prefix);
    if (!text) return 0;
    block_replace((int)c.begin, (int)c.end, text);
    free(text);
    c.end = c.begin + prefix;
  }
  if (c.count > 1) menu_open(&c);
  return 0;
}

// ---- binding ----

// The keypad in its other mode.
static int keypad(int count, int key) {
  static const char keys[] = "j*k+l,m-n.o/p0q1r2s3t4u5v6w7x8y9";
  const char *found = strchr(keys, key);
  if (!found) return 0;
  char text[2] = {found[1], '\0'};
  while (count-- > 0) rl_insert_text(text);
  return 0;
}

void keys_open(Session *s) {
  static const Named named[] = {{KEY_UP, keys_up},
                                {KEY_DOWN, keys_down},
                                {KEY_LEFT, rl_backward_char},
                                {KEY_RIGHT, forward},
                                {KEY_HOME, home},
                                {KEY_END, end_of_line},
                                {KEY_PAGE_UP, page_up},
                                {KEY_PAGE_DOWN, page_down},
                                {KEY_DELETE, rl_delete},
                                {KEY_OLDER, older_input},
                                {KEY_NEWER, rl_get_next_history},
                                {KEY_WORD_LEFT, back_word},
                                {KEY_WORD_RIGHT, forward_word},
                                {KEY_BLOCK_HOME, block_home},
                                {KEY_BLOCK_END, block_end},
                                {KEY_KILL_WORD, rl_kill_word},
                                {KEY_PASTE, paste},
                                {KEY_BACK_TAB, complete_back},
                                {KEY_ENTER, enter},
                                {KEY_NEW_LINE, new_line},
                                {KEY_RUN, run},
                                {KEY_KEYPAD, keypad}};
  static const Named common[] = {{'\r', enter},
                                 {'\n', enter},
                                 {'\t', complete},
                                 {'U' & 31, kill_to_begin},
                                 {' ', blank},
                                 {'W' & 31, kill_back},
                                 {'L' & 31, clear_screen},
                                 {'R' & 31, search_back},
                                 {'S' & 31, search_forward}};
  static const Named emacs[] = {{'A' & 31, home},        {'E' & 31, end_of_line}, {'F' & 31, forward},
                                {'K' & 31, kill_to_end}, {'P' & 31, keys_up},     {'N' & 31, keys_down}};
  static const Named meta[] = {{'f', forward_word}, {'b', back_word}, {'<', block_home},  {'>', block_end},
                               {'\r', new_line},    {'\n', new_line}, {'#', keys_comment}};
  Keymap maps[] = {emacs_standard_keymap, vi_insertion_keymap, vi_movement_keymap};
  session = s;
  for (int m = 0; m < 3; m++) sequences_bind(maps[m], named, sizeof named / sizeof *named);
  for (int m = 0; m < 2; m++) {
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
      rl_bind_key_in_map(common[i].key, common[i].command, maps[m]);
    for (const char *c = "dlef})"; *c; c++) rl_bind_key_in_map(*c, close_block, maps[m]);
  }
  for (size_t i = 0; i < sizeof emacs / sizeof *emacs; i++)
    rl_bind_key_in_map(emacs[i].key, emacs[i].command, emacs_standard_keymap);
  for (size_t i = 0; i < sizeof meta / sizeof *meta; i++)
    rl_bind_key_in_map(meta[i].key, meta[i].command, emacs_meta_keymap);
  static const struct {
    const char *name;
    rl_command_func_t *command;
  } names[] = {{"insert-line", new_line},      {"run-block", run},   {"previous-line", keys_up},
               {"next-line", keys_down},       {"page-up", page_up}, {"page-down", page_down},
               {"search-history", search_back}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) rl_add_defun(names[i].name, names[i].command, -1);
}
