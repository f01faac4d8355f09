// SPDX-License-Identifier: MIT

#include "formats/trace/v1.h"
#include "formats/ptrtab.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FIRST_BYTES = 64 << 10 };

void v1_finish(struct trace_v1 *v)
{
    if (!v)
        return;
    free(v->owned);
    free(v->batches);
    free(v->by_proc);
    free(v->procs);
    free(v->samples);
    free(v->sample_order);
    free(v->events);
    free(v->order);
    free(v->stacks);
    free(v->gos);
    free(v->go_map.slots);
    free(v->tasks);
    free(v->task_map.slots);
    free(v->regions);
    free(v->told);
    free(v);
}

int v1_fail(struct trace_reader *r, const struct v1_event *ev, enum trace_rule rule,
            const char *fmt, ...)
{
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    r->where = (struct trace_error){.batch = ev->batch, .offset = ev->offset, .thread = TRACE_NONE};
    return reader_fail(r, -EINVAL, rule, "%s %s", v1_name(ev->type), what);
}

void *v1_alloc(struct trace_reader *r, uint64_t count, size_t item_bytes)
{
    if (generation_charge(r, count * item_bytes)) // count is below 2^33 everywhere
        return NULL;
    void *p = calloc(count ? count : 1, item_bytes);
    if (!p)
        reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
    return p;
}

void v1_free(struct trace_reader *r, void *p, uint64_t count, size_t item_bytes)
{
    if (p)
        r->gen.bytes_used -= count * item_bytes;
    free(p);
}

// --- Goroutines, tasks, Ps.

static uint32_t map_home(const struct trace_reader *r, const struct v1_map *m, uint64_t id)
{
    return (uint32_t)ptrtab_mix(r->intern.seed, id) & (m->capacity - 1);
}

static uint32_t map_find(const struct trace_reader *r, const struct v1_map *m, uint64_t id)
{
    if (!m->capacity)
        return 0;
    uint32_t i = map_home(r, m, id);
    while (m->slots[i].value && m->slots[i].id != id)
        i = (i + 1) & (m->capacity - 1);
    return m->slots[i].value;
}

static void map_put(const struct trace_reader *r, struct v1_map *m, uint64_t id, uint32_t value)
{
    uint32_t i = map_home(r, m, id);
    while (m->slots[i].value)
        i = (i + 1) & (m->capacity - 1);
    m->slots[i] = (struct id_slot){id, value};
    m->count++;
}

static int map_add(struct trace_reader *r, struct v1_map *m, uint64_t id, uint32_t value)
{
    if (2 * (m->count + 1) > m->capacity) {
        struct v1_map more = {.capacity = m->capacity ? 2 * m->capacity : 64};
        more.slots = v1_alloc(r, more.capacity, sizeof *more.slots);
        if (!more.slots)
            return r->error.code;
        for (uint32_t i = 0; i < m->capacity; i++)
            if (m->slots[i].value)
                map_put(r, &more, m->slots[i].id, m->slots[i].value);
        v1_free(r, m->slots, m->capacity, sizeof *m->slots);
        *m = more;
    }
    map_put(r, m, id, value);
    return 0;
}

struct v1_go *v1_go_look(const struct trace_reader *r, uint64_t id)
{
    uint32_t place = map_find(r, &r->v1->go_map, id);
    return place ? &r->v1->gos[place - 1] : NULL;
}

struct v1_go *v1_go_of(struct trace_reader *r, uint64_t id)
{
    struct trace_v1 *v = r->v1;
    struct v1_go *g = v1_go_look(r, id);
    if (g)
        return g;
    g = generation_room(r, v->gos, v->go_count, &v->go_capacity, sizeof *g);
    if (!g)
        return NULL;
    v->gos = g;
    if (map_add(r, &v->go_map, id, v->go_count + 1))
        return NULL;
    g += v->go_count++;
    *g = (struct v1_go){.id = id};
    return g;
}

struct v1_task *v1_task_of(struct trace_reader *r, uint64_t id)
{
    struct trace_v1 *v = r->v1;
    uint32_t place = map_find(r, &v->task_map, id);
    if (place)
        return &v->tasks[place - 1];
    struct v1_task *t = generation_room(r, v->tasks, v->task_count, &v->task_capacity, sizeof *t);
    if (!t)
        return NULL;
    v->tasks = t;
    if (map_add(r, &v->task_map, id, v->task_count + 1))
        return NULL;
    t += v->task_count++;
    *t = (struct v1_task){.id = id};
    return t;
}

struct v1_proc *v1_proc_of(const struct trace_v1 *v, int32_t pid)
{
    uint32_t low = 0, high = v->proc_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (v->procs[mid].pid < pid)
            low = mid + 1;
        else
            high = mid;
    }
    return low < v->proc_count && v->procs[low].pid == pid ? &v->procs[low] : NULL;
}

// --- Reading.

// More room for the bytes of the trace; a file says how much it will be.
static int data_grow(struct trace_reader *r, uint64_t *capacity)
{
    struct trace_v1 *v = r->v1;
    struct stat st;
    uint64_t more = *capacity ? 2 * *capacity : FIRST_BYTES;
    if (!*capacity && r->input.kind == INPUT_FILE && fstat(r->input.fd, &st) == 0 &&
        st.st_size > (off_t)(r->input.base + r->input.offset))
        more = (uint64_t)st.st_size - r->input.base - r->input.offset + 1; // 1: to see the end
    if (generation_charge(r, more - *capacity))
        return r->error.code;
    unsigned char *p = realloc(v->owned, more);
    if (!p)
        return reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
    v->owned = p;
    *capacity = more;
    return 0;
}

static int data_read(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    struct trace_input *in = &r->input;
    v->base = in->offset;
    if (in->kind == INPUT_MEMORY) {
        v->data = in->data + in->offset;
        v->size_bytes = in->size_bytes - in->offset;
        in->offset = in->size_bytes;
        return 0;
    }
    uint64_t capacity = 0;
    int64_t n;
    do {
        int rc = v->size_bytes == capacity ? data_grow(r, &capacity) : 0;
        if (rc)
            return rc;
        n = input_read(in, v->owned + v->size_bytes, capacity - v->size_bytes);
        if (n < 0)
            return reader_fail(r, (int)n, TRACE_RULE_SYSTEM, "%s", strerror((int)-n));
        v->size_bytes += (uint64_t)n;
    } while (n > 0);
    v->data = v->owned;
    return 0;
}

int v1_read(struct trace_reader *r)
{
    r->v1 = calloc(1, sizeof *r->v1);
    if (!r->v1)
        return reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
    int rc = data_read(r);
    if (!rc)
        rc = v1_index(r);
    if (!rc)
        rc = v1_order(r);
    if (!rc)
        rc = v1_check(r);
    if (!rc)
        rc = tables_complete_v1(r);
    return rc;
}
