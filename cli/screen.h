// SPDX-License-Identifier: MIT
//
// A terminal that is ours for a while: keys one by one, a screen of our own, no cursor.
//
// Invariant: however the program ends, but for SIGKILL, the terminal is afterwards as it was before: screen_leave on
// the ways that we know, a handler on the signals of a crash. One per program; the main thread's.

#ifndef FIBERSCOPE_CLI_SCREEN_H
#define FIBERSCOPE_CLI_SCREEN_H

#include <stdbool.h>

enum screen_key { // else the character itself
    SCREEN_KEY_NONE = 0,
    SCREEN_KEY_TAB = '\t',
    SCREEN_KEY_ENTER = '\r',
    SCREEN_KEY_ESCAPE = 27,
    SCREEN_KEY_BACKSPACE = 127,
    SCREEN_KEY_UP = 256,
    SCREEN_KEY_DOWN,
    SCREEN_KEY_PAGE_UP,
    SCREEN_KEY_PAGE_DOWN,
    SCREEN_KEY_HOME,
    SCREEN_KEY_END,
    SCREEN_KEY_OTHER, // an escape sequence that means nothing here
    SCREEN_KEY_GONE,  // the terminal hung up
};

// Whether standard input and output are a terminal that can be drawn on (TERM is set, and not "dumb").
bool screen_can_be(void);

int screen_enter(void);  // 0 or -errno. Entered already: the modes are set again
void screen_leave(void); // not entered: nothing happens

// Rows and columns as they are now; at least 1 of each.
void screen_size(int *rows, int *columns);

// The next key of what has been typed, SCREEN_KEY_NONE if nothing more has. UTF-8 comes byte by byte.
int screen_key(void);

// All of text, however long the terminal takes. False: it is gone.
bool screen_write(const char *text, unsigned long size);

#endif
