// SPDX-License-Identifier: MIT
//
// The few lines that the agent says on stderr: built in a fixed buffer and written by one write(2),
// so that they need no stdio, never tear, and may be said in a signal handler.

#ifndef FIBERSCOPE_AGENT_SAY_H
#define FIBERSCOPE_AGENT_SAY_H

#include <stdint.h>

struct say {
    char text[512];
    uint32_t n;
};

// Starts a line with "fiberscope: ". All of these return s, and are async-signal-safe.
struct say *say_begin(struct say *s);
struct say *say_text(struct say *s, const char *text);              // cut where it does not fit;
struct say *say_bytes(struct say *s, const char *text, uint32_t n); // control characters become ?
struct say *say_number(struct say *s, uint64_t n);
struct say *say_hex(struct say *s, uint64_t n); // 0x1f
struct say *say_errno(struct say *s, int code); // code is -errno or errno: its name, "EPERM"

// Ends the line and writes it to stderr; errors are nobody's business.
void say_end(struct say *s);
void say_end_to(struct say *s, int fd);

#endif
