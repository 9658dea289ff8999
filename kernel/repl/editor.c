// SPDX-License-Identifier: MIT
// Editing with readline: Enter continues an input that is not complete, arrows move inside the block, Tab completes
// with what a name is.
#include "editor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "drawing.h"
#include "screen.h"
#include "text.h"
#include "unicode.h"

#ifdef NABLUA_EDITOR_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#elif defined NABLUA_EDITOR_LIBEDIT
#include <editline/readline.h>
#endif

static Session *session;
static bool colored;
static volatile sig_atomic_t interrupted;

void editor_interrupt(void) {
  interrupted = 1;
}

static volatile sig_atomic_t leaving;

void editor_leave(void) {
  leaving = interrupted = 1;
}

// ---- without an editor ----

// A line without its end, to be freed; NULL at the end of input.
static char *plain_line(const char *prompt) {
  char *line = NULL;
  size_t size = 0;
  fputs(prompt, stdout);
  fflush(stdout);
  ssize_t n = getline(&line, &size, stdin);
  if (n < 0) {
    bool given_up = errno == EINTR && interrupted;
    clearerr(stdin);
    free(line);
    return given_up ? strdup("") : NULL;
  }
  if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
  return line;
}

// Line by line until the input is complete; at a terminal an empty line ends it as it is.
static char *read_lines(int number, char *(*read_line)(const char *prompt)) {
  Text block = {0};
  SessionGrowth growth = {0};
  char prompt[128];
  for (;;) {
    if (!session_prompt(session, block.length > 0, prompt, sizeof prompt)) {
      snprintf(prompt, sizeof prompt, "%d> ", number);
      if (block.length) memset(prompt, ' ', strlen(prompt) - 2), prompt[strlen(prompt) - 2] = '|';
    }
    char *line = leaving ? NULL : read_line(prompt);
    if (interrupted && !leaving) {
      interrupted = 0;
      block.length = 0;
      growth = (SessionGrowth){0};
      putchar('\n');
      free(line);
      continue;
    }
    bool end = !line || (!*line && block.length > 0 && isatty(STDIN_FILENO));
    if (!line && block.length == 0) {
      free(block.data);
      return NULL;
    }
    if (line && block.length) text_put(&block, "\n");
    if (line) text_put(&block, line);
    end = end || block.failed;
    free(line);
    if (end || !session_goes_on(session, block.data, block.length, &growth)) return block.data;
  }
}

#ifndef NABLUA_EDITOR_READLINE

void editor_open(Session *s, bool color) {
  session = s;
  colored = color;
}

char *editor_read(int number) {
  interrupted = 0;
#ifdef NABLUA_EDITOR_LIBEDIT
  if (isatty(STDIN_FILENO)) return read_lines(number, readline);
#endif
  return read_lines(number, plain_line);
}

void editor_prefill(const char *text) {
  puts(text);
}

void editor_remember(const char *input) {
#ifdef NABLUA_EDITOR_LIBEDIT
  add_history(input);
#else
  (void)input;
#endif
}

#else

static char *prefilled;  // what the next input begins as

static int insert_prefilled(void) {
  if (!prefilled) return 0;
  rl_insert_text(prefilled);
  free(prefilled);
  prefilled = NULL;
  drawing_redraw();
  return 0;
}

void editor_prefill(const char *text) {
  free(prefilled);
  prefilled = strdup(text);
}

static bool incomplete(const char *text, size_t length, int *indent) {
  return session_is_complete(session, text, length, indent) == SESSION_INCOMPLETE;
}

static bool asking;  // for a line that a program wants, not for an input

// ---- bytes ----

static volatile sig_atomic_t suspended;

static void on_suspend(int number) {
  (void)number;
  suspended = 1;
}

static volatile sig_atomic_t resized;

static void on_resize(int number) {
  (void)number;
  resized = 1;
}

static void suspend(void) {
  suspended = 0;
  screen_accept_pastes(false);
  rl_deprep_terminal();
  signal(SIGTSTP, SIG_DFL);
  raise(SIGTSTP);
  signal(SIGTSTP, on_suspend);
  rl_prep_terminal(1);
  screen_accept_pastes(true);
  drawing_begin(NULL);
  drawing_redraw();
}

// Bytes that came, at most `size` and at least one; 0 at the end, and after an interrupt.
static size_t next_bytes(int fd, char *bytes, size_t size) {
  while (!interrupted) {
    if (suspended) suspend();
    if (resized) {
      resized = 0;
      drawing_redraw();
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, -1) < 0) {
      if (errno == EINTR) continue;
      return 0;
    }
    ssize_t n = read(p.fd, bytes, size);
    if (n > 0) return (size_t)n;
    if (n == 0 || (errno != EINTR && errno != EAGAIN)) return 0;
  }
  return 0;
}

