// SPDX-License-Identifier: MIT
// The line of the controls, drawn and obeyed in the middle of what runs: a timer calls for attention 20 times a second
// while controls are shown.
#include "footer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "screen.h"
#include "stop.h"

enum { TICK_NS = 50000000, TICK_MS = 50, ESCAPE_MS = 50, LONGEST_KEY = 16 };

static const double at_once = 0.15;  // seconds that an input may run before the line appears

static Session *session;  // while something runs
static double begun;
static bool prompts;                        // a prompt follows
static bool wanted;                         // there are controls
static bool dirty;                          // the line is not what it should say
static bool keys_are_given, paused;         // keys are for the line; what runs waits
static int waiting;                         // somebody waits for the user
static volatile sig_atomic_t due, taken;    // the timer has called; the terminal is set for the line
static struct termios before, with, given;  // the terminal: without the line, with it, and with keys for it

static void (*give_back)(const char *bytes, size_t length);
static ssize_t (*take_back)(char *bytes, size_t size);

// ---- the timer ----

static void tick(bool on) {
  static timer_t timer;
  static bool made;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
  if (!made && (!on || timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)) return;
  made = true;
  struct itimerspec t = {{0, 0}, {0, 0}};
  if (on) t.it_value.tv_nsec = t.it_interval.tv_nsec = TICK_NS;
  timer_settime(timer, 0, &t, NULL);
}

void footer_attend(void) {
  due = 1;
}

void footer_changed(void) {
  dirty = true;
  if (wanted) return;
  wanted = true;
  if (session) tick(true);
}

// ---- the terminal ----

static void set_modes(const struct termios *modes) {
  tcsetattr(STDIN_FILENO, TCSANOW, modes);
}

static void on_suspend(int number) {
  int kept = errno;
  sigset_t suspend;
  if (taken) set_modes(&before);
  taken = 0;
  signal(SIGTSTP, SIG_DFL);
  raise(number);
  sigemptyset(&suspend);
  sigaddset(&suspend, number);
  sigprocmask(SIG_UNBLOCK, &suspend, NULL);  // here it stops
  errno = kept;
}

// Sets the terminal for the line unless it is; whoever has stopped this program may have set it otherwise.
static void take(void) {
  struct termios now;
  if (tcgetattr(STDIN_FILENO, &now) != 0) return;
  if (!taken) {
    before = with = now;
    with.c_lflag &= ~(tcflag_t)ECHO;
    with.c_cc[VEOL] = '\t';
    given = with;
    given.c_lflag &= ~(tcflag_t)ICANON;
    given.c_cc[VMIN] = given.c_cc[VTIME] = 0;
    signal(SIGTSTP, on_suspend);
    keys_are_given = false;
    dirty = true;
  }
  const struct termios *ours = keys_are_given ? &given : &with;
  taken = 1;
  if (now.c_lflag != ours->c_lflag || now.c_cc[VEOL] != ours->c_cc[VEOL]) set_modes(ours);
}

void footer_rest(void) {
  screen_set_footer(NULL);
  if (!taken) return;
  keys_are_given = false;
  taken = 0;
  set_modes(&before);
  signal(SIGTSTP, SIG_DFL);
}

void footer_wait(void) {
  waiting++;
  footer_rest();
}

void footer_go_on(void) {
  waiting--;
}

// ---- the line ----

static void draw_line(void *user) {
  (void)user;
  ScreenSize size = screen_size();
  char *text = session_controls(session, size.columns - 1, keys_are_given, paused);
  wanted = text;
  screen_set_footer(text);
  free(text);
}

static void draw(void) {
  static int columns;
  if (screen_size().columns != columns) dirty = true;
  columns = screen_size().columns;
  if (dirty) dirty = !session_visit(session, SESSION_LOOK, draw_line, NULL);
}

// ---- keys ----

static bool comes(int ms) {
  struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&p, 1, ms) > 0;
}

static bool read_byte(char *byte) {
  return comes(0) && read(STDIN_FILENO, byte, 1) == 1;
}

// Whether keys are given to the line: a Tab is what was typed first.  Where it comes late there may be more behind it,
// and nobody can look without reading; what is not for the line goes back, which is possible at a prompt alone.
static bool is_asked(void) {
  enum { FEW = 8 };
  char line[FEW];
  int bytes = 0;
  if (ioctl(STDIN_FILENO, FIONREAD, &bytes) != 0 || bytes < 1 || bytes > (prompts ? FEW : 1)) return false;
  ssize_t n = read(STDIN_FILENO, line, sizeof line);  // up to the first Tab or the line's end
  if (n == 1 && *line == '\t') return true;
  if (n > 0) give_back(line, (size_t)n);
  return false;
}

