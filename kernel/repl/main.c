// SPDX-License-Identifier: MIT
// The executable `nablua`: its command line, the script runner, and which prompt to open.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "editor.h"
#include "repl.h"
#include "screen.h"
#include "session.h"

enum { EXIT_LUA_ERROR = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

static Session *session;

static void on_sigint(int number) {
  (void)number;
  int kept = errno;
  if (session) session_interrupt(session);
  editor_interrupt();
  errno = kept;
}

static volatile sig_atomic_t leaving;  // the signal that ends the program

// The terminal is gone, or the machine goes down: what runs is stopped, so that what is to be closed is closed.
static void on_leave(int number) {
  leaving = number;
  on_sigint(number);
  editor_leave();
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
  screen_begin();
}

// At a prompt the error is told from output by its colour, elsewhere by who says it.
static bool prompting;

static void show_error(void *user, const Problem *problem) {
  (void)user;
  bool color = prompting && repl_colors();
  screen_fresh_line();
  fprintf(stderr, "%s%s%s%s\n", prompting ? "" : "nablua: ", color ? "\033[1;31m" : "", problem->message,
          color ? "\033[0m" : "");
  for (const char *line = problem->frames; *line;) {
    const char *end = strchrnul(line, '\n');
    fprintf(stderr, "  %.*s\n", (int)(end - line), line);
    line = *end ? end + 1 : end;
  }
}

static char *ask(void *user, const char *prompt, bool hidden, size_t *length) {
  (void)user;
  char *line = repl_ask(prompt, hidden);
  *length = line ? strlen(line) : 0;
  return line;
}

static const char usage[] =
    "nablua                      prompt (--no-banner, --no-color)\n"
    "nablua FILE [args...]       run a script\n"
    "nablua -e CODE              run a string; may repeat; -i afterwards: prompt with what it defined\n"
    "nablua -                    run standard input; also when standard input is not a terminal\n"
    "nablua --doc [NAME]         print the reference (all of it, or one name) as Markdown\n"
    "nablua --meta               print what editors with a Lua Language Server read\n"
    "nablua --traceback ...      show the library's frames in errors\n"
    "nablua --version | --help\n"
    "Environment, besides LUA_PATH, LUA_CPATH, NO_COLOR, VISUAL, EDITOR, XDG_CONFIG_HOME and XDG_STATE_HOME:\n";

static void print_usage(FILE *to) {
  char environment[2000];
  session_describe_environment(environment, sizeof environment);
  fprintf(to, "%s%s", usage, environment);
}

typedef struct Options {
  bool interactive, banner, document, meta;
  const char *name;      // --doc NAME
  const char *code[64];  // -e
  int code_count;
  const char *file;
  char **arguments;
  int argument_count;
} Options;

static int bad_usage(const char *what, const char *option) {
  fprintf(stderr, "nablua: %s '%s'\n", what, option);
  print_usage(stderr);
  return EXIT_USAGE;
}

// -1 to go on, else the exit status.
static int read_command_line(int argc, char **argv, Options *o, bool *traceback) {
  *o = (Options){.banner = true};
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i];
    if (strcmp(a, "--version") == 0) {
      puts("nablua " NABLUA_VERSION);
      return 0;
    } else if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
      print_usage(stdout);
      return 0;
    } else if (strcmp(a, "--no-banner") == 0) {
      o->banner = false;
    } else if (strcmp(a, "--no-color") == 0) {
      setenv("NO_COLOR", "1", 1);
    } else if (strcmp(a, "--traceback") == 0) {
      *traceback = true;
    } else if (strcmp(a, "-i") == 0) {
      o->interactive = true;
    } else if (strcmp(a, "-e") == 0) {
      if (++i == argc) return bad_usage("a string of code must follow", a);
      if (o->code_count == 64) return bad_usage("more than 64 strings of code at", a);
      o->code[o->code_count++] = argv[i];
    } else if (strcmp(a, "--doc") == 0) {
      o->document = true;
      if (i + 1 < argc) o->name = argv[++i];
    } else if (strcmp(a, "--meta") == 0) {
      o->meta = true;
    } else if (*a == '-' && a[1]) {
      return bad_usage("there is no option", a);
    } else {
      o->file = a;
      o->arguments = argv + i + 1;
      o->argument_count = argc - i - 1;
      break;
    }
  }
  return -1;
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

static int run(const Options *o) {
  SessionStatus status = SESSION_OK;
  bool prompt = o->interactive;
  if (o->document) return exit_status(print_reference(o->name));
  if (o->meta) return exit_status(evaluate("io.write(nb.help.meta());"));
  for (int i = 0; i < o->code_count && status == SESSION_OK; i++) status = evaluate(o->code[i]);
  if (status == SESSION_OK && o->file)
    status = session_run_file(session, o->file, o->arguments, o->argument_count);
  else if (!o->code_count && !o->file) {
    if (isatty(STDIN_FILENO) || o->interactive)
      prompt = true;
    else
      status = session_run_file(session, "-", NULL, 0);
  }
  if (prompt) {
    if (o->banner) puts("nablua " NABLUA_VERSION "   ?name or help(name) explains, Ctrl-D leaves");
    prompting = true;
    repl_run(session);
    return 0;
  }
  return exit_status(status);
}

int main(int argc, char **argv) {
  Options options;
  bool traceback = false;
  char reason[256];
  Sink sink = {.value = show_value,
               .display = show_display,
               .clear = clear,
               .program = program,
               .error = show_error,
               .ask = ask};
  int status = read_command_line(argc, argv, &options, &traceback);
  if (status >= 0) return status;
  screen_open();
  if (!(session = session_new(&sink, reason, sizeof reason))) {
    fprintf(stderr, "nablua: %s\n", reason);
    return EXIT_LUA_ERROR;
  }
  struct sigaction action = {.sa_handler = on_sigint};  // no restart: io.read ends, too
  sigaction(SIGINT, &action, NULL);
  action.sa_handler = on_leave;
  if (signal(SIGHUP, SIG_IGN) != SIG_IGN) sigaction(SIGHUP, &action, NULL);  // nohup wants it ignored
  sigaction(SIGTERM, &action, NULL);
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error, not the end
  session_set_traceback(session, traceback);
  session_set_display(session, repl_colors(), false, 0);
  status = run(&options);
  screen_finish();
  session_free(session);
  bool lost = fflush(stdout) != 0 || ferror(stdout);
  if (lost && fcntl(STDOUT_FILENO, F_GETFD) >= 0) {
    fputs("nablua: some of the output could not be written; is the disk full?\n", stderr);
    if (status == 0) status = EXIT_LUA_ERROR;
  }
  return leaving ? 128 + leaving : status;
}
