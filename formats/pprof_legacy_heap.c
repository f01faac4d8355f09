// SPDX-License-Identifier: MIT
//
// Heap profiles as text: gperftools' and Go's one-line samples, and jemalloc's heap_v2.
//
//   heap profile: OBJECTS: BYTES [OBJECTS: BYTES] @ heapprofile        (in use, then allocated)
//   OBJECTS: BYTES [OBJECTS: BYTES] @ 0x.. 0x..
//
//   heap_v2/RATE                                                        (jemalloc)
//   @ 0x.. 0x..
//     t*: OBJECTS: BYTES [OBJECTS: BYTES]                               (of all threads)
//     tN: ...                                                           (of one, not needed)
//
// A sampled profile holds what was sampled: an allocation of s bytes is seen with probability
// 1 - exp(-s / RATE), so counts are divided by that, with s the mean size in the bucket.

#include "formats/pprof_legacy.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

static const char drop_allocators[] =
    "(__libc_|__|tc_|je_)?(malloc|calloc|realloc|reallocarray|free|cfree|memalign|valloc|pvalloc|"
    "aligned_alloc|posix_memalign|new|delete|newarray|deletearray)|operator (new|delete).*|"
    "(tcmalloc|DoSampledAllocation|std::allocator|__gnu_cxx::new_allocator).*|prof_backtrace.*|"
    "prof_tctx_create.*|runtime\\..*";

struct heap_line {
    int64_t objects, bytes;             // in use
    int64_t total_objects, total_bytes; // since the start
};

// OBJECTS: BYTES [OBJECTS: BYTES]
static bool take_counts(struct span *s, struct heap_line *h)
{
    struct span r = *s;
    take_spaces(&r);
    if (!take_signed(&r, &h->objects) || !take_char(&r, ':'))
        return false;
    take_spaces(&r);
    if (!take_signed(&r, &h->bytes))
        return false;
    take_spaces(&r);
    if (!take_char(&r, '['))
        return false;
    take_spaces(&r);
    if (!take_signed(&r, &h->total_objects) || !take_char(&r, ':'))
        return false;
    take_spaces(&r);
    if (!take_signed(&r, &h->total_bytes))
        return false;
    take_spaces(&r);
    if (!take_char(&r, ']'))
        return false;
    *s = r;
    return true;
}

static int64_t to_int64(double v)
{
    return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v;
}

// What the program really did, estimated. A rate of 1 means that all was seen.
static void unsample(int64_t *objects, int64_t *bytes, int64_t rate)
{
    if (*objects == 0 || *bytes == 0) {
        *objects = *bytes = 0;
        return;
    }
    if (rate <= 1)
        return;
    double mean = (double)*bytes / (double)*objects;
    double scale = 1 / (1 - exp(-mean / (double)rate));
    *objects = to_int64((double)*objects * scale);
    *bytes = to_int64((double)*bytes * scale);
}

struct heap_form {
    int64_t rate; // 0: counts are as they are
    bool sampled;
    bool has_total; // two pairs of sample types
};

static int heap_types(struct legacy *g, const struct heap_form *form)
{
    struct pprof_profile *p = g->p;
    bool bad = false;
    if (form->has_total) {
        bad |= pprof_add_sample_type(p, "alloc_objects", "count") != 0;
        bad |= pprof_add_sample_type(p, "alloc_space", "bytes") != 0;
        bad |= pprof_add_sample_type(p, "inuse_objects", "count") != 0;
        bad |= pprof_add_sample_type(p, "inuse_space", "bytes") != 0;
    } else {
        bad |= pprof_add_sample_type(p, "objects", "count") != 0;
        bad |= pprof_add_sample_type(p, "space", "bytes") != 0;
    }
    p->period_type.type = pprof_string(p, "space");
    p->period_type.unit = pprof_string(p, "bytes");
    p->drop_frames = pprof_string(p, drop_allocators);
    p->keep_frames = pprof_string(p, "runtime\\.(panic|reflectcall|call[0-9]*)");
    bad |= !p->period_type.type || !p->period_type.unit || !p->drop_frames || !p->keep_frames;
    return bad ? legacy_no_memory(g) : 0;
}

static int heap_sample(struct legacy *g, const struct heap_form *form, struct heap_line h)
{
    int64_t mean = 0;
    if ((form->has_total && h.total_objects == 0 && h.total_bytes) || (h.objects == 0 && h.bytes))
        return legacy_refuse(g, "sample", "bytes in no objects");
    // INT64_MIN / -1 overflows, so -1 is not divided by.
    if (form->has_total && h.total_objects)
        mean = h.total_objects == -1 ? 0 : h.total_bytes / h.total_objects;
    if (h.objects)
        mean = h.objects == -1 ? (int64_t)(0 - (uint64_t)h.bytes) : h.bytes / h.objects;
    if (form->sampled) {
        unsample(&h.total_objects, &h.total_bytes, form->rate);
        unsample(&h.objects, &h.bytes, form->rate);
    }
    int64_t four[] = {h.total_objects, h.total_bytes, h.objects, h.bytes};
    return legacy_sample(g, form->has_total ? four : four + 2, mean);
}

// --- gperftools and Go

static bool take_heading(struct span *s, struct heap_line *h)
{
    return take_text(s, "heap profile:") && take_counts(s, h);
}

bool legacy_is_heap(struct span line)
{
    return span_starts(line, "heap profile:");
}

