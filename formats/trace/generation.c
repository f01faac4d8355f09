// SPDX-License-Identifier: MIT
//
// From bytes to the batches of one generation. Before 1.26 nothing says that a generation is whole:
// it ends where a batch of the next one begins, or where the input does. That is why damage behind
// at least one batch is no error yet (late): Go's reader gives such a generation if it can.

#include "formats/trace/leb.h"
#include "formats/trace/v1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_CHUNK_BYTES = 1 << 20, HEADER_BYTES_MAX = 2 + 4 * LEB_BYTES_MAX };

struct batch_header {
    uint8_t experiment;
    bool is_end; // a bare end mark
    uint64_t generation, time, size_bytes;
    int64_t thread;
    uint32_t length; // of the header itself
    int first_byte;  // of the data, -1: none
};

int generation_charge(struct trace_reader *r, uint64_t bytes)
{
    if (bytes > r->generation_bytes_max - r->gen.bytes_used)
        return reader_fail(r, -EFBIG, TRACE_RULE_SYSTEM,
                           "one generation needs more than %llu bytes of memory",
                           (unsigned long long)r->generation_bytes_max);
    r->gen.bytes_used += bytes;
    return 0;
}

static int no_memory(struct trace_reader *r)
{
    return reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
}

void *generation_room(struct trace_reader *r, void *items, uint32_t count, uint32_t *capacity,
                      size_t item_bytes)
{
    if (count < *capacity)
        return items;
    uint32_t more = *capacity ? 2 * *capacity : 16;
    if (more > UINT32_MAX / 4 || generation_charge(r, (more - *capacity) * item_bytes)) {
        if (!r->error.code)
            reader_fail(r, -EFBIG, TRACE_RULE_SYSTEM, "a generation with too many things");
        return NULL;
    }
    void *p = realloc(items, more * item_bytes);
    if (!p) {
        no_memory(r);
        return NULL;
    }
    *capacity = more;
    return p;
}

static bool pool_chunk(struct trace_reader *r, struct generation_pool *pool)
{
    if (pool->chunk_count && pool->chunk_at + 1 < pool->chunk_count) {
        pool->chunk_at++;
        pool->used = 0;
        return true;
    }
    unsigned char **chunks =
        generation_room(r, pool->chunks, pool->chunk_count, &pool->chunk_capacity, sizeof *chunks);
    if (!chunks)
        return false;
    pool->chunks = chunks;
    unsigned char *chunk = generation_charge(r, POOL_CHUNK_BYTES) ? NULL : malloc(POOL_CHUNK_BYTES);
    if (!chunk) {
        if (!r->error.code)
            no_memory(r);
        return false;
    }
    pool->chunk_at = pool->chunk_count;
    pool->chunks[pool->chunk_count++] = chunk;
    pool->used = 0;
    return true;
}

// size_bytes <= POOL_CHUNK_BYTES.
void *generation_alloc(struct trace_reader *r, size_t size_bytes)
{
    struct generation_pool *pool = &r->gen.pool;
    size_bytes = (size_bytes + 7) & ~(size_t)7;
    if ((!pool->chunk_count || POOL_CHUNK_BYTES - pool->used < size_bytes) && !pool_chunk(r, pool))
        return NULL;
    void *p = pool->chunks[pool->chunk_at] + pool->used;
    pool->used += size_bytes;
    return p;
}

void generation_finish(struct trace_generation *g)
{
    for (uint32_t i = 0; i < g->pool.chunk_count; i++)
        free(g->pool.chunks[i]);
    free(g->pool.chunks);
    free(g->batches);
    free(g->lists);
    free(g->strings);
    free(g->string_index.dense);
    free(g->string_index.slots);
    free(g->stack_batches);
    free(g->stacks);
    free(g->stack_index.dense);
    free(g->stack_index.slots);
    free(g->transient);
    free(g->frames);
    free(g->samples);
    free(g->experimental);
}

static void generation_reset(struct trace_generation *g)
{
    g->number = g->time_min = 0;
    g->ns_per_tick = 0;
    g->ns_integer = 0;
    g->clock = (struct trace_clock){.is_known = false};
    g->batch_count = g->list_count = 0;
    g->string_count = g->stack_batch_count = g->stack_count = g->transient_count = 0;
    g->string_index.dense_count = g->string_index.slot_count = 0;
    g->stack_index.dense_count = g->stack_index.slot_count = 0;
    g->frame_count = g->sample_count = g->experimental_count = 0;
    g->pool.chunk_at = 0;
    g->pool.used = 0;
    g->stamp++;
    g->is_last = false;
}

