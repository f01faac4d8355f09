// SPDX-License-Identifier: MIT
//
// Printing without stdio, for handlers and dying programs: a buffer on the stack and write(2).

#ifndef FIBERSCOPE_RUNTIME_PRINT_H
#define FIBERSCOPE_RUNTIME_PRINT_H

#include "runtime/types.h"

struct print {
    int fd;
    uint32_t used;
    char buffer[2048];
};

void print_flush(struct print *p);
void print_text(struct print *p, const char *text);
void print_number(struct print *p, uint64_t n);
void print_hex(struct print *p, uint64_t n);

// "goroutine 7 [chan receive, 3 minutes]:" and its stack, in Go's shape. The fiber does not run, or is the caller's.
void print_g(struct print *p, struct g *g);
void print_own_stack(struct print *p);
// One pc: "function(...)\n\tfile +0xoffset\n".
void print_pc(struct print *p, uintptr_t pc, bool is_exact);

#endif