// What was read behind the end of a paste.  Else bytes are read one by one: what follows an input may be for a program.
static struct {
  char *bytes;
  size_t at, end, size;
} ahead;

// The next byte; an interrupt gives the input up by pressing Enter.
static int next_byte(FILE *stream) {
  char byte;
  if (interrupted) return '\r';
  if (ahead.at < ahead.end) return (unsigned char)ahead.bytes[ahead.at++];
  if (next_bytes(fileno(stream), &byte, 1)) return (unsigned char)byte;
  return interrupted ? '\r' : EOF;
}

// For readline, which waits a moment for the rest of a key's bytes.
static int has_input(void) {
  struct pollfd p = {.fd = fileno(rl_instream), .events = POLLIN};
  return ahead.at < ahead.end || poll(&p, 1, rl_set_keyboard_input_timeout(-1) / 1000) > 0;
}

// The text of a paste, up to the mark of its end or an interrupt, in blocks: byte by byte 5 MB would take seconds.
static void read_paste(Text *text) {
  static const char mark[] = "\033[201~";
  enum { BLOCK = 1 << 16, MARK = sizeof mark - 1 };
  const char *end = NULL;
  if (!ahead.bytes && !(ahead.bytes = malloc(ahead.size = BLOCK))) return;
  for (size_t looked = 0; !end && !text->failed;) {
    if (ahead.at == ahead.end) {
      ahead.at = 0;
      ahead.end = next_bytes(fileno(rl_instream), ahead.bytes, ahead.size);
      if (ahead.end == 0) return;
    }
    text_add(text, ahead.bytes + ahead.at, ahead.end - ahead.at);
    ahead.at = ahead.end;
    if (text->failed) return;
    end = memmem(text->data + looked, text->length - looked, mark, MARK);
    looked = text->length > MARK ? text->length - MARK : 0;
  }
  if (!end) return;
  size_t length = (size_t)(end - text->data);
  ahead.at = ahead.end - (text->length - length - MARK);
  text->length = length;
  text->data[length] = '\0';
}

// ---- keys ----

static int line_begin(int at) {
  while (at > 0 && rl_line_buffer[at - 1] != '\n') at--;
  return at;
}

static int line_end(int at) {
  while (at < rl_end && rl_line_buffer[at] != '\n') at++;
  return at;
}

// Whether the cursor stands behind two lines of nothing but spaces.
static bool after_empty_lines(void) {
  int begin = line_begin(rl_point), before = begin > 0 ? line_begin(begin - 1) : 0;
  return before > 0 && rl_point == rl_end && (int)strspn(rl_line_buffer + before, " \n") == rl_end - before;
}

// An input that is not complete goes on in the next line; two empty ones end it all the same.
static int accept(int count, int key) {
  (void)count, (void)key;
  int indent;
  if (!interrupted && menu_has_chosen()) return 0;  // taken as it stands; the menu closes
  if (!interrupted && !asking && incomplete(rl_line_buffer, (size_t)rl_end, &indent) && !after_empty_lines()) {
    char line[64];
    incomplete(rl_line_buffer, (size_t)rl_point, &indent);  // as what stands before the cursor asks
    snprintf(line, sizeof line, "\n%*s", indent < 40 ? indent : 40, "");
    rl_insert_text(line);
    return 0;
  }
  drawing_finish();
  fputs(interrupted ? "^C\r\n" : "\r\n", stdout);
  rl_newline(1, '\n');
  return 0;
}

// "end" and its kin go back to where their block began.
static int close_block(int count, int key) {
  char typed[2] = {(char)key, '\0'};
  while (count-- > 0) rl_insert_text(typed);  // rl_insert would take what waits behind this key, too
  int begin = line_begin(rl_point), first = begin;
  while (first < rl_point && rl_line_buffer[first] == ' ') first++;
  static const char *const closers[] = {"end", "until", "else", "elseif", "}", ")"};
  size_t length = (size_t)(rl_point - first);
  for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
    if (strlen(closers[i]) != length || memcmp(rl_line_buffer + first, closers[i], length) != 0) continue;
    int indent = 0;
    session_is_complete(session, rl_line_buffer, (size_t)begin, &indent);
    int extra = first - begin - (indent >= 2 ? indent - 2 : 0);
    if (begin > 0 && extra > 0) {
      rl_delete_text(begin, begin + extra);
      rl_point -= extra;
    }
  }
  return 0;
}

