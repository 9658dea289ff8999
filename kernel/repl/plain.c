// SPDX-License-Identifier: MIT
// No editor: for pipes, for terminals that cannot move their cursor, and where none was built.
#include "plain.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stop.h"
#include "text.h"

char *plain_line(const char *prompt) {
  char *line = NULL;
  size_t size = 0;
  fputs(prompt, stdout);
  fflush(stdout);
  ssize_t n = getline(&line, &size, stdin);
  if (n < 0) {
    bool given_up = errno == EINTR && stop_is_asked();
    clearerr(stdin);
    free(line);
    return given_up ? strdup("") : NULL;
  }
  if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
  return line;
}

// Whether another line comes at once, as it does from a paste.
static bool more_is_coming(void) {
  enum { MOMENT_MS = 50 };
  struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
  return !isatty(STDIN_FILENO) || poll(&p, 1, MOMENT_MS) > 0;
}

char *plain_read(Session *s, const char *prompt, const char *continued, char *(*read_line)(const char *prompt)) {
  Text block = {0};
  SessionGrowth growth = {0};
  int empty = 0;  // lines at the end
  for (;;) {
    char *line = stop_is_for_good() ? NULL : read_line(block.length ? continued : prompt);
    if (stop_is_asked() && !stop_is_for_good()) {
      stop_forget();
      block.length = 0;
      growth = (SessionGrowth){0};
      putchar('\n');
      free(line);
      continue;
    }
    if (!line && block.length == 0) {
      free(block.data);
      return NULL;
    }
    empty = line && !line[strspn(line, " \t\r")] && block.length > 0 ? empty + 1 : 0;
    if (line && block.length) text_put(&block, "\n");
    if (line) text_put(&block, line);
    bool end = !line || block.failed || (empty >= 2 && !more_is_coming());
    free(line);
    if (end || !session_goes_on(s, block.data ? block.data : "", block.length, &growth))
      return block.data ? block.data : strdup("");
  }
}
