// SPDX-License-Identifier: MIT
// The executable `nablua`: its command line, the script runner, and which prompt to open.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cells.h"
#include "editor.h"
#include "footer.h"
#include "repl.h"
#include "screen.h"
#include "session.h"
#include "stop.h"
#include "text.h"
#include "unicode.h"

enum { EXIT_LUA_ERROR = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

static Session *session;

static void on_sigint(int number) {
  (void)number;
  int kept = errno;
  if (session) session_interrupt(session);
  stop_input();
  errno = kept;
}

static volatile sig_atomic_t leaving;  // the signal that ends the program

static void on_attention(int number) {
  (void)number;
  footer_attend();
  if (session) session_attend(session);
}

// Ctrl-\ at a prompt's terminal; of a script it ends the program, as always.
static void on_pause(int number) {
  (void)number;
  if (session) session_pause(session);
}

// The terminal is gone, or the machine goes down: what runs is stopped, so that what is to be closed is closed.
static void on_leave(int number) {
  leaving = number;
  if (session) session_end_programs(session);
  on_sigint(number);
  stop_inputs();
  alarm(3);  // for what does not stop
}

static void show_value(void *user, int number, const Bundle *value) {
  (void)user;
  (void)number;
  screen_show(value->items[0].data, value->items[0].length, NULL, false);
}

static void show_display(void *user, const Bundle *value, const char *id, bool update) {
  (void)user;
  screen_show(value->items[0].data, value->items[0].length, id, update);
}

static void clear(void *user, bool wait) {
  (void)user;
  screen_clear(wait);
}

// Another program is about to write to the terminal.
static void program(void *user) {
  (void)user;
  footer_rest();
  screen_lend();
}

static bool visit(void *user, SessionLevel level) {
  (void)user;
  return footer_visit(level);
}

static void see_controls(void *user) {
  (void)user;
  footer_changed();
}

static void next_input(void *user, const char *text, bool replace) {
  (void)user, (void)replace;
  editor_prefill(text);
}

// At a prompt the error is told from output by its colour, elsewhere by who says it.
static bool prompting;

// Text of others, as a terminal may be sent it: lines and tabs, and what else would steer it as ^G or \x9b.
static void put_error(FILE *to, const char *text, size_t length) {
  char shown[16];
  Text out = {0};
  for (size_t i = 0, n; i < length; i += n) {
    int columns;
    n = unicode_character(text + i, length - i, &columns);
    size_t made = text[i] == '\n' || text[i] == '\t' ? 0 : unicode_shown(text + i, n, false, shown);
    text_add(&out, made ? shown : text + i, made ? made : n);
  }
  bool raw = !isatty(STDERR_FILENO) || out.failed;
  if (length > 0) fwrite(raw ? text : out.data, 1, raw ? length : out.length, to);
  text_free(&out);
}

static void write_error(FILE *to, const Problem *problem) {
  bool color = prompting && repl_colors();
  fprintf(to, "%s%s", prompting ? "" : "nablua: ", color ? "\033[1;31m" : "");
  put_error(to, problem->message, strlen(problem->message));
  fprintf(to, "%s\n", color ? "\033[0m" : "");
  for (const char *line = problem->frames; *line;) {
    const char *end = strchrnul(line, '\n');
    fputs("  ", to);
    put_error(to, line, (size_t)(end - line));
    fputc('\n', to);
    line = *end ? end + 1 : end;
  }
}

// In one piece, since ranks of a group have one standard error.
static void show_error(void *user, const Problem *problem) {
  char *whole = NULL;
  size_t length;
  (void)user;
  screen_fresh_line();
  FILE *memory = open_memstream(&whole, &length);
  write_error(memory ? memory : stderr, problem);
  if (memory && fclose(memory) == 0) fwrite(whole, 1, length, stderr);
  free(whole);
}

static char *ask(void *user, const char *prompt, bool hidden, size_t *length) {
  (void)user;
  char *line = repl_ask(prompt, hidden);
  *length = line ? strlen(line) : 0;
  return line;
}

static bool paused(void *user, const char *prompt, char **input, size_t *length) {
  (void)user;
  return repl_paused(session, prompt, input, length);
}

static const char usage[] =
    "nablua                      prompt (--no-banner, --no-color)\n"
    "nablua FILE [args...]       run a script\n"
    "nablua -e CODE              run a string; may repeat; -i afterwards: prompt with what it defined\n"
    "nablua -l MODULE            require a module into the global of its name, -l NAME=MODULE into another\n"
    "nablua check FILE...        run notebooks, transcripts or scripts again and say what is not as they have it\n"
    "nablua -                    run standard input; also when standard input is not a terminal\n"
    "nablua -i, -v, -E, -W, --   prompt at the end; version; without LUA_INIT and paths; warnings; end of options\n"
    "nablua --doc [NAME]         print the reference (all of it, or one name) as Markdown\n"
    "nablua --meta               print what editors with a Lua Language Server read\n"
    "nablua --traceback ...      show the library's frames in errors\n"
    "nablua --version | --help\n"
    "Environment, besides LUA_INIT, LUA_PATH, LUA_CPATH, NO_COLOR, TMPDIR, VISUAL, EDITOR, XDG_CONFIG_HOME and "
    "XDG_STATE_HOME:\n";

static void print_usage(FILE *to) {
  char environment[2000];
  session_describe_environment(environment, sizeof environment);
  fprintf(to, "%s%s", usage, environment);
}

// What -e and -l ask for, in their order.
typedef struct Step {
  bool is_module;
  const char *text;
} Step;

typedef struct Options {
  bool interactive, banner, document, meta, version, no_environment, traceback;
  const char *name;  // --doc NAME
  Step steps[64];
  int step_count;
  bool has_code;    // -e is among the steps
  int script;       // its place in argv, 0: none
  bool from_stdin;  // the script is "-"
} Options;

static const char version[] = "nablua " NABLUA_VERSION;

static int bad_usage(const char *what, const char *option) {
  fprintf(stderr, "nablua: %s '%s'\n", what, option);
  print_usage(stderr);
  return EXIT_USAGE;
}

enum { GO_ON = -1 };

// -e CODE, -eCODE, -l MODULE: takes what follows argv[*i] where it is needed.
static int add_step(char **argv, int *i, Options *o) {
  const char *a = argv[*i], *text = a + 2;
  bool is_module = a[1] == 'l';
  if (!*text && !(text = argv[++*i]))
    return bad_usage(is_module ? "the name of a module must follow" : "a string of code must follow", a);
  if (o->step_count == (int)(sizeof o->steps / sizeof *o->steps)) return bad_usage("more than 64 steps at", a);
  o->steps[o->step_count++] = (Step){is_module, text};
  o->has_code = o->has_code || !is_module;
  return GO_ON;
}

// A switch that is a word or a letter; false when it is none.
static bool set_switch(const char *a, Options *o) {
  const struct {
    const char *name;
    bool *on;
  } switches[] = {{"-i", &o->interactive},        {"-v", &o->version},  {"-E", &o->no_environment},
                  {"--traceback", &o->traceback}, {"--meta", &o->meta}, {"-W", NULL}};  // warnings are on
  for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
    if (strcmp(a, switches[i].name) != 0) continue;
    if (switches[i].on) *switches[i].on = true;
    return true;
  }
  if (strcmp(a, "--no-banner") == 0) return !(o->banner = false);
  if (strcmp(a, "--no-color") == 0) return setenv("NO_COLOR", "1", 1) == 0;
  return false;
}