static int choose_in_menu(int by);

static int up(int count, int key);
static int down(int count, int key);

static bool searching;  // the keys go through the inputs that begin like the one that was typed

// To an older or a newer input.
static int through_history(int count, int key, bool older) {
  rl_command_func_t *search = older ? rl_history_search_backward : rl_history_search_forward;
  bool goes_on = rl_last_func == up || rl_last_func == down;
  if (!goes_on) searching = rl_point > 0;
  if (!searching) return older ? rl_get_previous_history(count, key) : rl_get_next_history(count, key);
  if (goes_on) rl_last_func = search;
  return search(count, key);
}

static int up(int count, int key) {
  if (menu_has_chosen()) return choose_in_menu(-1);
  int begin = line_begin(rl_point);
  if (begin == 0) return through_history(count, key, true);
  int above = line_begin(begin - 1), column = rl_point - begin;
  rl_point = above + column < begin - 1 ? above + column : begin - 1;
  return 0;
}

static int down(int count, int key) {
  if (menu_has_chosen()) return choose_in_menu(1);
  int end = line_end(rl_point);
  if (end == rl_end || (searching && (rl_last_func == up || rl_last_func == down)))
    return through_history(count, key, false);
  searching = false;
  int column = rl_point - line_begin(rl_point), below = line_end(end + 1);
  rl_point = end + 1 + column < below ? end + 1 + column : below;
  return 0;
}

// Takes what is suggested; false when nothing is.
static bool take_suggestion(void) {
  const char *text = drawing_suggestion();
  if (text) rl_insert_text(text);
  return text;
}

static int forward(int count, int key) {
  return take_suggestion() ? 0 : rl_forward_char(count, key);
}

static int home(int count, int key) {
  (void)count, (void)key;
  rl_point = line_begin(rl_point);
  return 0;
}

static int end_of_line(int count, int key) {
  (void)count, (void)key;
  if (take_suggestion()) return 0;
  rl_point = line_end(rl_point);
  return 0;
}

static int clear_screen(int count, int key) {
  (void)count, (void)key;
  fputs("\033[H\033[2J", stdout);
  drawing_begin(NULL);
  drawing_redraw();
  return 0;
}

