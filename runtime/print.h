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
// Texts and numbers in one call: %s, %u (uint64_t), %x (uint64_t, with 0x).
void print_format(struct print *p, const char *format, ...);

// "goroutine 7 [chan receive, 3 minutes]:", its stack and its creator, in Go's shape. Of a fiber that runs elsewhere the
// stack is asked for by a signal.
void print_g(struct print *p, struct g *g);
void print_own_stack(struct print *p);
// Of pcs as backtrace.h has them; of long ones the two ends.
void print_stack(struct print *p, const uintptr_t *pcs, uint32_t depth);
// One pc: "function(...)\n\tfile +0xaddress\n". is_exact false: a return address.
void print_pc(struct print *p, uintptr_t pc, bool is_exact);
// `fiber 7 ("name")`
void print_who(struct print *p, const struct g *g);
// A name that others chose, cut at max bytes, with ? for what could confuse a terminal.
void print_name(struct print *p, const char *name, size_t max);

#endif
