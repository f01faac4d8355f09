// SPDX-License-Identifier: MIT
//
// Strings, stacks, CPU samples and clocks of a generation.
//
// As in Go's reader a frame is known by its pc: what the first stack with a pc says about it holds
// for the whole generation.

#include "formats/ptrtab.h"
#include "formats/trace/leb.h"
#include "formats/trace/v1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct span {
    const unsigned char *at, *end;
    const unsigned char *begin;
    uint64_t offset; // of begin in the trace
};

static int bad(struct trace_reader *r, const struct span *s, const char *what)
{
    r->where.offset = s->offset + (uint64_t)(s->at - s->begin);
    return reader_fail(r, -EINVAL, TRACE_RULE_TABLE, "%s", what);
}

static bool number(struct span *s, uint64_t *v)
{
    return leb_read(&s->at, s->end, v);
}

bool tables_has_kind(const struct trace_reader *r, uint8_t first_byte)
{
    return first_byte == TRACE_EV_STRINGS || first_byte == TRACE_EV_STACKS ||
           first_byte == TRACE_EV_CPU_SAMPLES ||
           first_byte == (r->version < 25 ? TRACE_EV_FREQUENCY : TRACE_EV_SYNC);
}

const char *tables_kind_word(uint8_t first_byte)
{
    switch (first_byte) {
    case TRACE_EV_STRINGS: return "strings";
    case TRACE_EV_STACKS: return "stacks";
    case TRACE_EV_CPU_SAMPLES: return "CPU samples";
    case TRACE_EV_FREQUENCY:
    case TRACE_EV_SYNC: return "the clock";
    default: return "events";
    }
}

static int strings_add(struct trace_reader *r, struct span *s)
{
    struct trace_generation *g = &r->gen;
    while (s->at < s->end) {
        uint64_t id, n;
        if (*s->at != TRACE_EV_STRING)
            return bad(r, s, "a string should begin here");
        s->at++;
        if (!number(s, &id) || !number(s, &n))
            return bad(r, s, "id and size of a string cannot be read");
        if (n > TRACE_STRING_BYTES_MAX)
            return bad(r, s, "a string is longer than the format permits (1024 bytes)");
        if (n > (size_t)(s->end - s->at))
            return bad(r, s, "a string is longer than its batch");
        if (id == 0)
            return bad(r, s, "string 0 is the empty one and cannot be defined");
        struct generation_string *items =
            generation_room(r, g->strings, g->string_count, &g->string_capacity, sizeof *items);
        if (!items)
            return r->error.code;
        g->strings = items;
        items[g->string_count++] = (struct generation_string){
            .file_id = id,
            .bytes = (const char *)s->at,
            .size_bytes = (uint32_t)n,
        };
        s->at += n;
    }
    return 0;
}

static int samples_add(struct trace_reader *r, struct span *s, uint32_t batch)
{
    struct trace_generation *g = &r->gen;
    while (s->at < s->end) {
        uint64_t v[5];
        uint64_t offset = s->offset + (uint64_t)(s->at - s->begin);
        if (*s->at != TRACE_EV_CPU_SAMPLE)
            return bad(r, s, "a CPU sample should begin here");
        s->at++;
        for (int i = 0; i < 5; i++)
            if (!number(s, &v[i]))
                return bad(r, s, "a number of a CPU sample cannot be read");
        struct generation_sample *items =
            generation_room(r, g->samples, g->sample_count, &g->sample_capacity, sizeof *items);
        if (!items)
            return r->error.code;
        g->samples = items;
        items[g->sample_count++] = (struct generation_sample){
            .time_ns = (int64_t)v[0], // in clock units until the frequency is known
            .thread = (int64_t)v[1],
            .proc = (int64_t)v[2],
            .goroutine = v[3] ? (int64_t)v[3] : TRACE_NONE,
            .stack = v[4],
            .offset = offset,
            .batch = batch,
        };
    }
    return 0;
}