static int heap_heading(struct legacy *g, struct heap_form *form)
{
    struct span s = g->text.line;
    struct heap_line h;
    uint64_t rate = 0;
    if (!take_heading(&s, &h))
        return legacy_refuse(g, "heading", "no 'heap profile: N: N [N: N] @ KIND'");
    take_spaces(&s);
    if (!take_char(&s, '@'))
        return legacy_refuse(g, "heading", "no @ before the kind");
    take_spaces(&s);
    struct span kind = s;
    while (s.n && s.s[0] != '/' && s.s[0] != ' ') {
        s.s++;
        s.n--;
    }
    kind.n -= s.n;
    if (take_char(&s, '/') && s.n && s.s[0] >= '0' && s.s[0] <= '9' &&
        (!take_decimal(&s, &rate) || rate > INT64_MAX))
        return legacy_refuse(g, "heading", "the sampling rate is too large");
    form->has_total = (h.total_objects != h.objects && h.total_objects) ||
                      (h.total_bytes != h.bytes && h.total_bytes);
    form->sampled = true;
    form->rate = (int64_t)rate;
    if (kind.n == 4 && span_starts(kind, "heap")) {
        form->rate /= 2; // by tradition Go writes twice the rate
    } else if (kind.n == 11 && span_starts(kind, "heapprofile")) {
        form->sampled = false;
        form->rate = 1;
    } else if (span_starts(kind, "growth") || span_starts(kind, "fragmentation")) {
        *form = (struct heap_form){.rate = 1};
    } else if (!span_starts(kind, "heap_v2") && !span_starts(kind, "heapz_v2")) {
        return legacy_refuse(g, "heading", "the kind '%.*s' is not known",
                             (int)(kind.n > 64 ? 64 : kind.n), kind.s);
    }
    return 0;
}

// Reads the heading by its reader and sets up what follows from it.
static int heap_start(struct legacy *g, struct heap_form *form,
                      int (*heading)(struct legacy *, struct heap_form *))
{
    int rc = heading(g, form);
    if (!rc)
        rc = heap_types(g, form);
    if (!rc)
        g->p->period = form->rate;
    return rc;
}

int legacy_read_heap(struct legacy *g)
{
    struct heap_form form = {0};
    int rc = heap_start(g, &form, heap_heading);
    if (rc)
        return rc;
    while (text_next(&g->text)) {
        struct span s = span_trim(g->text.line);
        struct heap_line h;
        if (s.n == 0 || s.s[0] == '#')
            continue;
        if (legacy_is_maps_heading(s))
            break;
        if (!take_counts(&s, &h))
            return legacy_refuse(g, "sample", "no 'N: N [N: N] @ ADDRESSES'");
        take_spaces(&s);
        if (!take_char(&s, '@'))
            return legacy_refuse(g, "sample", "no @ before the addresses");
        rc = legacy_push_hex(g, s, 1);
        if (!rc)
            rc = heap_sample(g, &form, h);
        if (rc)
            return rc;
    }
    return legacy_maps(g);
}

// --- jemalloc

bool legacy_is_jemalloc(struct span line)
{
    return span_starts(line, "heap_v2/");
}

// "t*:" or "t12:"
static bool take_thread(struct span *s, bool *is_all)
{
    uint64_t id;
    struct span r = *s;
    take_spaces(&r);
    if (!take_char(&r, 't'))
        return false;
    *is_all = take_char(&r, '*');
    if (!*is_all && !take_decimal(&r, &id))
        return false;
    if (!take_char(&r, ':'))
        return false;
    *s = r;
    return true;
}

// The totals of the file tell whether it accumulates (prof_accum); they come before the stacks.
static int jemalloc_heading(struct legacy *g, struct heap_form *form)
{
    struct span s = g->text.line;
    uint64_t rate;
    if (!take_text(&s, "heap_v2/") || !take_decimal(&s, &rate) || rate > INT64_MAX)
        return legacy_refuse(g, "heading", "no sampling rate after 'heap_v2/'");
    *form = (struct heap_form){.rate = (int64_t)rate, .sampled = true};
    struct text ahead = g->text;
    while (text_next(&ahead)) {
        struct heap_line h;
        bool is_all;
        s = ahead.line;
        if (!take_thread(&s, &is_all) || !take_counts(&s, &h))
            break;
        g->text = ahead;
        form->has_total |= is_all && (h.total_objects || h.total_bytes);
    }
    return 0;
}

int legacy_read_jemalloc(struct legacy *g)
{
    struct heap_form form = {0};
    int rc = heap_start(g, &form, jemalloc_heading);
    if (rc)
        return rc;
    while (text_next(&g->text)) {
        struct span s = span_trim(g->text.line);
        struct heap_line h;
        bool is_all;
        if (s.n == 0)
            continue;
        if (legacy_is_maps_heading(s))
            break;
        if (take_char(&s, '@')) {
            g->stack_count = 0;
            rc = legacy_push_hex(g, s, 1);
        } else if (take_thread(&s, &is_all) && take_counts(&s, &h)) {
            // The sum over all threads follows the stack at once.
            rc = is_all ? heap_sample(g, &form, h) : 0;
        } else {
            rc = legacy_refuse(g, "sample", "neither '@ ADDRESSES' nor 'tN: N: N [N: N]'");
        }
        if (rc)
            return rc;
    }
    return legacy_maps(g);
}