// GO_ON, or the exit status.
static int read_command_line(int argc, char **argv, Options *o) {
  *o = (Options){.banner = true};
  int i = 1, status;
  for (; i < argc && *argv[i] == '-' && argv[i][1]; i++) {
    const char *a = argv[i];
    if (strcmp(a, "--") == 0) {
      if (++i < argc) o->script = i;
      return GO_ON;
    } else if (strcmp(a, "--version") == 0) {
      puts(version);
      return 0;
    } else if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
      print_usage(stdout);
      return 0;
    } else if (a[1] == 'e' || a[1] == 'l') {
      if ((status = add_step(argv, &i, o)) != GO_ON) return status;
    } else if (strcmp(a, "--doc") == 0) {
      o->document = true;
      if (i + 1 < argc) o->name = argv[++i];
    } else if (!set_switch(a, o)) {
      return bad_usage("there is no option", a);
    }
  }
  if (i < argc) {
    o->script = i;
    o->from_stdin = strcmp(argv[i], "-") == 0;
  }
  return GO_ON;
}

static SessionStatus evaluate(const char *code) {
  return session_eval(session, code, strlen(code));
}

// The name reaches Lua as a string of escapes, whatever it is made of.
static SessionStatus print_reference(const char *name) {
  char code[4096];
  size_t used = (size_t)snprintf(code, sizeof code, "io.write(nb.help.markdown(");
  if (name) {
    code[used++] = '"';
    for (; *name && used + 16 < sizeof code; name++)
      used += (size_t)snprintf(code + used, sizeof code - used, "\\%03u", (unsigned char)*name);
    code[used++] = '"';
  }
  snprintf(code + used, sizeof code - used, "), '\\n');");
  return evaluate(code);
}

static int exit_status(SessionStatus status) {
  return status == SESSION_OK ? 0 : status == SESSION_INTERRUPTED ? EXIT_INTERRUPTED : EXIT_LUA_ERROR;
}

// What LUA_INIT asks for: "@file" or code.
static SessionStatus run_init(void) {
  const char *name = "LUA_INIT_5_4", *init = getenv(name);
  if (!init) init = getenv(name = "LUA_INIT");
  if (!init || !*init) return SESSION_OK;
  char chunk[32];
  snprintf(chunk, sizeof chunk, "=%s", name);
  return *init == '@' ? session_run_file(session, init + 1, false) : session_run_text(session, init, chunk);
}

