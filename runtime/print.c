// SPDX-License-Identifier: MIT
//
// See print.h.

#include "runtime/print.h"
#include "runtime/sched.h"

#include <string.h>
#include <unistd.h>

void print_flush(struct print *p)
{
    for (uint32_t at = 0; at < p->used;) {
        ssize_t n = write(p->fd, p->buffer + at, p->used - at);
        if (n <= 0)
            break;
        at += (uint32_t)n;
    }
    p->used = 0;
}

void print_text(struct print *p, const char *text)
{
    for (; *text; text++) {
        if (p->used == sizeof p->buffer)
            print_flush(p);
        p->buffer[p->used++] = *text;
    }
}

void print_number(struct print *p, uint64_t n)
{
    char text[24];
    size_t at = sizeof text - 1;
    text[at] = 0;
    do
        text[--at] = (char)('0' + n % 10);
    while (n /= 10);
    print_text(p, text + at);
}

void print_hex(struct print *p, uint64_t n)
{
    char text[24];
    size_t at = sizeof text - 1;
    text[at] = 0;
    do
        text[--at] = "0123456789abcdef"[n % 16];
    while (n /= 16);
    print_text(p, "0x");
    print_text(p, text + at);
}

void print_g(struct print *p, struct g *g)
{
    print_text(p, "goroutine ");
    print_number(p, atomic_load(&g->id));
    print_text(p, " [");
    print_text(p, g->live ? wait_reason_text(g->live->wait_reason) : "runnable");
    print_text(p, "]:\n");
}

void print_own_stack(struct print *p)
{
    (void)p;
}