// --- A trace that ends too early. The error's byte is the one behind the last.

static int cut_header(struct trace_reader *r)
{
    unsigned long long begin = r->where.offset;
    r->where.offset = input_end(&r->input);
    return reader_fail(r, -ENODATA, TRACE_RULE_TRUNCATED,
                       "the file ends here, inside the header of a batch that begins at byte %llu",
                       begin);
}

static int cut_batch(struct trace_reader *r, const struct batch_header *h,
                     const struct trace_batch *b)
{
    const char *what = h->experiment       ? "experimental data"
                       : h->first_byte < 0 ? "unknown kind"
                                           : tables_kind_word((uint8_t)h->first_byte);
    r->where.offset = input_end(&r->input);
    return reader_fail(r, -ENODATA, TRACE_RULE_TRUNCATED,
                       "the file ends here, inside a batch of %s that begins at byte %llu and "
                       "should go on to byte %llu",
                       what, (unsigned long long)(b->offset - h->length),
                       (unsigned long long)(b->offset + b->size_bytes));
}

// An error that missing data can be the reason for, as opposed to bytes that are wrong.
static bool may_be_missing(enum trace_rule rule)
{
    return rule != TRACE_RULE_SYSTEM && rule != TRACE_RULE_HEADER && rule != TRACE_RULE_TRUNCATED &&
           rule != TRACE_RULE_BATCH && rule != TRACE_RULE_EVENT && rule != TRACE_RULE_TABLE;
}

void generation_explain(struct trace_reader *r)
{
    struct trace_error *e = &r->error;
    bool is_v1 = r->version < 22, has_clock = is_v1 ? r->v1 && r->v1->has_frequency : true;
    if (!may_be_missing(e->rule) || !(is_v1 || r->gen.is_last))
        return;
    if (r->late.code) { // what comes first in the file is what happened
        *e = r->late;
        return;
    }
    uint64_t end = input_end(&r->input);
    if (e->rule == TRACE_RULE_GENERATION || !has_clock) {
        uint64_t generation = e->generation;
        uint32_t count = is_v1 ? r->v1->batch_count : r->batch_next;
        *e = (struct trace_error){0};
        r->where = (struct trace_error){.generation = generation,
                                        .batch = count ? count - 1 : 0,
                                        .offset = end,
                                        .thread = TRACE_NONE};
        reader_fail(r, -ENODATA, TRACE_RULE_TRUNCATED, "%s",
                    end <= TRACE_HEADER_BYTES
                        ? "the file ends here, behind its header: nothing was recorded"
                    : is_v1 ? "the file ends here, before the clock's frequency, which a whole "
                              "trace has near its end"
                            : "the file ends here, behind a batch, but before the generation is "
                              "whole: the clock's frequency or time is missing");
        return;
    }
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n,
             "; the file ends at byte %llu, maybe too early for what this needs",
             (unsigned long long)end);
}

// --- Batches.

static int header_fields(struct trace_reader *r, const unsigned char *p, const unsigned char *end,
                         struct batch_header *h)
{
    static const char *const names[] = {"generation", "thread", "time", "size"};
    uint64_t v[4];
    const unsigned char *begin = p++;
    if (*begin == TRACE_EV_EXPERIMENTAL_BATCH) {
        if (p == end)
            return cut_header(r);
        h->experiment = *p++;
    }
    for (int i = 0; i < 4; i++) {
        if (leb_read(&p, end, &v[i]))
            continue;
        if (end - p < LEB_BYTES_MAX)
            return cut_header(r);
        return reader_fail(r, -EINVAL, TRACE_RULE_BATCH, "%s of a batch is not a number", names[i]);
    }
    h->generation = v[0];
    h->thread = (int64_t)v[1];
    h->time = v[2];
    h->size_bytes = v[3];
    h->length = (uint32_t)(p - begin);
    h->first_byte = v[3] && p < end ? *p : -1;
    if (v[3] > TRACE_BATCH_BYTES_MAX)
        return reader_fail(r, -EINVAL, TRACE_RULE_BATCH,
                           "a batch of %llu bytes, the format permits %d", (unsigned long long)v[3],
                           TRACE_BATCH_BYTES_MAX);
    return 0;
}

