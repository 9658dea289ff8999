// SPDX-License-Identifier: MIT
// Editing with readline: Enter continues an input that is not complete, arrows move inside the block, the text is
// coloured as Lua, Tab completes with what a name is.
//
// The block is drawn by our own redisplay, because readline's knows neither colours in the text nor a prompt for
// continued lines.
#include "editor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "screen.h"

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

// ---- without an editor ----

typedef struct Block {
  char *data;
  size_t length, capacity;
} Block;

static bool append(Block *t, const char *data, size_t length) {
  if (t->length + length + 1 > t->capacity) {
    size_t capacity = (t->length + length + 1) * 2;
    char *bigger = realloc(t->data, capacity);
    if (!bigger) return false;
    t->data = bigger;
    t->capacity = capacity;
  }
  memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = '\0';
  return true;
}

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

static bool incomplete(const char *text, size_t length, int *indent) {
  return session_is_complete(session, text, length, indent) == SESSION_INCOMPLETE;
}

// Line by line until the input is complete; an empty line ends it as it is.
static char *read_lines(int number, char *(*read_line)(const char *prompt)) {
  Block block = {0};
  char prompt[32];
  for (;;) {
    snprintf(prompt, sizeof prompt, "%d> ", number);
    if (block.length) memset(prompt, ' ', strlen(prompt) - 2), prompt[strlen(prompt) - 2] = '|';
    char *line = read_line(prompt);
    if (interrupted) {
      interrupted = 0;
      block.length = 0;
      putchar('\n');
      free(line);
      continue;
    }
    bool end = !line || (!*line && block.length > 0);
    if (!line && block.length == 0) {
      free(block.data);
      return NULL;
    }
    if (line && ((block.length && !append(&block, "\n", 1)) || !append(&block, line, strlen(line)))) end = true;
    free(line);
    if (end || !incomplete(block.data, block.length, NULL)) return block.data;
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

void editor_remember(const char *input) {
#ifdef NABLUA_EDITOR_LIBEDIT
  add_history(input);
#else
  (void)input;
#endif
}

#else

// ---- drawing ----

static int rows_above_cursor;  // of the block as it was drawn last
static int drawn_width;        // of the terminal then

static const char *color_code(SessionColor color) {
  static const char *const codes[] = {"", "\033[35m", "\033[36m", "\033[32m", "\033[90m", "\033[33m"};
  return codes[color];
}

static int character(const char *text, size_t length, int *columns) {
  int bytes;
  *columns = screen_columns(text, length, &bytes);
  return bytes;
}

// Where drawing has come to.
typedef struct Pen {
  Block out;
  int row, column, width;
  int cursor_row, cursor_column;
} Pen;

static void put(Pen *p, const char *text) {
  append(&p->out, text, strlen(text));
}

static void put_character(Pen *p, const char *text, size_t length, int columns) {
  if (p->column + columns > p->width) {
    p->row++;
    p->column = 0;
  }
  append(&p->out, text, length);
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
    int columns, n = character(prompt + i, length - i, &columns);
    if (prompt[i] == RL_PROMPT_START_IGNORE || prompt[i] == RL_PROMPT_END_IGNORE)
      hidden = prompt[i] == RL_PROMPT_START_IGNORE;
    else if (hidden)
      append(&p->out, prompt + i, (size_t)n);
    else
      put_character(p, prompt + i, (size_t)n, columns);
    i += (size_t)n;
  }
}

static char continued[32];  // the prompt of further lines

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
    int columns, n = character(text + i, length - i, &columns);
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
      put_character(p, text + i, (size_t)n, columns);
    }
    i += (size_t)n;
  }
  if (color != SESSION_PLAIN) put(p, "\033[0m");
}

static void move(Pen *p, int rows) {
  char code[16];
  if (rows == 0) return;
  snprintf(code, sizeof code, "\033[%d%c", rows < 0 ? -rows : rows, rows < 0 ? 'A' : 'B');
  put(p, code);
}

// The block as it looks at this width, from where the pen is.
static void put_block(Pen *p) {
  put_prompt(p, rl_display_prompt ? rl_display_prompt : "");
  put_text(p, rl_line_buffer, (size_t)rl_end, (size_t)rl_point);
}

