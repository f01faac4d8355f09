// SPDX-License-Identifier: MIT
//
// See trace_rewrite.h. Arities and which arguments are ids come from formats/trace/spec.h; other arguments
// are copied unseen.

#include "collector/trace_rewrite.h"

#include "collector/intern.h"
#include "collector/trace_api.h"
#include "formats/trace/leb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENT_BYTES_MAX = 1 + LEB_BYTES_MAX * (1 + TRACE_ARGS_MAX),
    IDS_MAX = 1 << 24, // places of the segment's tables
    NO_THREAD = UINT32_MAX,
};

struct ids { // of the segment to those of the generation, + 1; 0: not there yet
    uint32_t *of;
    uint32_t limit;
};

struct thread { // what a thread is known to run, for samples that do not say it
    int64_t goroutine;
    bool is_worker;  // of the runtime: its samples say it
    uint64_t *early; // where it was as the trace began; NULL: not known, or it has spoken since
    uint32_t early_depth;
};

struct trace_rewrite {
    struct seg_reader *reader;
    struct trace_symbols *symbols;
    struct trace_writer *w;
    struct ids stacks, sample_stacks, strings;
    struct intern tids;
    struct thread *threads; // by id in tids
    size_t thread_capacity;
    struct trace_rewrite_stats stats;
    // The batch in the making.
    int64_t thread;
    uint64_t batch_units, last_units;
    size_t size;
    uint8_t batch[TRACE_BATCH_BYTES_MAX];
};

int trace_rewrite_new(struct trace_rewrite **out, struct seg_reader *reader,
                      struct trace_symbols *symbols)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return -ENOMEM;
    (*out)->reader = reader;
    (*out)->symbols = symbols;
    return 0;
}

void trace_rewrite_free(struct trace_rewrite *rw)
{
    if (!rw)
        return;
    free(rw->stacks.of);
    free(rw->sample_stacks.of);
    free(rw->strings.of);
    for (uint32_t i = 0; i < rw->tids.count; i++)
        free(rw->threads[i].early);
    free(rw->threads);
    intern_finish(&rw->tids);
    free(rw);
}

void trace_rewrite_begin(struct trace_rewrite *rw, struct trace_writer *w)
{
    struct ids *all[] = {&rw->stacks, &rw->sample_stacks, &rw->strings};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->of)
            memset(all[i]->of, 0, all[i]->limit * sizeof *all[i]->of);
    rw->w = w;
    rw->stats.first_units = UINT64_MAX;
    rw->stats.last_units = 0;
}

void trace_rewrite_get_stats(const struct trace_rewrite *rw, struct trace_rewrite_stats *out)
{
    *out = rw->stats;
    out->lost_names += trace_symbols_damaged(rw->symbols);
}

// --- Ids.

// The place of id in the map; NULL: out of memory.
static uint32_t *place(struct ids *ids, uint64_t id)
{
    if (id >= ids->limit) {
        uint32_t n = ids->limit ? ids->limit : 1 << 10;
        while (n <= id)
            n *= 2;
        uint32_t *grown = reallocarray(ids->of, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + ids->limit, 0, (n - ids->limit) * sizeof *grown);
        ids->of = grown;
        ids->limit = n;
    }
    return &ids->of[id];
}

static int add_string(struct trace_rewrite *rw, uint32_t id, uint64_t *to)
{
    char text[TRACE_STRING_BYTES_MAX + 8]; // the writer cuts at a whole character
    int n = seg_reader_string(rw->reader, id, text, sizeof text);
    if (n < 0) {
        rw->stats.lost_names++;
        *to = 0;
        return 0;
    }
    size_t size = (size_t)n < sizeof text - 1 ? (size_t)n : sizeof text - 1;
    return trace_writer_string(rw->w, text, size, to);
}

static int add_stack(struct trace_rewrite *rw, uint32_t id, bool is_sample, uint64_t *to)
{
    const struct trace_writer_frame *frames;
    int n = trace_symbols_stack(rw->symbols, id, is_sample, &frames);
    *to = 0;
    return n > 0 ? trace_writer_stack(rw->w, frames, (uint32_t)n, to) : n;
}

enum id_kind { ID_STACK, ID_SAMPLE_STACK, ID_STRING };

static int map_id(struct trace_rewrite *rw, enum id_kind kind, uint64_t *id)
{
    struct ids *maps[] = {&rw->stacks, &rw->sample_stacks, &rw->strings};
    uint64_t to;
    if (!*id)
        return 0;
    if (*id >= IDS_MAX) {
        rw->stats.lost_names++;
        *id = 0;
        return 0;
    }
    uint32_t *known = place(maps[kind], *id);
    if (!known)
        return -ENOMEM;
    if (*known) {
        *id = *known - 1;
        return 0;
    }
    int rc = kind == ID_STRING ? add_string(rw, (uint32_t)*id, &to)
                               : add_stack(rw, (uint32_t)*id, kind == ID_SAMPLE_STACK, &to);
    if (rc || to >= UINT32_MAX)
        return rc ? rc : -EOVERFLOW;
    *known = (uint32_t)to + 1;
    *id = to;
    return 0;
}

