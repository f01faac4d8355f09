// SPDX-License-Identifier: MIT
//
// Demangling, by Debian's libiberty: the only packaged demangler that knows C++ and both Rust
// schemes, and a C program stays one (no C++ run time). Its licence permits it: cp-demangle.c
// carries the unlimited linking exception; rust-demangle.c and safe-ctype.c are LGPL, which open
// source like this satisfies by being rebuildable.
//
// A mangled name is hostile: a few back references expand to gigabytes. The callback interface
// lets us stop at OUTPUT_MAX; since a callback cannot say "stop", it jumps out.

#include "symbols/symbols.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

// Declared here because <libiberty/demangle.h> brings all of libiberty.h, which redeclares libc
// functions; these two have had this form since 2006 and 2019.
typedef void demangle_callback(const char *text, size_t size, void *arg);
int cplus_demangle_v3_callback(const char *mangled, int options, demangle_callback *fn, void *arg);
int rust_demangle_callback(const char *mangled, int options, demangle_callback *fn, void *arg);

enum {
    OPTION_PARAMS = 1 << 0, // function arguments
    OPTION_ANSI = 1 << 1,   // const, volatile
    INPUT_MAX = 16 << 10,
    OUTPUT_MAX = 64 << 10,
};

struct sink {
    char *out;
    size_t size, used, total;
    jmp_buf overflow;
};

static void take(const char *text, size_t n, void *arg)
{
    struct sink *s = arg;
    s->total += n;
    if (s->total > OUTPUT_MAX)
        longjmp(s->overflow, 1);
    size_t room = s->size - 1 - s->used;
    if (n > room)
        n = room;
    memcpy(s->out + s->used, text, n);
    s->used += n;
    s->out[s->used] = '\0';
}

static bool looks_rust(const char *m)
{
    if (m[0] == '_' && m[1] == 'R')
        return true;
    if (strncmp(m, "_ZN", 3))
        return false;
    // Legacy: an Itanium name whose last component is "17h" and 16 hex digits; ".llvm.123" may follow.
    for (const char *h = strstr(m, "17h"); h; h = strstr(h + 1, "17h"))
        if (strspn(h + 3, "0123456789abcdef") == 16 && h[19] == 'E' &&
            (h[20] == '\0' || h[20] == '.'))
            return true;
    return false;
}

static bool run(int (*demangle)(const char *, int, demangle_callback *, void *),
                const char *mangled, struct sink *s)
{
    if (setjmp(s->overflow))
        return false;
    return demangle(mangled, OPTION_PARAMS | OPTION_ANSI, take, s) && s->used;
}

bool symbols_demangle(const char *mangled, char *out, size_t size)
{
    if (!size)
        return false;
    struct sink s = {.out = out, .size = size};
    out[0] = '\0';
    size_t n = strlen(mangled);
    if (mangled[0] == '_' && n < INPUT_MAX) {
        if (looks_rust(mangled) && run(rust_demangle_callback, mangled, &s))
            return true;
        s.used = s.total = 0;
        if (mangled[1] == 'Z' && run(cplus_demangle_v3_callback, mangled, &s))
            return true;
    }
    n = n < size - 1 ? n : size - 1;
    memcpy(out, mangled, n);
    out[n] = '\0';
    return false;
}
