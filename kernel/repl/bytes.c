// SPDX-License-Identifier: MIT
// Bytes are read one by one, since what follows an input may be for a program; only pastes are read in blocks.
//
// A key that sends several bytes is read to its end here.  Readline gets those that somebody has given a meaning; any
// other would leave its last bytes in the text.
#include "bytes.h"

#include <errno.h>
#include <poll.h>
#include <readline/readline.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// How long the bytes of one key may be apart: after Esc, which is a key itself, and after what begins one for certain.
enum { ESCAPE_MS = 50, REST_MS = 500, LONGEST_KEY = 64 };

static BytesEvents events;

// ---- signals ----

static volatile sig_atomic_t suspended, resized;

static void on_suspend(int number) {
  (void)number;
  suspended = 1;
}

static void on_resize(int number) {
  (void)number;
  resized = 1;
}

static void suspend(void) {
  suspended = 0;
  events.suspend();
  rl_deprep_terminal();
  signal(SIGTSTP, SIG_DFL);
  raise(SIGTSTP);
  signal(SIGTSTP, on_suspend);
  rl_prep_terminal(1);
  events.resume();
}

void bytes_begin(void) {
  signal(SIGTSTP, on_suspend);
  struct sigaction resize = {.sa_handler = on_resize};  // ends the poll
  sigaction(SIGWINCH, &resize, NULL);
}

void bytes_end(void) {
  signal(SIGTSTP, SIG_DFL);
}

// ---- reading ----

// What was read and not handed out: the rest of a key, or what stood behind the end of a paste.
static struct {
  char *bytes;
  size_t at, end, size;
  size_t of_key;  // so many of them are the rest of a key
} ahead;

enum { BLOCK = 1 << 16 };  // bytes read at once of a paste

static bool make_room(void) {
  return ahead.bytes || (ahead.bytes = malloc(ahead.size = BLOCK));
}

// Waits until there is something to read: 1; 0 where a signal wants attention, which is not missed when it comes just
// before the wait; -1 at an error.
static int wait_for_byte(int fd) {
  static const int asking[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
  sigset_t held, before;
  sigemptyset(&held);
  for (size_t i = 0; i < sizeof asking / sizeof *asking; i++) sigaddset(&held, asking[i]);
  sigprocmask(SIG_BLOCK, &held, &before);
  struct pollfd p = {.fd = fd, .events = POLLIN};
  bool asked = events.interrupted() || suspended || resized;
  int ready = asked ? 0 : ppoll(&p, 1, NULL, &before);
  if (ready < 0 && errno == EINTR) ready = 0;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return ready;
}

// Bytes that came, at most `size` and at least one; 0 at the end, and after an interrupt.
static size_t read_some(int fd, char *bytes, size_t size) {
  while (!events.interrupted()) {
    if (suspended) suspend();
    if (resized) {
      resized = 0;
      events.resized();
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 0) == 0) events.wait();
    int ready = wait_for_byte(fd);
    if (ready < 0) return 0;
    if (ready == 0) continue;
    ssize_t n = read(p.fd, bytes, size);
    if (n > 0) return (size_t)n;
    if (n == 0 || (errno != EINTR && errno != EAGAIN)) return 0;
  }
  return 0;
}

void bytes_unread(const char *bytes, size_t length) {
  if (!make_room()) return;
  if (ahead.at == ahead.end) ahead.at = ahead.end = 0;
  if (length > ahead.size - ahead.end) return;
  memcpy(ahead.bytes + ahead.end, bytes, length);
  ahead.end += length;
}

size_t bytes_take(char *bytes, size_t size) {
  size_t n = ahead.end - ahead.at;
  if (n > size) n = size;
  if (n > 0) memcpy(bytes, ahead.bytes + ahead.at, n);
  ahead.at += n;
  return n;
}

int bytes_waiting(void) {
  int typed = 0;
  if (ioctl(fileno(rl_instream ? rl_instream : stdin), FIONREAD, &typed) != 0) typed = 0;
  return typed + (int)(ahead.end - ahead.at);
}

bool bytes_are_held(void) {
  return ahead.of_key > 0;
}

// Whether another byte comes within so many milliseconds.
static bool comes_within(int ms) {
  struct pollfd p = {.fd = fileno(rl_instream), .events = POLLIN};
  return ahead.at < ahead.end || (!events.interrupted() && poll(&p, 1, ms) > 0);
}

static int one_byte(void) {
  char byte;
  if (ahead.at < ahead.end) return (unsigned char)ahead.bytes[ahead.at++];
  return read_some(fileno(rl_instream), &byte, 1) ? (unsigned char)byte : -1;
}

// ---- keys of several bytes ----

typedef struct Key {
  char bytes[LONGEST_KEY + 1];
  size_t length;
} Key;

static bool add_byte(Key *k, int ms) {
  int byte = comes_within(ms) ? one_byte() : -1;
  if (byte < 0) return false;
  if (k->length < LONGEST_KEY) k->bytes[k->length++] = (char)byte;
  return true;
}

static int last_of(const Key *k) {
  return (unsigned char)k->bytes[k->length - 1];
}