// --- Threads.

static struct thread *thread_of(struct trace_rewrite *rw, uint32_t tid)
{
    uint32_t before = rw->tids.count;
    if (before >= rw->thread_capacity) {
        size_t n = rw->thread_capacity * 2 + 16;
        struct thread *grown = reallocarray(rw->threads, n, sizeof *grown);
        if (!grown)
            return NULL;
        rw->threads = grown;
        rw->thread_capacity = n;
    }
    uint32_t id = intern_put(&rw->tids, &tid, sizeof tid);
    if (id == INTERN_NONE)
        return NULL;
    if (id == before)
        rw->threads[id] = (struct thread){.goroutine = TRACE_NONE};
    return &rw->threads[id];
}

// A thread without the runtime is one goroutine as long as it lives; what runs a second one is a worker.
static void learn(struct thread *t, uint32_t tid, uint8_t wire, const uint64_t *args)
{
    bool is_own = args[1] == tid || args[2] == TRACE_GO_STATUS_RUNNING;
    bool is_status = (wire == TRACE_EV_GO_STATUS || wire == TRACE_EV_GO_STATUS_STACK) && is_own;
    if (wire != TRACE_EV_GO_START && wire != TRACE_EV_GO_CREATE_SYSCALL && !is_status)
        return;
    int64_t goroutine = args[0] <= INT64_MAX ? (int64_t)args[0] : TRACE_NONE;
    t->is_worker |= t->goroutine != TRACE_NONE && t->goroutine != goroutine;
    t->goroutine = goroutine;
}

// --- Stacks from outside.

int trace_rewrite_early(struct trace_rewrite *rw, uint32_t tid, const uint64_t *pcs, uint32_t depth)
{
    struct thread *t = thread_of(rw, tid);
    uint64_t *copy = t && depth ? malloc(depth * sizeof *pcs) : NULL;
    if (!t || (depth && !copy))
        return -ENOMEM;
    if (depth)
        memcpy(copy, pcs, depth * sizeof *pcs);
    free(t->early);
    t->early = copy;
    t->early_depth = depth;
    return 0;
}

// Whose stack an event without one is to have; NULL: nobody's.
static const struct thread *early_of(const struct trace_rewrite *rw, const struct thread *own,
                                     uint8_t wire, uint64_t *args)
{
    const struct thread *t = wire == TRACE_EV_GO_BLOCK ? own : NULL;
    if (wire == TRACE_EV_GO_STATUS_STACK && args[1] < NO_THREAD) {
        uint32_t tid = (uint32_t)args[1], known = intern_find(&rw->tids, &tid, sizeof tid);
        t = known == INTERN_NONE ? NULL : &rw->threads[known];
        if (args[2] ==
            TRACE_GO_STATUS_WAITING) // who waits has no thread; it was named for this alone
            args[1] = UINT64_MAX;
    }
    return t && t->early ? t : NULL;
}

static bool is_status(uint8_t wire)
{
    return wire == TRACE_EV_GO_STATUS_STACK || wire == TRACE_EV_PROC_STATUS ||
           wire == TRACE_EV_PROCS_CHANGE;
}

// Whether the thread can do at a place what the event says that it does.
static bool fits(const struct trace_rewrite *rw, uint8_t wire, const uint64_t *args,
                 struct trace_text leaf)
{
    char reason[64] = "";
    bool is_wait = wire == TRACE_EV_GO_BLOCK;
    if (is_wait && (args[0] >= IDS_MAX ||
                    seg_reader_string(rw->reader, (uint32_t)args[0], reason, sizeof reason) < 0))
        return true;
    if (!is_wait && args[2] == TRACE_GO_STATUS_WAITING) // for what, is not known
        return true;
    bool runs = !is_wait && args[2] == TRACE_GO_STATUS_RUNNING;
    return trace_api_fits(leaf.bytes, leaf.size_bytes, runs ? NULL : reason);
}

// Its stack was taken a moment before it was told what it does. If that is nothing that it can do there, it has gone on
// meanwhile: then no more is known of where it is than what it began with.
static int add_early(struct trace_rewrite *rw, const struct thread *t, uint8_t wire,
                     const uint64_t *args, uint64_t *to)
{
    const struct trace_writer_frame *frames;
    int n = trace_symbols_pcs(rw->symbols, t->early, t->early_depth, &frames);
    if (n > 1 && !fits(rw, wire, args, frames[0].function)) {
        const struct trace_writer_frame root = {.pc = frames[n - 1].pc,
                                                .function = frames[n - 1].function};
        return trace_writer_stack(rw->w, &root, 1, to);
    }
    return n > 0 ? trace_writer_stack(rw->w, frames, (uint32_t)n, to) : n;
}

// --- Events.

static int flush(struct trace_rewrite *rw)
{
    int rc =
        rw->size ? trace_writer_batch(rw->w, rw->thread, rw->batch_units, rw->batch, rw->size) : 0;
    rw->size = 0;
    return rc;
}