static SessionStatus run_steps(const Options *o) {
  SessionStatus status = SESSION_OK;
  for (int i = 0; i < o->step_count && status == SESSION_OK; i++)
    status = o->steps[i].is_module ? session_require(session, o->steps[i].text) : evaluate(o->steps[i].text);
  return status;
}

static int run(const Options *o, int argc, char **argv) {
  bool prompt = o->interactive;
  if (o->document) return exit_status(print_reference(o->name));
  if (o->meta) return exit_status(evaluate("io.write(nb.help.meta());"));
  session_set_arguments(session, argv, argc, o->script);
  SessionStatus status = o->no_environment ? SESSION_OK : run_init();
  if (status == SESSION_OK) status = run_steps(o);
  if (status == SESSION_OK && o->script) {
    footer_begin(session, false);
    status = session_run_file(session, o->from_stdin ? NULL : argv[o->script], true);
    footer_end();
  } else if (status == SESSION_OK && !o->has_code && !o->script && !o->version) {
    if (isatty(STDIN_FILENO) || o->interactive)
      prompt = true;
    else
      status = session_run_file(session, NULL, true);
  }
  if (prompt) {
    if (o->banner) printf("%s   ?name or help(name) explains, Ctrl-D leaves\n", version);
    prompting = true;
    struct sigaction pause = {.sa_handler = on_pause, .sa_flags = SA_RESTART};
    sigaction(SIGQUIT, &pause, NULL);
    repl_run(session);
    return 0;
  }
  return exit_status(status);
}

// The exit status of a program of the library's that takes the command line from its second word on.
static int check(int argc, char **argv) {
  session_set_arguments(session, argv, argc, 1);
  SessionStatus status = session_run_text(session, "os.exit(require('nablua.session.check').main(arg))", "=check");
  return exit_status(status);
}

// nablua --cells MARKER rich|plain WIDTH FOLDER [DOOR NUMBER], see cells.h
static int serve_cells(int argc, char **argv) {
  char reason[256];
  Sink sink = cells_sink(argv[2]);
  if (argc == 8 && !cells_connect(argv[6], argv[7])) return EXIT_LUA_ERROR;
  if (chdir(argv[5]) != 0 || !(session = session_new(&sink, reason, sizeof reason))) return EXIT_LUA_ERROR;
  session_set_display(session, false, strcmp(argv[3], "rich") == 0, atoi(argv[4]));
  cells_run(session, argv[2]);
  session_free(session);
  return 0;
}

int main(int argc, char **argv) {
  Options options;
  char reason[256];
  Sink sink = {.value = show_value,
               .display = show_display,
               .clear = clear,
               .program = program,
               .next_input = isatty(STDIN_FILENO) ? next_input : NULL,
               .error = show_error,
               .ask = ask,
               .paused = paused,
               .visit = visit,
               .controls = see_controls};
  if ((argc == 6 || argc == 8) && strcmp(argv[1], "--cells") == 0) return serve_cells(argc, argv);
  bool checks = argc > 1 && strcmp(argv[1], "check") == 0;
  int status = read_command_line(argc, argv, &options);
  if (status != GO_ON) return status;
  if (options.version) printf("%s (Lua %s)\n", version, session_lua_version());
  if (options.no_environment) session_ignore_environment();
  screen_open();
  footer_open(editor_unread, editor_take);
  if (!(session = session_new(&sink, reason, sizeof reason))) {
    fprintf(stderr, "nablua: %s\n", reason);
    return EXIT_LUA_ERROR;
  }
  struct sigaction action = {.sa_handler = on_sigint};  // no restart: io.read ends, too
  sigaction(SIGINT, &action, NULL);
  struct sigaction attention = {.sa_handler = on_attention, .sa_flags = SA_RESTART};
  sigaction(SIGURG, &attention, NULL);
  action.sa_handler = on_leave;
  if (signal(SIGHUP, SIG_IGN) != SIG_IGN) sigaction(SIGHUP, &action, NULL);  // nohup wants it ignored
  sigaction(SIGTERM, &action, NULL);
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error, not the end
  session_set_traceback(session, options.traceback);
  session_set_display(session, repl_colors(), false, 0);
  status = checks ? check(argc, argv) : run(&options, argc, argv);
  screen_finish();
  session_free(session);
  bool lost = fflush(stdout) != 0 || ferror(stdout);
  if (lost && fcntl(STDOUT_FILENO, F_GETFD) >= 0) {
    fputs("nablua: some of the output could not be written; is the disk full?\n", stderr);
    if (status == 0) status = EXIT_LUA_ERROR;
  }
  return leaving ? 128 + leaving : status;
}
