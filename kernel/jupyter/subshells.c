// SPDX-License-Identifier: MIT
// Subshells: prompts beside the main one, whose cells are evaluated between two instructions of what that runs
// (Jupyter's enhancement proposal 91).  They have names, counts and queues of their own; the variables are the
// session's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "kernel.h"

json_t *subshell_create(Kernel *k) {
  Subshell *s = calloc(1, sizeof *s);
  uuid_t id;
  if (!s)
    return json_pack("{s:s, s:s, s:s, s:[]}", "status", "error", "ename", "MemoryError", "evalue",
                     "there is no memory for a subshell", "traceback");
  uuid_generate_random(id);
  uuid_unparse_lower(id, s->id);
  json_t *answer = json_pack("{s:s}", "subshell_id", s->id);
  pthread_mutex_lock(&k->lock);
  s->place = ++k->subshells_made;
  s->jobs = 1;  // the list's
  s->next = k->subshells;
  k->subshells = s;
  pthread_mutex_unlock(&k->lock);
  return answer;
}

json_t *subshell_delete(Kernel *k, const char *id) {
  bool found = false;
  pthread_mutex_lock(&k->lock);
  for (Subshell **at = &k->subshells; *at && !found;) {
    Subshell *s = *at;
    found = strcmp(s->id, id) == 0;
    if (!found) {
      at = &s->next;
      continue;
    }
    *at = s->next;
    s->deleted = true;
    subshell_let_go(s);
  }
  pthread_mutex_unlock(&k->lock);
  return found ? json_object() : NULL;
}

json_t *subshell_list(Kernel *k) {
  json_t *list = json_array();
  pthread_mutex_lock(&k->lock);
  for (const Subshell *s = k->subshells; s; s = s->next) json_array_insert_new(list, 0, json_string(s->id));
  pthread_mutex_unlock(&k->lock);
  return json_pack("{s:o}", "subshell_id", list);
}

Subshell *subshell_hold(Kernel *k, const char *id) {
  for (Subshell *s = k->subshells; s; s = s->next) {
    if (strcmp(s->id, id) != 0) continue;
    s->jobs++;
    return s;
  }
  return NULL;
}

void subshell_let_go(Subshell *s) {
  if (--s->jobs == 0) free(s);
}