static int put_event(struct trace_rewrite *rw, uint8_t wire, const struct trace_spec *spec,
                     uint64_t units, uint64_t *args, const struct thread *early)
{
    int rc = 0;
    uint64_t was[TRACE_ARGS_MAX];
    memcpy(was, args, sizeof was);
    for (uint32_t i = 0; !rc && (spec->stacks | spec->strings) >> i; i++) {
        // Where the thread is says more than where it began.
        if (spec->stacks >> i & 1 && early && (!args[i] || wire == TRACE_EV_GO_STATUS_STACK))
            rc = add_early(rw, early, wire, was, &args[i]);
        else if (spec->stacks >> i & 1)
            rc = map_id(rw, ID_STACK, &args[i]);
        else if (spec->strings >> i & 1)
            rc = map_id(rw, ID_STRING, &args[i]);
    }
    if (!rc && rw->size + EVENT_BYTES_MAX > sizeof rw->batch)
        rc = flush(rw);
    if (rc)
        return rc;
    if (!rw->size)
        rw->batch_units = rw->last_units = units;
    uint8_t *at = rw->batch + rw->size;
    *at++ = wire;
    at = leb_write(at, units - rw->last_units);
    for (uint32_t i = 0; i < spec->arg_count; i++)
        at = leb_write(at, args[i]);
    rw->size = (size_t)(at - rw->batch);
    rw->last_units = units;
    rw->stats.events++;
    if (units < rw->stats.first_units)
        rw->stats.first_units = units;
    if (units > rw->stats.last_units)
        rw->stats.last_units = units;
    return 0;
}

enum { PIECE_WHOLE, PIECE_LEFT }; // the thread's later pieces are to be left out too

// One event, or why not: PIECE_LEFT after which no more of this thread is to be had.
static int next_event(struct trace_rewrite *rw, struct thread *thread, uint32_t tid,
                      const unsigned char **at, const unsigned char *end, uint64_t *units,
                      uint64_t until)
{
    uint8_t wire = *(*at)++;
    uint64_t dt, args[TRACE_ARGS_MAX] = {0};
    const struct trace_spec *spec = trace_spec_of(wire);
    bool is_sound = spec->is_timed && !spec->is_experimental && leb_read(at, end, &dt) &&
                    dt <= INT64_MAX - *units;
    for (uint32_t i = 0; is_sound && i < spec->arg_count; i++)
        is_sound = leb_read(at, end, &args[i]);
    if (!is_sound) {
        rw->stats.damaged++;
        return PIECE_LEFT;
    }
    *units += dt;
    if (*units >= until)
        return PIECE_LEFT;
    if (thread)
        learn(thread, tid, wire, args);
    int rc = put_event(rw, wire, spec, *units, args, early_of(rw, thread, wire, args));
    if (thread && thread->early && !is_status(wire)) { // it speaks itself
        free(thread->early);
        thread->early = NULL;
    }
    return rc;
}

static int put_piece(struct trace_rewrite *rw, const struct trace_piece *p, uint64_t until)
{
    const unsigned char *at = p->data, *end = p->data + p->size;
    uint64_t units = p->start_units <= INT64_MAX ? p->start_units : INT64_MAX;
    struct thread *thread = p->tid == NO_THREAD ? NULL : thread_of(rw, p->tid);
    int rc = p->tid != NO_THREAD && !thread ? -ENOMEM : PIECE_WHOLE;
    // Of two writers in turn (what belongs to no thread) each has its own time; a batch has one.
    if (rw->size && p->first_units < rw->last_units)
        rc = flush(rw);
    while (rc == PIECE_WHOLE && at < end)
        rc = next_event(rw, thread, p->tid, &at, end, &units, until);
    return rc;
}

int trace_rewrite_pieces(struct trace_rewrite *rw, const struct trace_piece *pieces, size_t count,
                         uint64_t until)
{
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < count; i++) {
        bool is_next = i == 0 || pieces[i].tid != pieces[i - 1].tid;
        if (is_next) {
            rc = flush(rw);
            rw->thread = pieces[i].tid == NO_THREAD ? TRACE_NONE : (int64_t)pieces[i].tid;
        }
        if (rc == 0)
            rc = put_piece(rw, &pieces[i], until);
    }
    return rc < 0 ? rc : flush(rw);
}

int trace_rewrite_sample(struct trace_rewrite *rw, const struct trace_sample *s)
{
    uint64_t stack = s->stack;
    int64_t goroutine = s->fiber && s->fiber <= INT64_MAX ? (int64_t)s->fiber : TRACE_NONE;
    uint32_t known = intern_find(&rw->tids, &s->tid, sizeof s->tid);
    if (goroutine == TRACE_NONE && known != INTERN_NONE && !rw->threads[known].is_worker)
        goroutine = rw->threads[known].goroutine;
    int rc = map_id(rw, ID_SAMPLE_STACK, &stack);
    if (!rc)
        rc = trace_writer_cpu_sample(rw->w, s->units, s->tid, TRACE_NONE, goroutine, stack);
    rw->stats.samples += !rc;
    return rc;
}