// The header of the next batch, without moving on. 1, 0 at the end, -errno.
static int header_peek(struct trace_reader *r, struct batch_header *h)
{
    const unsigned char *p;
    *h = (struct batch_header){.thread = TRACE_NONE, .first_byte = -1};
    r->where.offset = r->input.offset;
    r->where.batch = r->batch_next;
    r->where.thread = TRACE_NONE;
    r->where.wire = 0;
    int n = input_peek(&r->input, HEADER_BYTES_MAX + 1, &p);
    if (n < 0)
        return reader_fail(r, n, TRACE_RULE_SYSTEM, "%s", strerror(-n));
    if (n == 0)
        return 0;
    if (*p == TRACE_EV_END_OF_GENERATION) {
        h->is_end = true;
        h->length = 1;
        return 1;
    }
    if (*p != TRACE_EV_BATCH && *p != TRACE_EV_EXPERIMENTAL_BATCH)
        return reader_fail(r, -EINVAL, TRACE_RULE_BATCH,
                           "a batch should begin here, byte 0x%02x does not begin one", *p);
    int rc = header_fields(r, p, p + n, h);
    if (rc)
        return rc;
    r->where.thread = h->thread;
    return 1;
}

// Moves over a batch whose header was peeked at; its data goes to memory if need be.
static int batch_take(struct trace_reader *r, const struct batch_header *h, bool load,
                      struct trace_batch *b)
{
    input_skip(&r->input, h->length);
    uint32_t size = (uint32_t)h->size_bytes;
    *b = (struct trace_batch){
        .offset = r->input.offset,
        .time = h->time,
        .size_bytes = size,
        .number = r->batch_next++,
    };
    r->where.offset = r->input.offset;
    int has = input_has(&r->input, size);
    if (has < 0)
        return reader_fail(r, has, TRACE_RULE_SYSTEM, "%s", strerror(-has));
    if (has && r->input.kind == INPUT_MEMORY) {
        b->data = r->input.data + r->input.offset;
        input_skip(&r->input, size);
    } else if (has && (load || r->input.kind == INPUT_STREAM)) {
        unsigned char *data = generation_alloc(r, size);
        if (!data)
            return r->error.code;
        int64_t n = input_read(&r->input, data, size);
        if (n < 0)
            return reader_fail(r, (int)n, TRACE_RULE_SYSTEM, "%s", strerror((int)-n));
        has = n == size;
        b->data = data;
    } else {
        input_skip(&r->input, size);
    }
    if (!has)
        return cut_batch(r, h, b);
    return 0;
}

static struct batch_list *list_of(struct trace_reader *r, int64_t thread)
{
    struct trace_generation *g = &r->gen;
    struct state_thread *t =
        thread == TRACE_NONE ? &r->state.nobody : state_find_thread(&r->state, thread);
    int rc = t ? 0 : state_add_thread(&r->state, thread, &t);
    if (rc) {
        reader_fail(r, rc, TRACE_RULE_SYSTEM,
                    rc == -EFBIG ? "more lives at one time than %llu bytes of memory can hold"
                                 : "out of memory (of the limit of %llu bytes)",
                    (unsigned long long)r->state.bytes_max);
        return NULL;
    }
    if (t->list < g->list_count && g->lists[t->list].thread == t)
        return &g->lists[t->list];
    struct batch_list *lists =
        generation_room(r, g->lists, g->list_count, &g->list_capacity, sizeof *lists);
    if (!lists)
        return NULL;
    g->lists = lists;
    t->list = g->list_count++;
    g->lists[t->list] = (struct batch_list){.thread = t};
    return &g->lists[t->list];
}

static int batch_link(struct trace_reader *r, int64_t thread, const struct trace_batch *b)
{
    struct trace_generation *g = &r->gen;
    struct batch_list *list = list_of(r, thread);
    struct trace_batch *batches =
        list ? generation_room(r, g->batches, g->batch_count, &g->batch_capacity, sizeof *batches)
             : NULL;
    if (!batches)
        return r->error.code;
    g->batches = batches;
    batches[g->batch_count++] = *b;
    if (list->last)
        batches[list->last - 1].next = g->batch_count;
    else
        list->first = g->batch_count;
    list->last = g->batch_count;
    return 0;
}

