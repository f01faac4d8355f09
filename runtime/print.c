// SPDX-License-Identifier: MIT
//
// See print.h.

#include "runtime/print.h"
#include "runtime/dump.h"
#include "runtime/sched.h"
#include "runtime/symbols.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STACK_SHOWN = 50 }; // of each end of a long stack, as Go shows them

void print_flush(struct print *p)
{
    for (uint32_t at = 0; at < p->used;) {
        // Not write(): that is a cancellation point.
        long n = syscall(SYS_write, p->fd, p->buffer + at, p->used - at);
        if (n < 0 && errno == EINTR)
            continue;
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

static void print_digits(struct print *p, uint64_t n, unsigned base)
{
    char text[24];
    size_t at = sizeof text - 1;
    text[at] = 0;
    do
        text[--at] = "0123456789abcdef"[n % base];
    while (n /= base);
    print_text(p, text + at);
}

void print_number(struct print *p, uint64_t n)
{
    print_digits(p, n, 10);
}

void print_hex(struct print *p, uint64_t n)
{
    print_text(p, "0x");
    print_digits(p, n, 16);
}

void print_format(struct print *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    for (char one[2] = {0}; *format; format++) {
        if (*format == '%' && format[1]) {
            switch (*++format) {
            case 's': print_text(p, va_arg(ap, const char *)); continue;
            case 'u': print_number(p, va_arg(ap, uint64_t)); continue;
            case 'x': print_hex(p, va_arg(ap, uint64_t)); continue;
            default: break;
            }
        }
        one[0] = *format;
        print_text(p, one);
    }
    va_end(ap);
}

void print_name(struct print *p, const char *name, size_t max)
{
    for (char one[2] = {0}; max && *name; max--, name++) {
        one[0] = (unsigned char)*name < ' ' || *name == 127 ? '?' : *name;
        print_text(p, one);
    }
}

FIB_LOOKS void print_who(struct print *p, const struct g *g)
{
    print_format(p, "fiber %u", atomic_load(&g->id));
    const char *name = g_name(g);
    if (*name) {
        print_text(p, " (\"");
        print_name(p, name, NAME_SIZE);
        print_text(p, "\")");
    }
}

void print_pc(struct print *p, uintptr_t pc, bool is_exact)
{
    struct symbol s;
    symbol_find(is_exact ? pc : pc - 1, &s);
    if (s.name)
        print_format(p, "%s(...)\n\t%s +%x\n", s.name, s.file, s.address);
    else
        print_format(p, "%x(...)\n\t%s +%x\n", (uint64_t)pc, s.file, s.address);
}

void print_stack(struct print *p, const uintptr_t *pcs, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++) {
        if (depth > 2 * STACK_SHOWN && i == STACK_SHOWN) {
            uint32_t left = depth - 2 * STACK_SHOWN;
            print_format(p, "...%u frames elided...\n", (uint64_t)left);
            i += left;
        }
        print_pc(p, pcs[i], false);
    }
}