// Esc [ parameters final; the Linux console's F1 is Esc [ [ A, rxvt ends with $, a mouse sends three bytes more.
static void read_csi(Key *k) {
  size_t begin = k->length;
  while (add_byte(k, REST_MS)) {
    int byte = last_of(k);
    if (byte == '[' && k->length == begin + 1) {
      add_byte(k, REST_MS);
      return;
    }
    if (byte == '$' && k->length > begin + 1 && !comes_within(ESCAPE_MS)) return;
    if (byte >= 0x40 && byte <= 0x7e) {
      bool mouse = byte == 'M' && k->length == begin + 1;
      for (int i = 0; mouse && i < 3; i++) add_byte(k, REST_MS);
      return;
    }
    if (byte < 0x20 || byte > 0x7e) return;
  }
}

// Esc O letter, with a number before it where a terminal sends modifiers so.
static void read_ss3(Key *k) {
  while (add_byte(k, ESCAPE_MS)) {
    int byte = last_of(k);
    if (!((byte >= '0' && byte <= '9') || byte == ';')) return;
  }
}

// Whether somebody has given the key a meaning: we, or the user in his inputrc.
static bool is_bound(const char *bytes, size_t length) {
  int type;
  rl_command_func_t *f = rl_function_of_keyseq_len(bytes, length, NULL, &type);
  return f && type != ISKMAP;
}

// Puts bytes before those that are to be handed out.
static bool put_back(const char *bytes, size_t length) {
  if (!make_room()) return false;
  size_t left = ahead.end - ahead.at;
  if (length + left > ahead.size) return false;
  memmove(ahead.bytes + length, ahead.bytes + ahead.at, left);
  memcpy(ahead.bytes, bytes, length);
  ahead.at = 0;
  ahead.end = length + left;
  return true;
}

static void hold(const char *bytes, size_t length) {
  if (put_back(bytes, length)) ahead.of_key = length;
}

// Takes what the terminal answers to a question, up to its end mark.  In vi's modes it may be Esc and commands, P or ^,
// as well: false then, and nothing is taken, when no mark comes.
static bool read_answer(void) {
  bool vi = rl_editing_mode == 0, ended = false;
  Text text = {0};
  for (int before = 0, byte; !ended && comes_within(vi ? ESCAPE_MS : REST_MS) && (byte = one_byte()) >= 0;
       before = byte) {
    ended = byte == '\a' || (before == '\033' && byte == '\\');
    if (vi) text_add(&text, &(char){(char)byte}, 1);
  }
  if (vi && !ended && !text.failed) put_back(text.data, text.length);
  text_free(&text);
  return ended || !vi;
}

// Reads what follows an Esc.  True when readline gets the Esc, and what is held after it.  In vi's modes Esc and a
// letter may be two keys.
static bool read_key(void) {
  Key k = {.bytes = "\033", .length = 1};
  size_t from = 0;
  if (!add_byte(&k, ESCAPE_MS)) return true;
  if (last_of(&k) == '\033' && comes_within(ESCAPE_MS)) {  // rxvt's Alt before a key of several bytes
    from = 1;
    add_byte(&k, ESCAPE_MS);
  }
  switch (last_of(&k)) {
    case '[':
      read_csi(&k);
      break;
    case 'O':
      if (!comes_within(ESCAPE_MS)) break;  // Alt-O
      read_ss3(&k);
      break;
    case ']':
    case 'P':
    case '_':
    case '^':
      if (!comes_within(ESCAPE_MS) || !read_answer()) break;
      return false;
    default:
      from = 0;
      hold(k.bytes + 1, k.length - 1);
      return true;
  }
  if (!is_bound(k.bytes, k.length)) {
    bool two_keys = k.length == 2 && rl_editing_mode == 0;
    if (!two_keys && (from == 0 || !is_bound(k.bytes + from, k.length - from))) return false;
    memmove(k.bytes, k.bytes + from, k.length -= from);
  }
  hold(k.bytes + 1, k.length - 1);
  return true;
}

// ---- for readline ----

static Text kept;
static bool keeps;
static bool lone_escape;  // what was handed out last is an Esc that nothing follows: it was waited for here

static int next_byte(FILE *stream) {
  (void)stream;
  for (;;) {
    if (events.interrupted()) return '\r';
    int byte = one_byte();
    if (byte < 0) return events.interrupted() ? '\r' : EOF;
    if (ahead.of_key > 0)
      ahead.of_key--;
    else if (byte == '\033' && !read_key())
      continue;
    lone_escape = byte == '\033' && ahead.of_key == 0;
    if (keeps) text_add(&kept, &(char){(char)byte}, 1);
    return byte;
  }
}

// For readline, which waits a moment for the rest of a key's bytes.
static int has_input(void) {
  return !lone_escape && comes_within(rl_set_keyboard_input_timeout(-1) / 1000);
}

void bytes_open(const BytesEvents *e) {
  events = *e;
  rl_getc_function = next_byte;
  rl_input_available_hook = has_input;
}

void bytes_read_paste(Text *text) {
  static const char mark[] = "\033[201~";
  enum { MARK = sizeof mark - 1 };
  const char *end = NULL;
  if (!make_room()) return;
  for (size_t looked = 0; !end && !text->failed;) {
    if (ahead.at == ahead.end) {
      ahead.at = 0;
      ahead.end = read_some(fileno(rl_instream), ahead.bytes, ahead.size);
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

void bytes_keep(const char *first) {
  kept.length = 0;
  keeps = first;
  if (first) text_put(&kept, first);
}

const char *bytes_kept(void) {
  if (keeps && kept.failed) text_free(&kept);
  return kept.data && kept.length > 0 ? kept.data : NULL;
}