static void redisplay(void) {
  Pen p = {.width = screen_size().columns};
  char code[16];
  if (p.width != drawn_width && rows_above_cursor > 0) {  // the terminal has wrapped what stands there anew
    Pen anew = {.width = p.width};
    put_block(&anew);
    rows_above_cursor = anew.cursor_row;
    free(anew.out.data);
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
  free(p.out.data);
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
  if (!interrupted && incomplete(rl_line_buffer, (size_t)rl_end, &indent) && !after_empty_lines()) {
    char line[64];
    incomplete(rl_line_buffer, (size_t)rl_point, &indent);  // as what stands before the cursor asks
    snprintf(line, sizeof line, "\n%*s", indent < 40 ? indent : 40, "");
    rl_insert_text(line);
    return 0;
  }
  rl_point = rl_end;
  redisplay();
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

static int up(int count, int key) {
  int begin = line_begin(rl_point);
  if (begin == 0) return rl_get_previous_history(count, key);
  int above = line_begin(begin - 1), column = rl_point - begin;
  rl_point = above + column < begin - 1 ? above + column : begin - 1;
  return 0;
}

static int down(int count, int key) {
  int end = line_end(rl_point);
  if (end == rl_end) return rl_get_next_history(count, key);
  int column = rl_point - line_begin(rl_point), below = line_end(end + 1);
  rl_point = end + 1 + column < below ? end + 1 + column : below;
  return 0;
}

static int home(int count, int key) {
  (void)count, (void)key;
  rl_point = line_begin(rl_point);
  return 0;
}

static int end_of_line(int count, int key) {
  (void)count, (void)key;
  rl_point = line_end(rl_point);
  return 0;
}

static int clear_screen(int count, int key) {
  (void)count, (void)key;
  fputs("\033[H\033[2J", stdout);
  rows_above_cursor = 0;
  redisplay();
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
  while (n > 0 && ((unsigned char)c->items[0].text[n] & 0xC0) == 0x80) n--;
  return n;
}

static int text_columns(const char *text) {
  int total = 0, columns;
  for (size_t length = strlen(text), i = 0; i < length;
       i += (size_t)character(text + i, length - i, &columns), total += columns)
    ;
  return total;
}

// Prints text cut to so many columns.
static void print_cut(const char *text, int most) {
  size_t length = strlen(text), i = 0;
  for (int used = 0, columns; i < length && text[i] != '\n'; i += (size_t)character(text + i, length - i, &columns)) {
    character(text + i, length - i, &columns);
    if (used + columns > most) break;
    used += columns;
  }
  fwrite(text, 1, i, stdout);
}

// The matches below the block: with what they are while they are few, in columns when many.
static void show_matches(const Completions *c) {
  enum { DESCRIBED = 16 };
  ScreenSize size = screen_size();
  int rows = size.rows, width = size.columns, widest = 0, point = rl_point;
  for (int i = 0; i < c->count; i++) {
    int columns = text_columns(c->items[i].text);
    if (columns > widest) widest = columns;
  }
  rl_point = rl_end;
  redisplay();
  rl_point = point;
  fputs("\n", stdout);
  int across = c->count <= DESCRIBED ? 1 : width / (widest + 2);
  if (across < 1) across = 1;
  int lines = (c->count + across - 1) / across, most = rows > 6 ? rows - 4 : 2;
  for (int line = 0; line < lines && line < most; line++) {
    for (int k = 0; k < across && line + k * lines < c->count; k++) {
      const Completion *item = &c->items[line + k * lines];
      printf("%s%*s  ", item->text, widest - text_columns(item->text), "");
      if (across > 1) continue;
      if (colored) fputs("\033[90m", stdout);
      printf("%-9s ", item->kind);
      print_cut(item->note, width - widest - 14);
      if (colored) fputs("\033[0m", stdout);
    }
    fputc('\n', stdout);
  }
  if (lines > most) printf("... %d in all\n", c->count);
  rows_above_cursor = 0;
  redisplay();
}

static int complete(int count, int key) {
  (void)count, (void)key;
  Completions c;
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
    rl_begin_undo_group();
    rl_delete_text((int)c.begin, (int)c.end);
    rl_point = (int)c.begin;
    rl_insert_text(text);
    rl_end_undo_group();
    free(text);
  } else {
    show_matches(&c);
  }
  return 0;
}

// ---- reading ----

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
  rl_deprep_terminal();
  signal(SIGTSTP, SIG_DFL);
  raise(SIGTSTP);
  signal(SIGTSTP, on_suspend);
  rl_prep_terminal(1);
  rows_above_cursor = 0;
  redisplay();
}

// The next byte; an interrupt gives the input up by pressing Enter.
static int next_byte(FILE *stream) {
  for (;;) {
    unsigned char byte;
    if (interrupted) return '\r';
    if (suspended) suspend();
    if (resized) {
      resized = 0;
      redisplay();
    }
    struct pollfd p = {.fd = fileno(stream), .events = POLLIN};
    if (poll(&p, 1, -1) < 0) {
      if (errno == EINTR) continue;
      return EOF;
    }
    ssize_t n = read(p.fd, &byte, 1);
    if (n == 1) return byte;
    if (n == 0 || (errno != EINTR && errno != EAGAIN)) return EOF;
  }
}

static int bind_keys(void) {
  static const char *const ups[] = {"\\e[A", "\\eOA"}, *const downs[] = {"\\e[B", "\\eOB"},
                           *const homes[] = {"\\e[H", "\\eOH", "\\C-a"}, *const ends[] = {"\\e[F", "\\eOF", "\\C-e"};
  rl_bind_key('\r', accept);
  rl_bind_key('\n', accept);
  rl_bind_keyseq("\\e\\r", accept);
  rl_bind_key('\t', complete);
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
  rl_readline_name = "nablua";
  rl_outstream = screen_stream();
  rl_catch_signals = 0;
  rl_catch_sigwinch = 0;
  rl_redisplay_function = redisplay;
  rl_getc_function = next_byte;
  rl_startup_hook = bind_keys;
  rl_variable_bind("enable-bracketed-paste", "on");
  stifle_history(5000);
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
    snprintf(continued, sizeof continued, "%d> ", number);
    size_t n = strlen(continued);
    memset(continued, ' ', n);
    continued[n - 2] = '|';
    rows_above_cursor = 0;
    char *input = readline(prompt);
    if (!interrupted) {
      signal(SIGTSTP, SIG_DFL);
      return input;
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

char *editor_ask(const char *prompt, bool hidden) {
  struct termios before, silent;
  bool quiet = hidden && tcgetattr(STDIN_FILENO, &before) == 0;
  if (quiet) {
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSANOW, &silent);
  }
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
