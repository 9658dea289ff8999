// SPDX-License-Identifier: MIT
// Workers of a prompt on other machines: they connect to it, and a thread writes what they say to files, which the
// prompt reads when it comes to it (workers.c).  Who does not know the secret is sent away.
#ifndef NABLUA_DISTANT_H
#define NABLUA_DISTANT_H

#include <stdbool.h>
#include <stddef.h>

enum { DISTANT_DOOR = 600 };

typedef struct Distant Distant;

Distant *nb_distant_open(void);  // NULL with errno

// A worker i (from 0) is to come, whose words go to the file.
bool nb_distant_expect(Distant *d, int i, const char *file);

// From now on they may come.
void nb_distant_listen(Distant *d);

// "ADDRESS,ADDRESS PORT SECRET"
void nb_distant_door(const Distant *d, char text[DISTANT_DOOR]);

// What is sent before the worker has come waits for it.
bool nb_distant_send(Distant *d, int i, const char *text, size_t length);
void nb_distant_interrupt(Distant *d, int i);
bool nb_distant_is_gone(Distant *d, int i);

void nb_distant_close(Distant *d);  // NULL is ignored

#endif