// The name of the key that begins with a byte; "" for one that has none.
static const char *key_of(char first) {
  static const struct {
    const char *bytes, *name;
  } sequences[] = {{"[A", "up"},   {"[B", "down"},  {"[C", "right"}, {"[D", "left"},   {"OA", "up"},
                   {"OB", "down"}, {"OC", "right"}, {"OD", "left"},  {"[Z", "backtab"}};
  static char key[LONGEST_KEY];
  size_t n = 0;
  if (first == '\t') return "tab";
  if (first == '\n' || first == '\r') return "enter";
  if (first == ' ') return "space";
  if (first == '\177' || first == '\b') return "backspace";
  if (first == '\033') {
    while (n < LONGEST_KEY - 1 && comes(n < 2 ? ESCAPE_MS : 0) && read_byte(&key[n])) {
      n++;
      bool ends = n >= 2 && key[n - 1] >= '@' && key[n - 1] <= '~';
      if (ends || (n == 1 && key[0] != '[' && key[0] != 'O')) break;
    }
    key[n] = '\0';
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
      if (strcmp(key, sequences[i].bytes) == 0) return sequences[i].name;
    return n == 0 ? "escape" : "";
  }
  if ((unsigned char)first < ' ') return "";
  key[n++] = first;
  int more = (unsigned char)first >= 0xf0 ? 3 : (unsigned char)first >= 0xe0 ? 2 : (unsigned char)first >= 0xc0 ? 1 : 0;
  while (more-- > 0 && comes(ESCAPE_MS) && read_byte(&key[n])) n++;
  key[n] = '\0';
  return key;
}

typedef struct Press {
  const char *key;
  SessionKey meaning;
} Press;

static void press(void *user) {
  Press *p = user;
  p->meaning = session_controls_key(session, p->key);
}

static void obey(const char *key) {
  Press p = {key, SESSION_KEY_TAKEN};
  if (*key) session_visit(session, SESSION_HANDLE, press, &p);
  dirty = true;
  if (p.meaning == SESSION_KEY_PAUSE) paused = !paused;
  if (p.meaning == SESSION_KEY_LEAVE) keys_are_given = paused = false;
  if (p.meaning == SESSION_KEY_STOP) {
    paused = false;
    session_interrupt(session);
  }
  take();
}

static void take_keys(void) {
  char byte;
  if (!keys_are_given && is_asked()) {
    keys_are_given = dirty = true;
    take();
  }
  while (keys_are_given && !session_interrupted(session) && read_byte(&byte)) obey(key_of(byte));
}

// ---- visits ----

static bool may_draw(void) {
  return waiting == 0 && isatty(STDIN_FILENO) && screen_can_move_cursor() && tcgetpgrp(STDIN_FILENO) == getpgrp() &&
         !session_waits_for_program(session) && (taken || session_clock() - begun > at_once);
}

bool footer_visit(SessionLevel level) {
  if (!due || level <= SESSION_HANDLE) return false;
  due = 0;
  if (!session || !wanted || !may_draw()) return false;
  take();
  do {
    take_keys();
    draw();
    if (!paused) break;
    session_tick(session);
    comes(TICK_MS);
  } while (!session_interrupted(session));
  paused = false;
  if (!wanted) footer_rest();
  return false;
}

void footer_begin(Session *s, bool prompt) {
  session = s;
  prompts = prompt;
  begun = session_clock();
  dirty = true;
  if (wanted) tick(true);
}

void footer_end(void) {
  if (!session) return;
  tick(false);
  footer_rest();
  session = NULL;
}

// ---- reading ----

// Standard input for what runs: the line is not there meanwhile, and visitors come.
static ssize_t read_typed(void *cookie, char *data, size_t size) {
  bool asked = stop_is_asked();
  ssize_t n = take_back(data, size);
  (void)cookie;
  if (n > 0) return n;
  fflush(stdout);
  if (session && !session_may_read(session)) {
    errno = EIO;
    return -1;
  }
  footer_wait();
  while (!comes(2 * TICK_MS)) {
    if (session) session_serve(session);
    if (!asked && stop_is_asked()) {
      errno = EINTR;
      n = -1;
      goto done;
    }
  }
  n = read(STDIN_FILENO, data, size);
done:
  footer_go_on();
  return n;
}

void footer_open(void (*unread)(const char *bytes, size_t length), ssize_t (*take_unread)(char *bytes, size_t size)) {
  give_back = unread;
  take_back = take_unread;
  if (!isatty(STDIN_FILENO) || !screen_can_move_cursor()) return;
  FILE *f = fopencookie(NULL, "r", (cookie_io_functions_t){.read = read_typed});
  if (!f) return;
  stdin = f;
  atexit(footer_end);
}