static int batch_add(struct trace_reader *r, const struct batch_header *h)
{
    struct trace_generation *g = &r->gen;
    bool is_plain =
        h->experiment == 0 && (h->first_byte < 0 || !tables_has_kind(r, (uint8_t)h->first_byte));
    struct trace_batch b;
    int rc = batch_take(r, h, !is_plain, &b);
    if (rc)
        return rc;
    if (is_plain)
        return batch_link(r, h->thread, &b);
    if (h->experiment == 0)
        return tables_add(r, &b);
    struct trace_experimental_batch *e = generation_room(r, g->experimental, g->experimental_count,
                                                         &g->experimental_capacity, sizeof *e);
    if (!e)
        return r->error.code;
    g->experimental = e;
    e[g->experimental_count++] = (struct trace_experimental_batch){
        .experiment = h->experiment,
        .thread = h->thread,
        .data = b.data,
        .size_bytes = b.size_bytes,
    };
    return 0;
}

// Whether a batch ends the generation before it: 1 yes, 0 no, -errno it must not stand here.
static int batch_ends(struct trace_reader *r, const struct batch_header *h)
{
    struct trace_generation *g = &r->gen;
    bool is_end = h->is_end || (h->experiment == 0 && h->first_byte == TRACE_EV_END_OF_GENERATION);
    if (is_end && r->version >= 26)
        return 1;
    if (is_end || h->generation == 0)
        return reader_fail(r, -EINVAL, TRACE_RULE_GENERATION,
                           is_end ? "an end of generation, which go 1.%u does not have"
                                  : "a batch of generation 0 (go 1.%u)",
                           r->version);
    if (g->number == 0) {
        g->number = r->where.generation = h->generation;
        g->offset = r->input.offset;
        return 0;
    }
    if (h->generation == g->number)
        return 0;
    if (r->version < 26 && h->generation == g->number + 1)
        return 1;
    return reader_fail(r, -EINVAL, TRACE_RULE_GENERATION,
                       "a batch of generation %llu inside generation %llu",
                       (unsigned long long)h->generation, (unsigned long long)g->number);
}

// 1.26: the end mark is a byte, or (Go accepts it) a batch that begins with one.
static int end_take(struct trace_reader *r, const struct batch_header *h)
{
    struct trace_batch b;
    if (!h->is_end)
        return batch_take(r, h, false, &b);
    input_skip(&r->input, 1);
    return 0;
}

static int end_without_mark(struct trace_reader *r)
{
    reader_fail(r, -ENODATA, TRACE_RULE_TRUNCATED,
                "the file ends here, behind a batch, but before the mark that ends the generation");
    if (!r->gives_rest)
        return r->error.code;
    r->late = r->error;
    r->error.code = 0;
    return 1;
}

// Whether the error may be behind all that the generation has.
static bool may_be_behind(const struct trace_reader *r, bool is_readable)
{
    if (r->gives_rest)
        return r->error.rule != TRACE_RULE_SYSTEM;
    return r->version < 26 && (!is_readable || r->error.code == -ENODATA);
}

// All batches of the next generation. 1, 0: there is none, -errno.
static int batches_read(struct trace_reader *r)
{
    struct trace_generation *g = &r->gen;
    for (;;) {
        struct batch_header h;
        int rc = header_peek(r, &h);
        if (rc == 0) {
            g->is_last = true;
            if (r->version >= 26 && g->list_count)
                return end_without_mark(r);
            return r->version < 26 && (g->number || !r->has_read);
        }
        bool is_readable = rc > 0;
        rc = rc < 0 ? rc : batch_ends(r, &h);
        if (rc > 0 && r->version >= 26) {
            rc = end_take(r, &h);
            return rc ? rc : 1;
        }
        if (rc > 0)
            return 1;
        if (rc == 0) {
            if (g->time_min == 0 || h.time < g->time_min)
                g->time_min = h.time;
            rc = batch_add(r, &h);
        }
        if (rc == 0)
            continue;
        // The bytes stop making sense, but maybe behind the generation: it is given first.
        if (g->number && may_be_behind(r, is_readable)) {
            g->is_last = true;
            r->late = r->error;
            r->error.code = 0;
            return 1;
        }
        return rc;
    }
}

int generation_read(struct trace_reader *r)
{
    generation_reset(&r->gen);
    if (r->late.code) {
        r->error = r->late;
        return r->error.code;
    }
    r->where = (struct trace_error){.thread = TRACE_NONE};
    int rc = batches_read(r);
    if (rc > 0) {
        int code = tables_complete(r);
        code = code ? code : notes_collect(r);
        rc = code ? code : 1;
    }
    if (rc >= 0)
        r->has_read = true;
    return rc;
}