static int snapshot_add(struct trace_reader *r, struct span *s, uint64_t time)
{
    struct trace_generation *g = &r->gen;
    uint64_t v[4];
    if (g->clock.is_known)
        return bad(r, s, "a second clock snapshot");
    for (int i = 0; i < 4; i++)
        if (!number(s, &v[i]))
            return bad(r, s, "a number of a clock snapshot cannot be read");
    g->clock_ticks = time + v[0];
    g->clock = (struct trace_clock){
        .is_known = true,
        .mono_ns = v[1],
        .wall_s = (int64_t)(v[2] + v[3] / 1000000000),
        .wall_ns = (int64_t)(v[3] % 1000000000),
    };
    return 0;
}

static int clock_add(struct trace_reader *r, struct span *s, uint64_t time)
{
    struct trace_generation *g = &r->gen;
    while (s->at < s->end) {
        uint64_t frequency;
        uint8_t wire = *s->at;
        if (wire == TRACE_EV_FREQUENCY) {
            if (g->ns_per_tick != 0)
                return bad(r, s, "a second frequency");
            s->at++;
            if (!number(s, &frequency) || frequency == 0)
                return bad(r, s, "a frequency that is no positive number");
            g->ns_per_tick = 1.0 / ((double)frequency / 1e9);
            if (g->ns_per_tick < 1 << 20 && g->ns_per_tick == (double)(uint64_t)g->ns_per_tick)
                g->ns_integer = (uint64_t)g->ns_per_tick;
        } else if (wire == TRACE_EV_CLOCK_SNAPSHOT && r->version >= 25) {
            s->at++;
            int rc = snapshot_add(r, s, time);
            if (rc)
                return rc;
        } else {
            return bad(r, s, "a frequency or a clock snapshot should begin here");
        }
    }
    return 0;
}

int tables_add(struct trace_reader *r, const struct trace_batch *b)
{
    struct trace_generation *g = &r->gen;
    struct span s = {b->data, b->data + b->size_bytes, b->data, b->offset};
    if (*s.at == TRACE_EV_FREQUENCY)
        return clock_add(r, &s, b->time);
    switch (*s.at++) {
    case TRACE_EV_STRINGS: return strings_add(r, &s);
    case TRACE_EV_CPU_SAMPLES: return samples_add(r, &s, b->number);
    case TRACE_EV_SYNC: return clock_add(r, &s, b->time);
    default: break; // TRACE_EV_STACKS
    }
    struct trace_batch *batches = generation_room(r, g->stack_batches, g->stack_batch_count,
                                                  &g->stack_batch_capacity, sizeof *batches);
    if (!batches)
        return r->error.code;
    g->stack_batches = batches;
    batches[g->stack_batch_count++] = *b;
    return 0;
}

// --- Indexes.

static uint32_t slot_home(const struct id_index *x, uint64_t id)
{
    return (uint32_t)ptrtab_mix(x->seed, id) & (x->slot_count - 1);
}

uint32_t id_find_hashed(const struct id_index *x, uint64_t id)
{
    uint32_t i = slot_home(x, id);
    while (x->slots[i].value && x->slots[i].id != id)
        i = (i + 1) & (x->slot_count - 1);
    return x->slots[i].value;
}

// Grows *capacity to at least count and zeroes so many items. NULL with the error set.
static void *zeroed(struct trace_reader *r, void *items, uint32_t count, uint32_t *capacity,
                    size_t item_bytes)
{
    while (*capacity < count) {
        void *more = generation_room(r, items, *capacity, capacity, item_bytes);
        if (!more)
            return NULL;
        items = more;
    }
    return memset(items, 0, count * item_bytes);
}

// An empty index for count ids up to id_max: an array if that wastes little.
static int index_begin(struct trace_reader *r, struct id_index *x, uint64_t id_max, uint32_t count)
{
    x->dense_count = x->slot_count = 0;
    x->seed = r->state.seed;
    if (count == 0)
        return 0;
    void *items;
    if (id_max < 4 * (uint64_t)count + 1024) {
        uint32_t dense_count = (uint32_t)id_max + 1;
        items = zeroed(r, x->dense, dense_count, &x->dense_capacity, sizeof *x->dense);
        if (!items)
            return r->error.code;
        x->dense = items;
        x->dense_count = dense_count;
        return 0;
    }
    uint32_t slot_count = 64;
    while (slot_count < 2 * count)
        slot_count *= 2;
    items = zeroed(r, x->slots, slot_count, &x->slot_capacity, sizeof *x->slots);
    if (!items)
        return r->error.code;
    x->slots = items;
    x->slot_count = slot_count;
    return 0;
}

