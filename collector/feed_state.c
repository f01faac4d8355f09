// SPDX-License-Identifier: MIT
//
// State into builders; see feed.h. Entries are shards: the builder sums those of equal keys, and only its
// sums are judged (one shard may have been freed from more than it allocated).

#include "collector/feed_internal.h"

#include <errno.h>
#include <stdio.h>

#define NS_PER_US UINT64_C(1000)

static uint64_t load(const _Atomic uint64_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

// What no honest entry can hold is cut, so that sums do not overflow, and counted.
static uint64_t bounded(struct feed *f, const _Atomic uint64_t *v)
{
    uint64_t value = load(v);
    if (value <= FEED_VALUE_MAX)
        return value;
    f->damaged++;
    return FEED_VALUE_MAX;
}

// Of a difference that may have been below 0 for a moment: another thread's free came first.
static uint64_t signed_bounded(struct feed *f, const _Atomic uint64_t *v)
{
    uint64_t value = load(v);
    return value > UINT64_MAX - FEED_VALUE_MAX ? 0 : bounded(f, v);
}

static uint64_t above_zero(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

// The longest that an object of this bucket may have lived. The last bucket has no bound: its shortest,
// which is a nanosecond above the longest of the one before.
static uint64_t lifetime_ns(int bucket)
{
    int power = bucket < SEG_LIFETIMES - 1 ? bucket : SEG_LIFETIMES - 2;
    uint64_t bound = NS_PER_US << (2 * power);
    return bucket < SEG_LIFETIMES - 1 ? bound - 1 : bound;
}

static int add_lifetimes(struct feed *f, const struct builder_sample *entry,
                         const struct seg_site *site)
{
    struct builder_sample s = *entry;
    int rc = 0;
    s.heap = NULL;
    s.part = BUILDER_LIFETIME;
    s.label_count++; // feed_memory has room for it
    for (int i = 0; !rc && i < SEG_LIFETIMES; i++) {
        s.count = bounded(f, &site->lifetimes[i]) + bounded(f, &site->elsewhere_lifetimes[i]);
        if (!s.count)
            continue;
        f->memory->labels[entry->label_count] = (struct builder_label){
            .key = "lifetime", .number = (int64_t)lifetime_ns(i), .unit = "nanoseconds"};
        rc = builder_add(f->processes[RECORD_HEAP], &s);
    }
    return rc;
}

static int add_heap(struct feed *f, const struct seg_state *e, uint32_t index,
                    struct builder_sample *s)
{
    struct seg_site site;
    struct builder_heap h = {
        .alloc_objects = bounded(f, &e->values[0]),
        .alloc_bytes = bounded(f, &e->values[1]),
        .freed_objects = bounded(f, &e->values[2]),
        .freed_bytes = bounded(f, &e->values[3]),
    };
    bool has_site = seg_reader_site(f->reader, index, &site) == 0;
    if (has_site) {
        uint64_t peak_number = load(&f->heap.peak_number);
        // Untouched since the latest peak (or there was none yet): as it is, so it was.
        bool is_as_then = !peak_number || load(&site.peak_number) != peak_number;
        h.freed_objects += bounded(f, &site.elsewhere_objects);
        h.freed_bytes += bounded(f, &site.elsewhere_bytes);
        h.temporary_objects = bounded(f, &site.temporary_objects);
        h.peak_objects = is_as_then ? above_zero(h.alloc_objects, h.freed_objects)
                                    : signed_bounded(f, &site.peak_objects);
        h.peak_bytes = is_as_then ? above_zero(h.alloc_bytes, h.freed_bytes)
                                  : signed_bounded(f, &site.peak_bytes);
    }
    s->heap = &h;
    s->object = e->object;
    int rc = builder_add(f->processes[RECORD_HEAP], s);
    s->heap = NULL;
    return rc || !has_site ? rc : add_lifetimes(f, s, &site);
}

// A custom profile's process and modules, which most recordings do without.
static int begin_custom(struct feed *f)
{
    const struct seg_header *h = seg_reader_header(f->reader);
    char program[sizeof h->program + 1];
    if (f->processes[RECORD_CUSTOM])
        return 0;
    snprintf(program, sizeof program, "%.*s", (int)sizeof h->program, h->program);
    f->processes[RECORD_CUSTOM] =
        builder_process(f->builders[RECORD_CUSTOM], f->pid, h->mono_ns, program);
    f->module_count = 0; // all once more: the other builders know them
    return f->processes[RECORD_CUSTOM] ? feed_modules(f) : -ENOMEM;
}

static int add_custom(struct feed *f, const struct seg_state *e, struct builder_sample *s)
{
    int rc = begin_custom(f);
    if (rc)
        return rc;
    char *name = f->memory->part;
    if (e->object > UINT32_MAX ||
        seg_reader_string(f->reader, (uint32_t)e->object, name, FEED_LABEL_BYTES) < 0) {
        name[0] = '\0';
        f->damaged++;
    }
    s->part = name[0] ? name : "custom";
    s->count = bounded(f, &e->values[0]);
    s->ns = bounded(f, &e->values[1]);
    return builder_add(f->processes[RECORD_CUSTOM], s);
}

static int add_state(void *arg, const struct seg_state *e, uint32_t index)
{
    struct feed *f = arg;
    int kind = feed_kind_of(e->kind);
    if (kind < 0 || !f->builders[kind])
        return 0;
    struct builder_sample s = {.when = e->epoch};
    if (kind < RECORD_STREAM_COUNT &&
        (load(&e->values[0]) > FEED_VALUE_MAX || load(&e->values[1]) > FEED_VALUE_MAX)) {
        f->damaged++; // as the record would have been
        return 0;
    }
    uint32_t flags = 0;
    feed_fill_stacks(f, &s, e->user_stack, 0, &flags);
    feed_fill_labels(f, &s, e->labels);
    if (kind == RECORD_HEAP || kind == RECORD_CUSTOM) {
        s.flags = s.user_depth ? flags : 0;
        return kind == RECORD_HEAP ? add_heap(f, e, index, &s) : add_custom(f, e, &s);
    }
    s.count = bounded(f, &e->values[0]);
    s.ns = bounded(f, &e->values[1]);
    if (kind >= RECORD_STREAM_COUNT) {
        s.object = e->object;
        s.flags = s.user_depth ? flags : 0;
    }
    return s.count || s.ns ? builder_add(f->processes[kind], &s) : 0;
}

static int add_lock(void *arg, const struct seg_state *e, uint32_t index)
{
    (void)index;
    struct feed *f = arg;
    if (e->kind != SEG_KIND_LOCK || !e->object)
        return 0;
    struct builder_sample s = {0};
    feed_fill_stacks(f, &s, e->user_stack, 0, NULL);
    uint64_t type = load(&e->values[0]), offset = load(&e->values[1]);
    const struct builder_lock lock = {
        .object = e->object,
        .type = type <= SEG_LOCK_FUTEX ? (enum seg_lock_type)type : SEG_LOCK_UNKNOWN,
        .made = s.user,
        .made_depth = s.user_depth,
        .made_offset = offset <= FEED_VALUE_MAX ? offset : 0,
        .when = e->epoch,
    };
    static const int kinds[] = {RECORD_BLOCK, RECORD_MUTEX};
    int rc = 0;
    for (int i = 0; !rc && i < 2; i++)
        if (f->processes[kinds[i]])
            rc = builder_lock(f->processes[kinds[i]], &lock);
    return rc;
}

// A hostile count must not overflow the sums.
static uint64_t read_loss(const _Atomic uint64_t *n)
{
    uint64_t value = load(n);
    return value < FEED_VALUE_MAX ? value : FEED_VALUE_MAX;
}

static void add_losses(struct feed *f)
{
    struct seg_losses l;
    seg_reader_losses(f->reader, &l);
    // The tables are shared: which kind found them full is not known, so each profile tells it.
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!f->builders[kind] || (kind == RECORD_CUSTOM && !f->processes[kind]))
            continue;
        bool is_heap = kind == RECORD_HEAP, is_stream = kind < RECORD_STREAM_COUNT;
        const struct builder_losses losses = {
            .folded = is_stream ? read_loss(&l.ring_full[record_seg_kind(kind)]) : 0,
            .stacks = read_loss(&l.stacks_full),
            .states = read_loss(&l.state_full),
            .threads = read_loss(&l.threads_full),
            .modules = read_loss(&l.modules_full),
            .untracked = is_heap ? read_loss(&l.untracked) : 0,
            .unknown_frees = is_heap ? read_loss(&l.unknown_frees) : 0,
            .series = is_heap ? read_loss(&l.ring_full[SEG_KIND_SERIES]) : 0,
            .collapsed = kind == RECORD_CPU ? read_loss(&l.collapsed) : 0,
        };
        builder_add_losses(f->builders[kind], &losses);
    }
}

int feed_finish(struct feed *f)
{
    if (!feed_memory(f))
        return -ENOMEM;
    seg_reader_heap(f->reader, &f->heap);
    uint64_t start_ns = seg_reader_header(f->reader)->mono_ns;
    if (f->builders[RECORD_HEAP])
        builder_heap_peak(f->builders[RECORD_HEAP], read_loss(&f->heap.peak_bytes),
                          above_zero(load(&f->heap.peak_time_ns), start_ns));
    int64_t rc = seg_reader_states(f->reader, add_state, f);
    if (rc >= 0) // after those that wait for them: of other locks nobody asks
        rc = seg_reader_states(f->reader, add_lock, f);
    add_losses(f);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (f->builders[kind])
            builder_add_ops(f->builders[kind], read_loss(&f->heap.bench_ops));
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!f->builders[kind])
            continue;
        builder_lost(f->builders[kind], f->damaged); // of which kind is not known
        break;
    }
    return rc < 0 ? (int)rc : 0;
}
