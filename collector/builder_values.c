// SPDX-License-Identifier: MIT
//
// What the values of each kind are: how they are stored, and what the profile shows of them. Sample
// types, order and units are those of Go's runtime/pprof, for tools look for these names; those that
// only an exact heap has stand between them, so that in-use space stays the last and the default.

#include "collector/builder_internal.h"

#include <math.h>
#include <string.h>

enum { // stored values of SEG_KIND_HEAP
    ALLOC_OBJECTS,
    ALLOC_BYTES,
    FREED_OBJECTS,
    FREED_BYTES,
    TEMPORARY_OBJECTS,
    PEAK_OBJECTS,
    PEAK_BYTES,
    HEAP_VALUES,
};

enum { // of BUILDER_KIND_OFFCPU
    OFFCPU_WAITS,
    OFFCPU_NS,
    OFFCPU_RUNNABLE_NS,
    OFFCPU_VALUES,
};

enum { // of BUILDER_KIND_GROWTH, in the order of the profile
    GROWTH_FAULTS,
    GROWTH_RESIDENT,
    GROWTH_RETURNED,
    GROWTH_MAPS,
    GROWTH_MAPPED,
    GROWTH_UNMAPPED,
    GROWTH_VALUES,
};

size_t values_stored(unsigned kind)
{
    switch (kind) {
    case SEG_KIND_CPU:
    case SEG_KIND_WALL:
    case SEG_KIND_BLOCK:
    case SEG_KIND_MUTEX:
    case BUILDER_KIND_WAKEUPS:
    case SEG_KIND_CUSTOM: return 2;
    case SEG_KIND_HEAP: return HEAP_VALUES;
    case BUILDER_KIND_OFFCPU: return OFFCPU_VALUES;
    case BUILDER_KIND_GROWTH: return GROWTH_VALUES;
    default: return 0;
    }
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static void add_to(uint64_t *sum, uint64_t value)
{
    *sum = add_saturated(*sum, value);
}

static void add_growth(uint64_t *v, const struct builder_growth *g)
{
    add_to(&v[GROWTH_FAULTS], g->faults);
    add_to(&v[GROWTH_RESIDENT], g->resident_bytes);
    add_to(&v[GROWTH_RETURNED], g->returned_bytes);
    add_to(&v[GROWTH_MAPS], g->maps);
    add_to(&v[GROWTH_MAPPED], g->mapped_bytes);
    add_to(&v[GROWTH_UNMAPPED], g->unmapped_bytes);
}

void values_add(struct builder *b, uint32_t id, const struct builder_sample *s)
{
    uint64_t *v = &b->values[id * b->value_count];
    if (s->growth) {
        add_growth(v, s->growth);
        return;
    }
    if (!s->heap) {
        add_to(&v[0], s->count);
        add_to(&v[1], s->ns);
        if (b->kind == BUILDER_KIND_OFFCPU)
            add_to(&v[OFFCPU_RUNNABLE_NS], s->runnable_ns);
        return;
    }
    const struct builder_heap *h = s->heap;
    add_to(&v[ALLOC_OBJECTS], h->alloc_objects);
    add_to(&v[ALLOC_BYTES], h->alloc_bytes);
    add_to(&v[FREED_OBJECTS], h->freed_objects);
    add_to(&v[FREED_BYTES], h->freed_bytes);
    add_to(&v[TEMPORARY_OBJECTS], h->temporary_objects);
    add_to(&v[PEAK_OBJECTS], h->peak_objects);
    add_to(&v[PEAK_BYTES], h->peak_bytes);
}

static int64_t to_signed(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static uint64_t difference(uint64_t a, uint64_t b, bool *is_negative)
{
    *is_negative = *is_negative || a < b;
    return a < b ? 0 : a - b;
}

// Not below 0; what no int64_t holds becomes the greatest.
static int64_t scaled(uint64_t value, double scale)
{
    double product = (double)value * scale;
    return product < 9.2e18 ? (int64_t)product : INT64_MAX;
}

// An allocation of n bytes is sampled with probability 1 - exp(-n / rate), so each that was stands for
// the inverse. As runtime/pprof has it: by the entry's mean size, and cut to whole numbers; in use and
// allocated by one factor, so that what is in use is never more than what was allocated.
static double unsample_factor(uint64_t rate_bytes, const uint64_t *v)
{
    if (rate_bytes <= 1 || !v[ALLOC_OBJECTS] || !v[ALLOC_BYTES])
        return 1;
    double mean = (double)v[ALLOC_BYTES] / (double)v[ALLOC_OBJECTS];
    return 1 / (1 - exp(-mean / (double)rate_bytes));
}

// Its temporary objects and peaks are known.
static bool is_exact(const struct builder *b)
{
    return b->rate_bytes <= 1 && !b->is_outside;
}

static uint64_t rate_of(const struct builder *b, uint32_t id)
{
    const struct sample_key *key = b->samples.entries[id].data;
    uint64_t own = b->processes[key->process]->rate_bytes;
    return own ? own : b->rate_bytes;
}

static void view_heap(const struct builder *b, const uint64_t *v, uint64_t rate_bytes,
                      struct sample_view *out)
{
    uint64_t objects = difference(v[ALLOC_OBJECTS], v[FREED_OBJECTS], &out->is_negative);
    uint64_t bytes = difference(v[ALLOC_BYTES], v[FREED_BYTES], &out->is_negative);
    if (is_exact(b)) {
        const uint64_t shown[] = {
            v[ALLOC_OBJECTS], v[ALLOC_BYTES], v[TEMPORARY_OBJECTS], v[PEAK_OBJECTS], v[PEAK_BYTES],
            objects,          bytes};
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
            out->values[i] = to_signed(shown[i]);
        return;
    }
    const uint64_t shown[] = {v[ALLOC_OBJECTS], v[ALLOC_BYTES], objects, bytes};
    double factor = unsample_factor(rate_bytes, v);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        out->values[i] = scaled(shown[i], factor);
    if (rate_bytes > 1)
        out->mean_bytes = v[ALLOC_OBJECTS] ? to_signed(v[ALLOC_BYTES] / v[ALLOC_OBJECTS]) : 0;
}

void values_view(const struct builder *b, uint32_t id, bool is_main, struct sample_view *out)
{
    const uint64_t *v = &b->values[id * b->value_count];
    *out = (struct sample_view){0};
    if (b->kind == SEG_KIND_HEAP && is_main) {
        view_heap(b, v, rate_of(b, id), out);
    } else if (b->kind == SEG_KIND_CUSTOM) {
        out->values[0] = to_signed(difference(v[0], v[1], &out->is_negative));
        out->is_empty = out->values[0] == 0;
    } else if (b->kind == BUILDER_KIND_GROWTH) {
        for (size_t i = 0; i < GROWTH_VALUES; i++)
            out->values[i] = to_signed(v[i]);
    } else if (b->kind == BUILDER_KIND_OFFCPU) {
        out->values[0] = to_signed(v[OFFCPU_WAITS]);
        out->values[1] =
            to_signed(difference(v[OFFCPU_NS], v[OFFCPU_RUNNABLE_NS], &out->is_negative));
        out->values[2] = to_signed(v[OFFCPU_RUNNABLE_NS]);
        out->values[3] = to_signed(v[OFFCPU_NS]);
    } else {
        out->values[0] = to_signed(v[0]);
        out->values[1] = to_signed(v[1]); // of a lifetime: none
    }
}

static bool is_main(const struct builder *b, uint32_t id)
{
    const struct sample_key *key = b->samples.entries[id].data;
    return key->part == 0;
}

void builder_get_stats(const struct builder *b, struct builder_stats *out)
{
    struct sample_view view;
    *out = b->stats;
    if (b->kind != SEG_KIND_HEAP && b->kind != SEG_KIND_CUSTOM)
        return;
    // Only now: an entry's parts come one by one, in any order.
    for (uint32_t id = 0; id < b->samples.count; id++) {
        values_view(b, id, is_main(b, id), &view);
        out->losses.negative += view.is_negative;
    }
}

void builder_get_heap(const struct builder *b, struct builder_heap_totals *out)
{
    struct sample_view view;
    *out = (struct builder_heap_totals){
        .samples = b->stats.samples,
        .peak_bytes = b->peak_bytes,
        .peak_ns = b->peak_ns,
        .is_exact = is_exact(b),
        .is_sampled = b->rate_bytes > 1,
    };
    size_t inuse = is_exact(b) ? 5 : 2;
    for (uint32_t id = 0; id < b->samples.count; id++) {
        if (b->kind != SEG_KIND_HEAP || !is_main(b, id))
            continue;
        values_view(b, id, true, &view);
        add_to(&out->alloc_objects, (uint64_t)view.values[0]);
        add_to(&out->alloc_bytes, (uint64_t)view.values[1]);
        add_to(&out->temporary_objects, is_exact(b) ? (uint64_t)view.values[2] : 0);
        add_to(&out->inuse_objects, (uint64_t)view.values[inuse]);
        add_to(&out->inuse_bytes, (uint64_t)view.values[inuse + 1]);
    }
}

uint64_t builder_get_part(const struct builder *b, const char *part)
{
    struct sample_view view;
    uint64_t sum = 0;
    for (uint32_t id = 0; b->kind == SEG_KIND_CUSTOM && id < b->samples.count; id++) {
        const struct sample_key *key = b->samples.entries[id].data;
        if (strcmp(intern_text(&b->strings, key->part), part) != 0)
            continue;
        values_view(b, id, false, &view);
        if (view.values[0] > 0)
            add_to(&sum, (uint64_t)view.values[0]);
    }
    return sum;
}

bool builder_get_growth(const struct builder *b, struct builder_growth *out)
{
    *out = (struct builder_growth){0};
    for (uint32_t id = 0; b->kind == BUILDER_KIND_GROWTH && id < b->samples.count; id++) {
        const uint64_t *v = &b->values[id * b->value_count];
        add_to(&out->faults, v[GROWTH_FAULTS]);
        add_to(&out->resident_bytes, v[GROWTH_RESIDENT]);
        add_to(&out->returned_bytes, v[GROWTH_RETURNED]);
        add_to(&out->maps, v[GROWTH_MAPS]);
        add_to(&out->mapped_bytes, v[GROWTH_MAPPED]);
        add_to(&out->unmapped_bytes, v[GROWTH_UNMAPPED]);
    }
    return b->kind == BUILDER_KIND_GROWTH;
}

static int add_types(struct pprof_profile *p, const char *const (*types)[2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (pprof_add_sample_type(p, types[i][0], types[i][1]))
            return -ENOMEM;
    return 0;
}

static int set_period(struct pprof_profile *p, const char *type, const char *unit, uint64_t period,
                      const char *default_type)
{
    p->period_type.type = pprof_string(p, type);
    p->period_type.unit = pprof_string(p, unit);
    p->default_sample_type = pprof_string(p, default_type);
    p->period = to_signed(period);
    return p->period_type.type && p->period_type.unit && p->default_sample_type ? 0 : -ENOMEM;
}

#define ADD_TYPES(p, types) add_types(p, types, sizeof(types) / sizeof *(types))

static int heap_header(const struct builder *b, struct pprof_profile *p)
{
    static const char *const sampled[][2] = {{"alloc_objects", "count"},
                                             {"alloc_space", "bytes"},
                                             {"inuse_objects", "count"},
                                             {"inuse_space", "bytes"}};
    static const char *const exact[][2] = {
        {"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"temporary_objects", "count"},
        {"peak_objects", "count"},  {"peak_space", "bytes"},  {"inuse_objects", "count"},
        {"inuse_space", "bytes"}};
    if (!is_exact(b))
        return ADD_TYPES(p, sampled) || set_period(p, "space", "bytes", b->rate_bytes, "") ? -ENOMEM
                                                                                           : 0;
    return ADD_TYPES(p, exact) || set_period(p, "space", "bytes", 1, "inuse_space") ? -ENOMEM : 0;
}

// What C and C++ call to allocate, libc's own names for it too: reports begin at who called it, as with
// the files of gperftools. `-all_frames` shows them.
static const char allocators[] =
    "malloc|calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|pvalloc|"
    "(__GI_)?__libc_(malloc|calloc|realloc|memalign)|operator new(\\[\\])?|_Zn[wa][mj].*";

int values_header(const struct builder *b, const char *part, struct pprof_profile *p)
{
    static const char *const locks[][2] = {{"contentions", "count"}, {"delay", "nanoseconds"}};
    static const char *const waits[][2] = {{"waits", "count"},
                                           {"waiting", "nanoseconds"},
                                           {"runnable", "nanoseconds"},
                                           {"offcpu", "nanoseconds"}};
    static const char *const growth[][2] = {{"faults", "count"},         {"fault_space", "bytes"},
                                            {"returned_space", "bytes"}, {"mmaps", "count"},
                                            {"mmap_space", "bytes"},     {"munmap_space", "bytes"}};
    static const char *const wakeups[][2] = {{"wakeups", "count"}, {"delay", "nanoseconds"}};
    const char *time = b->kind == SEG_KIND_WALL ? "wall" : "cpu";
    const char *const times[][2] = {{"samples", "count"}, {time, "nanoseconds"}};
    const char *name = b->kind == SEG_KIND_HEAP ? "freed_objects" : part;
    const char *const counts[][2] = {{*name ? name : "custom", "count"}};
    int rc;
    if (b->kind == SEG_KIND_HEAP && !(p->drop_frames = pprof_string(p, allocators)))
        return -ENOMEM;
    if (b->kind == SEG_KIND_HEAP && !*part)
        return heap_header(b, p);
    if (b->kind == SEG_KIND_HEAP || b->kind == SEG_KIND_CUSTOM)
        rc = ADD_TYPES(p, counts) || set_period(p, counts[0][0], "count", 1, "");
    else if (b->kind == SEG_KIND_BLOCK || b->kind == SEG_KIND_MUTEX)
        rc = ADD_TYPES(p, locks) || set_period(p, "contentions", "count", 1, "");
    else if (b->kind == BUILDER_KIND_GROWTH)
        rc = ADD_TYPES(p, growth) || set_period(p, "space", "bytes", 1, "fault_space");
    else if (b->kind == BUILDER_KIND_WAKEUPS)
        rc = ADD_TYPES(p, wakeups) || set_period(p, "wakeups", "count", 1, wakeups[1][0]);
    else if (b->kind == BUILDER_KIND_OFFCPU)
        rc = ADD_TYPES(p, waits) || set_period(p, "waits", "count", 1, waits[3][0]);
    else
        rc = ADD_TYPES(p, times) || set_period(p, time, "nanoseconds", b->period_ns, time);
    return rc ? -ENOMEM : 0;
}
