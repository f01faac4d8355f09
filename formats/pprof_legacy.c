// SPDX-License-Identifier: MIT
//
// Tells the older formats apart and holds what their readers share, save the maps.

#include "formats/pprof_legacy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int legacy_refuse(struct legacy *g, const char *what, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    uint64_t at = text_offset(&g->text);
    if (!g->text.whole)
        return error_set(g->err, -ENODATA, at,
                         "byte %" PRIu64 ": %s: the file is cut off (%s; --salvage keeps what is "
                         "whole)",
                         at, what, why);
    return error_set(g->err, -EINVAL, at, "byte %" PRIu64 ": %s: %s", at, what, why);
}

int legacy_no_memory(struct legacy *g)
{
    return error_set(g->err, -ENOMEM, text_offset(&g->text), "out of memory");
}

int legacy_push_location(struct legacy *g, struct pprof_location *l)
{
    if (g->stack_count == g->stack_capacity) {
        size_t more = g->stack_capacity ? 2 * g->stack_capacity : 64;
        struct pprof_location **grown = realloc(g->stack, more * sizeof(struct pprof_location *));
        if (!grown)
            return legacy_no_memory(g);
        g->stack = grown;
        g->stack_capacity = more;
    }
    g->stack[g->stack_count++] = l;
    return 0;
}

int legacy_push(struct legacy *g, uint64_t address)
{
    struct pprof_location *l = pprof_intern_location(g->p, NULL, address, NULL, 0);
    return l ? legacy_push_location(g, l) : legacy_no_memory(g);
}

int legacy_push_hex(struct legacy *g, struct span s, uint64_t less)
{
    while (s.n) {
        uint64_t address;
        if (!take_text(&s, "0x")) {
            s.s++;
            s.n--;
            continue;
        }
        if (!take_hex(&s, &address))
            return legacy_refuse(g, "stack", "an address is no 64-bit hexadecimal number");
        int rc = legacy_push(g, address - less);
        if (rc)
            return rc;
    }
    return 0;
}

int legacy_sample(struct legacy *g, const int64_t *values, int64_t bytes)
{
    struct pprof_label label = {.key = "bytes", .num = bytes};
    struct pprof_sample *s = pprof_append_sample(g->p, g->stack, (uint32_t)g->stack_count, values,
                                                 &label, bytes ? 1 : 0);
    g->stack_count = 0;
    return s ? 0 : legacy_no_memory(g);
}

static const struct {
    bool (*is)(struct span first_line);
    int (*read)(struct legacy *g);
    const char *name;
} text_formats[] = {
    {legacy_is_jemalloc, legacy_read_jemalloc, "jemalloc heap_v2"},
    {legacy_is_heap, legacy_read_heap, "heap text"},
    {legacy_is_contention, legacy_read_contention, "contention text"},
    {legacy_is_count, legacy_read_count, "count text"},
    {legacy_is_perf_script, legacy_read_perf_script, "perf script"},
};

// The first line that is not blank and no comment; t is left on it.
static bool first_line(struct text *t)
{
    while (text_next(t)) {
        struct span s = span_trim(t->line);
        if (s.n && s.s[0] != '#')
            return true;
        // Not a text profile: protobuf has no reason to start with kilobytes of comments.
        if (text_offset(t) > 64 * 1024)
            return false;
    }
    return false;
}

static int run(struct legacy *g, int (*read)(struct legacy *), const char *name)
{
    g->in->format = name;
    int rc = read(g);
    if (rc == -ENODATA && g->in->salvage && g->p->sample_type_count) {
        g->stack_count = 0;
        g->in->salvaged_samples = g->p->sample_count;
        rc = legacy_maps(g);
    }
    free(g->stack);
    return rc;
}

int pprof_read_legacy(struct pprof_profile *p, struct pprof_input *in, struct fscope_error *err)
{
    const char *bytes = (const char *)in->data;
    struct legacy g = {.p = p, .in = in, .err = err};
    g.text = (struct text){.base = bytes, .at = bytes, .end = bytes + in->size, .whole = true};
    if (legacy_is_cpu(in))
        return run(&g, legacy_read_cpu, "gperftools CPU profile");
    if (!first_line(&g.text))
        return PPROF_NOT_LEGACY;
    for (size_t i = 0; i < sizeof text_formats / sizeof text_formats[0]; i++)
        if (text_formats[i].is(g.text.line))
            return run(&g, text_formats[i].read, text_formats[i].name);
    return PPROF_NOT_LEGACY;
}