// false: the id is taken.
static bool index_put(struct id_index *x, uint64_t id, uint32_t value)
{
    if (id_find(x, id))
        return false;
    if (!x->slot_count) {
        x->dense[id] = value;
        return true;
    }
    uint32_t i = slot_home(x, id);
    while (x->slots[i].value)
        i = (i + 1) & (x->slot_count - 1);
    x->slots[i] = (struct id_slot){id, value};
    return true;
}

static int strings_index(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    uint64_t id_max = 0;
    for (uint32_t i = 0; i < g->string_count; i++)
        if (g->strings[i].file_id > id_max)
            id_max = g->strings[i].file_id;
    int rc = index_begin(r, &g->string_index, id_max, g->string_count);
    for (uint32_t i = 0; !rc && i < g->string_count; i++)
        if (!index_put(&g->string_index, g->strings[i].file_id, i + 1))
            rc = reader_fail(r, -EINVAL, TRACE_RULE_TABLE, "string %llu is defined twice",
                             (unsigned long long)g->strings[i].file_id);
    return rc;
}

static int stacks_index(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    uint64_t id_max = 0;
    for (uint32_t i = 0; i < g->stack_count; i++)
        if (g->stacks[i].file_id > id_max)
            id_max = g->stacks[i].file_id;
    int rc = index_begin(r, &g->stack_index, id_max, g->stack_count);
    for (uint32_t i = 0; !rc && i < g->stack_count; i++)
        if (!index_put(&g->stack_index, g->stacks[i].file_id, g->stacks[i].id) && r->version >= 22)
            rc = reader_fail(r, -EINVAL, TRACE_RULE_TABLE, "stack %llu is defined twice",
                             (unsigned long long)g->stacks[i].file_id);
    return rc;
}

// --- Strings on demand.

uint32_t generation_string_id(struct trace_reader *r, struct generation_string *s)
{
    if (s->id || s->size_bytes == 0)
        return s->id;
    int rc = 0;
    s->id = trace_intern_string(&r->intern, s->bytes, s->size_bytes, &rc);
    if (rc)
        reader_fail(r, rc, TRACE_RULE_SYSTEM, "out of memory");
    else if (!s->id)
        s->id = TRACE_ID_TRANSIENT | (uint32_t)(s - r->gen.strings);
    return s->id;
}