// Takes a paste without the line ends behind it, and a single line without its prompt.
static int paste(int count, int key) {
  int begin = rl_point;
  bool alone = rl_end == 0;
  (void)count, (void)key;
  Text text = {0};
  read_paste(&text);
  for (size_t i = 0; i < text.length; i++)
    if (text.data[i] == '\r') text.data[i] = '\n';
  if (text.length) rl_insert_text(text.data);
  text_free(&text);
  int end = rl_point;
  while (end > begin && strchr("\r\n", rl_line_buffer[end - 1])) end--;
  if (end < rl_point) rl_delete_text(end, rl_point), rl_point = end;
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

static void replace(int begin, int end, const char *text) {
  rl_begin_undo_group();
  rl_delete_text(begin, end);
  rl_point = begin;
  rl_insert_text(text);
  rl_end_undo_group();
}

// The next or the one before in the menu, into the text.
static int choose_in_menu(int by) {
  int begin, end;
  const char *text = menu_choose(by, &begin, &end);
  replace(begin, end, text);
  return 0;
}

static int complete_back(int count, int key) {
  (void)count, (void)key;
  return menu_is_open() ? choose_in_menu(-1) : rl_ding();
}

static int complete(int count, int key) {
  (void)count, (void)key;
  Completions c;
  if (menu_is_open()) return choose_in_menu(1);
  // At a line's beginning Tab indents.
  int begin = line_begin(rl_point), i = begin;
  while (i < rl_point && rl_line_buffer[i] == ' ') i++;
  if (i == rl_point && rl_end > 0 && begin > 0) {
    rl_insert_text("  ");
    return 0;
  }
  session_complete(session, rl_line_buffer, (size_t)rl_end, (size_t)rl_point, &c);
  if (c.count == 0) {
    rl_ding();
    return 0;
  }
  size_t prefix = common_prefix(&c), typed = c.end - c.begin;
  if (prefix > typed || c.count == 1) {
    char *text = strndup(c.items[0].text, prefix);
    if (!text) return 0;
    replace((int)c.begin, (int)c.end, text);
    free(text);
    c.end = c.begin + prefix;
  }
  if (c.count > 1) menu_open(&c);
  return 0;
}

// ---- reading ----

static int bind_keys(void) {
  static const char *const ups[] = {"\\e[A", "\\eOA"}, *const downs[] = {"\\e[B", "\\eOB"},
                           *const homes[] = {"\\e[H", "\\eOH", "\\C-a"}, *const ends[] = {"\\e[F", "\\eOF", "\\C-e"};
  rl_bind_key('\r', accept);
  rl_bind_key('\n', accept);
  rl_bind_keyseq("\\e\\r", accept);
  rl_bind_key('\t', complete);
  rl_bind_keyseq("\\e[Z", complete_back);
  rl_bind_keyseq("\\e[200~", paste);
  rl_bind_key(6, forward);  // Ctrl-F
  rl_bind_keyseq("\\e[C", forward);
  rl_bind_keyseq("\\eOC", forward);
  rl_bind_key('\f', clear_screen);
  for (const char *c = "dlef})"; *c; c++) rl_bind_key(*c, close_block);
  for (int i = 0; i < 2; i++) {
    rl_bind_keyseq(ups[i], up);
    rl_bind_keyseq(downs[i], down);
  }
  for (int i = 0; i < 3; i++) {
    rl_bind_keyseq(homes[i], home);
    rl_bind_keyseq(ends[i], end_of_line);
  }
  return 0;
}

void editor_open(Session *s, bool color) {
  session = s;
  colored = color;
  drawing_open(color);
  rl_readline_name = "nablua";
  rl_outstream = screen_stream();
  rl_catch_signals = 0;
  rl_catch_sigwinch = 0;
  rl_redisplay_function = drawing_redraw;
  rl_getc_function = next_byte;
  rl_input_available_hook = has_input;
  rl_startup_hook = bind_keys;
  rl_pre_input_hook = insert_prefilled;
  stifle_history(5000);
}

// Readline with pastes in brackets, which it asks for only where it draws itself.
static char *read_edited(const char *prompt) {
  screen_accept_pastes(true);
  char *line = readline(prompt);
  screen_accept_pastes(false);
  return line;
}

char *editor_read(int number) {
  char prompt[64];
  interrupted = 0;
  if (!isatty(STDIN_FILENO)) return read_lines(number, plain_line);
  signal(SIGTSTP, on_suspend);
  struct sigaction resize = {.sa_handler = on_resize};  // ends the poll
  sigaction(SIGWINCH, &resize, NULL);
  for (;;) {
    snprintf(prompt, sizeof prompt, colored ? "\001\033[1;32m\002%d>\001\033[0m\002 " : "%d> ", number);
    char continued[32];
    snprintf(continued, sizeof continued, "%d> ", number);
    size_t n = strlen(continued);
    memset(continued, ' ', n);
    continued[n - 2] = '|';
    drawing_begin(continued);
    char *input = leaving ? NULL : read_edited(prompt);
    if (!interrupted || leaving) {
      signal(SIGTSTP, SIG_DFL);
      if (!leaving) return input;
      free(input);
      return NULL;
    }
    interrupted = 0;
    free(input);
  }
}

void editor_remember(const char *input) {
  HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
  if (*input && !(last && strcmp(last->line, input) == 0)) add_history(input);
}

#endif

#ifdef NABLUA_EDITOR_READLINE

// A line with editing and a history of its own.
static char *edited_line(const char *prompt) {
  static HISTORY_STATE own;
  HISTORY_STATE *inputs = history_get_history_state();
  if (!inputs) return NULL;
  history_set_history_state(&own);
  drawing_begin("| ");
  asking = true;
  char *line = read_edited(prompt);
  asking = false;
  if (line && *line && !interrupted) add_history(line);
  HISTORY_STATE *now = history_get_history_state();
  if (now) own = *now;
  free(now);
  history_set_history_state(inputs);
  free(inputs);
  return line;
}

#endif

char *editor_ask(const char *prompt, bool hidden) {
  struct termios before, silent;
  bool quiet = hidden && tcgetattr(STDIN_FILENO, &before) == 0;
  if (quiet) {
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSANOW, &silent);
  }
#ifdef NABLUA_EDITOR_READLINE
  if (session && !hidden && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
    char *line = edited_line(prompt);
    if (!interrupted) return line;
    free(line);
    return NULL;
  }
#endif
  fputs(prompt, stdout);
  fflush(stdout);
  // Not poll alone: a signal may come just before it.
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  while (isatty(STDIN_FILENO) && !interrupted && poll(&input, 1, 100) <= 0) continue;
  bool given_up = interrupted;
  char *line = given_up ? NULL : plain_line("");
  if (given_up) putchar('\n');
  if (quiet) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    putchar('\n');
  }
  return line;
}
