// SPDX-License-Identifier: MIT
// Ctrl-R and Ctrl-S, vi's /, ?, n and N: looking through all inputs for one that holds a text, in letters large or
// small.
#ifndef NABLUA_SEARCH_H
#define NABLUA_SEARCH_H

// `older` is called before the first search, to bring all inputs into the history.
void search_open(void (*older)(void));

// Takes the keys until one ends the search; that one then does what it does elsewhere.
int search_back(int count, int key);
int search_forward(int count, int key);

// The same text once more, from the input that is shown on.
int search_again_back(int count, int key);
int search_again_forward(int count, int key);

#endif