int generation_add_text(struct trace_reader *r, const char *bytes, uint32_t n, uint32_t *id)
{
    struct trace_generation *g = &r->gen;
    struct generation_string *items =
        generation_room(r, g->strings, g->string_count, &g->string_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    g->strings = items;
    char *copy = generation_alloc(r, n);
    if (!copy)
        return r->error.code;
    memcpy(copy, bytes, n);
    items += g->string_count++;
    *items = (struct generation_string){.bytes = copy, .size_bytes = n};
    *id = generation_string_id(r, items);
    return r->error.code;
}

// --- Stacks.

static int frames_grow(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    uint32_t old = g->frame_capacity, more = old ? 2 * old : 1024;
    struct generation_frame *was = g->frames, *frames = NULL;
    uint32_t capacity = 0;
    while (capacity < more) {
        void *p = generation_room(r, frames, capacity, &capacity, sizeof *frames);
        if (!p) {
            free(frames);
            return r->error.code;
        }
        frames = p;
    }
    if (frames) // always: old or 1024 were asked for
        memset(frames, 0, capacity * sizeof *frames);
    for (uint32_t i = 0; i < old; i++) {
        if (was[i].stamp != g->stamp)
            continue;
        uint32_t at = (uint32_t)ptrtab_mix(r->intern.seed, was[i].frame.pc) & (capacity - 1);
        while (frames[at].stamp == g->stamp)
            at = (at + 1) & (capacity - 1);
        frames[at] = was[i];
    }
    free(was);
    g->frames = frames;
    g->frame_capacity = capacity;
    return 0;
}

static int frame_text(struct trace_reader *r, uint64_t file_id, const char *what, uint32_t *id)
{
    uint32_t place = id_find(&r->gen.string_index, file_id);
    *id = 0;
    if (file_id == 0)
        return 0;
    if (!place && reader_may_lack(r))
        return 0;
    if (!place && r->version < 22) {
        *id = TRACE_ID_MISSING;
        return 0;
    }
    if (!place)
        return reader_fail(r, -EINVAL, TRACE_RULE_ID,
                           "a frame's %s is string %llu, which is not there", what,
                           (unsigned long long)file_id);
    *id = generation_string_id(r, &r->gen.strings[place - 1]);
    return r->error.code;
}

// The frame of v: pc, function, file, line.
static int frame_find(struct trace_reader *r, const uint64_t v[4], struct trace_frame *frame)
{
    struct trace_generation *g = &r->gen;
    if (2 * (g->frame_count + 1) > g->frame_capacity) {
        int rc = frames_grow(r);
        if (rc)
            return rc;
    }
    uint32_t mask = g->frame_capacity - 1;
    uint32_t at = (uint32_t)ptrtab_mix(r->intern.seed, v[0]) & mask;
    while (g->frames[at].stamp == g->stamp && g->frames[at].frame.pc != v[0])
        at = (at + 1) & mask;
    struct generation_frame *f = &g->frames[at];
    if (f->stamp != g->stamp) {
        f->frame = (struct trace_frame){.pc = v[0], .line = v[3]};
        int rc = frame_text(r, v[1], "function", &f->frame.function);
        if (!rc)
            rc = frame_text(r, v[2], "file", &f->frame.file);
        if (rc)
            return rc;
        f->stamp = g->stamp;
        g->frame_count++;
    }
    *frame = f->frame;
    return 0;
}

// A stack of this generation only: its id.
static uint32_t stack_transient(struct trace_reader *r, const struct trace_frame *frames,
                                uint32_t count)
{
    struct trace_generation *g = &r->gen;
    struct transient_stack *items =
        generation_room(r, g->transient, g->transient_count, &g->transient_capacity, sizeof *items);
    if (!items)
        return 0;
    g->transient = items;
    struct trace_frame *copy = generation_alloc(r, count * sizeof *frames);
    if (!copy)
        return 0;
    memcpy(copy, frames, count * sizeof *frames);
    items[g->transient_count] = (struct transient_stack){copy, count};
    return TRACE_ID_TRANSIENT | g->transient_count++;
}

static uint32_t stack_id(struct trace_reader *r, const struct trace_frame *frames, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if ((frames[i].function | frames[i].file) & TRACE_ID_TRANSIENT)
            return stack_transient(r, frames, count);
    int rc = 0;
    uint32_t id = trace_intern_stack(&r->intern, frames, count, &rc);
    if (rc)
        reader_fail(r, rc, TRACE_RULE_SYSTEM, "out of memory");
    return id || rc ? id : stack_transient(r, frames, count);
}

static int stack_add(struct trace_reader *r, struct span *s)
{
    struct trace_generation *g = &r->gen;
    struct trace_frame frames[TRACE_STACK_FRAMES_MAX];
    uint64_t id, count, v[4];
    if (*s->at != TRACE_EV_STACK)
        return bad(r, s, "a stack should begin here");
    s->at++;
    if (!number(s, &id) || !number(s, &count))
        return bad(r, s, "id and size of a stack cannot be read");
    if (count > TRACE_STACK_FRAMES_MAX)
        return bad(r, s, "a stack is deeper than the format permits (128 frames)");
    if (id == 0)
        return bad(r, s, "stack 0 is no stack and cannot be defined");
    for (uint64_t i = 0; i < count; i++) {
        r->where.offset = s->offset + (uint64_t)(s->at - s->begin);
        if (!number(s, &v[0]) || !number(s, &v[1]) || !number(s, &v[2]) || !number(s, &v[3]))
            return bad(r, s, "a frame of a stack cannot be read");
        int rc = frame_find(r, v, &frames[i]);
        if (rc)
            return rc;
    }
    struct generation_stack *items =
        generation_room(r, g->stacks, g->stack_count, &g->stack_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    g->stacks = items;
    items[g->stack_count++] = (struct generation_stack){
        .file_id = id,
        .id = stack_id(r, frames, (uint32_t)count),
    };
    return r->error.code;
}

static int stacks_decode(struct trace_reader *r)
{
    const struct trace_generation *g = &r->gen;
    for (uint32_t i = 0; i < g->stack_batch_count; i++) {
        const struct trace_batch *b = &g->stack_batches[i];
        struct span s = {b->data + 1, b->data + b->size_bytes, b->data, b->offset};
        r->where.batch = b->number;
        while (s.at < s.end) {
            int rc = stack_add(r, &s);
            if (rc)
                return rc;
        }
    }
    return 0;
}

// --- Samples.

// In order of time; equal ones stay as they are. Merges, so that a hostile order costs no more.
static int samples_sort(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    uint32_t n = g->sample_count, i = 1;
    for (uint32_t k = 0; k < n; k++)
        g->samples[k].time_ns = ticks_to_ns(g->ns_per_tick, (uint64_t)g->samples[k].time_ns);
    while (i < n && g->samples[i - 1].time_ns <= g->samples[i].time_ns)
        i++;
    if (i >= n)
        return 0;
    struct generation_sample *from = g->samples, *to = calloc(n, sizeof *to);
    if (!to)
        return reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t low = 0; low < n; low += 2 * width) {
            uint32_t a = low, mid = low + width < n ? low + width : n, b = mid;
            uint32_t high = mid + width < n ? mid + width : n;
            for (uint32_t k = low; k < high; k++) {
                bool left = a < mid && (b == high || from[a].time_ns <= from[b].time_ns);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        struct generation_sample *swap = from;
        from = to;
        to = swap;
        if (width > n / 2)
            break;
    }
    if (from != g->samples)
        memcpy(g->samples, from, n * sizeof *from);
    free(from == g->samples ? to : from);
    return 0;
}

int tables_complete(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    r->where.thread = TRACE_NONE;
    r->where.offset = r->input.offset;
    if (g->ns_per_tick == 0)
        return reader_fail(r, -EINVAL, TRACE_RULE_GENERATION, "a generation without a frequency");
    if (r->version >= 25 && !g->clock.is_known)
        return reader_fail(r, -EINVAL, TRACE_RULE_GENERATION,
                           "a generation without a clock snapshot");
    g->clock.trace_ns = ticks_to_ns(g->ns_per_tick, g->clock_ticks);
    int rc = strings_index(r);
    if (!rc)
        rc = stacks_decode(r);
    if (!rc)
        rc = stacks_index(r);
    if (!rc)
        rc = samples_sort(r);
    return rc;
}

// --- Tables of format v1.

static int stack_add_v1(struct trace_reader *r, const struct v1_stack *s)
{
    struct trace_generation *g = &r->gen;
    struct trace_frame frames[TRACE_V1_STACK_FRAMES_MAX];
    const unsigned char *at = s->frames, *end = r->v1->data + r->v1->size_bytes;
    bool is_whole = true;
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t v[4] = {0};
        for (int k = 0; k < 4; k++)
            leb_read(&at, end, &v[k]); // they were read before
        int rc = frame_find(r, v, &frames[i]);
        if (rc)
            return rc;
        is_whole &= frames[i].function != TRACE_ID_MISSING && frames[i].file != TRACE_ID_MISSING;
    }
    uint32_t id = is_whole ? stack_id(r, frames, s->count) : TRACE_ID_MISSING;
    g->stacks[g->stack_count++] = (struct generation_stack){s->id, id};
    return r->error.code;
}

int tables_complete_v1(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    const struct trace_v1 *v = r->v1;
    g->stamp++;
    int rc = strings_index(r);
    if (rc)
        return rc;
    g->stacks = v1_alloc(r, v->stack_count, sizeof *g->stacks);
    if (!g->stacks)
        return r->error.code;
    // The first to say what a pc is holds, the last to say what a stack is.
    for (uint32_t i = 0; !rc && i < v->stack_count; i++)
        rc = stack_add_v1(r, &v->stacks[i]);
    for (uint32_t i = 0, k = g->stack_count; i + 1 < k; i++) {
        struct generation_stack swap = g->stacks[i];
        g->stacks[i] = g->stacks[--k];
        g->stacks[k] = swap;
    }
    return rc ? rc : stacks_index(r);
}
