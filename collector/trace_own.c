// SPDX-License-Identifier: MIT
//
// See trace_own.h.

#include "collector/trace_own.h"

#include <string.h>

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool has_public_name(const char *name)
{
    return begins(name, "fib_") || begins(name, "fscope_");
}

void trace_own_learn(struct trace_own *o, struct symbols_image *im)
{
    static const char folder[] = "runtime/";
    struct symbols_frame f[SYMBOLS_FRAMES_MAX];
    uint64_t address;
    // A function of every program that has the runtime, and whose source lies right in its folder.
    if (symbols_function_address(im, "fib_init", &address))
        return;
    int n = symbols_lookup(im, address, f, SYMBOLS_FRAMES_MAX);
    const char *source = n > 0 ? f[n - 1].file : "", *slash = strrchr(source, '/');
    size_t size = slash ? (size_t)(slash + 1 - source) : 0, last = sizeof folder - 1;
    if (size < last || memcmp(source + size - last, folder, last) != 0)
        return;
    *o = (struct trace_own){source, size - last, true};
}

bool trace_own_is(const struct trace_own *o, const char *name, const char *file)
{
    static const char *const folders[] = {"runtime/", "emit/", "segment/", "unwind/", "base/"};
    if (!o->is_known || !*file)
        return has_public_name(name) || strcmp(name, "fiber_begin") == 0;
    if (strncmp(file, o->source, o->folder_bytes) != 0)
        return false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (begins(file + o->folder_bytes, folders[i]))
            return true;
    return false;
}

bool trace_own_is_header(const char *name, const char *file)
{
    static const char folder[] = "/fiberscope/";
    const size_t n = sizeof folder - 1;
    const char *slash = strrchr(file, '/');
    size_t size = slash ? (size_t)(slash + 1 - file) : 0;
    return has_public_name(name) && size >= n && memcmp(file + size - n, folder, n) == 0;
}
