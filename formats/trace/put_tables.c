// SPDX-License-Identifier: MIT

#include "formats/trace/put.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *items, uint32_t *count, uint32_t need, size_t item_bytes)
{
    if (need <= *count)
        return items;
    uint32_t more = *count ? *count : 64;
    while (more < need)
        more *= 2;
    char *p = realloc(items, more * item_bytes);
    if (!p)
        return NULL;
    memset(p + *count * item_bytes, 0, (more - *count) * item_bytes);
    *count = more;
    return p;
}

static int fail(struct trace_writer *w)
{
    if (!w->error)
        w->error = -ENOMEM;
    return w->error;
}

static int go_room(struct trace_writer *w, uint32_t slot)
{
    struct put_state *s = w->put;
    if (slot == TRACE_NO_SLOT || slot < s->go_count)
        return 0;
    struct put_go *items = grown(s->gos, &s->go_count, slot + 1, sizeof *items);
    if (!items)
        return fail(w);
    s->gos = items;
    return 0;
}

static int proc_room(struct trace_writer *w, uint32_t slot)
{
    struct put_state *s = w->put;
    if (slot == TRACE_NO_SLOT || slot < s->proc_count)
        return 0;
    struct put_proc *items = grown(s->procs, &s->proc_count, slot + 1, sizeof *items);
    if (!items)
        return fail(w);
    s->procs = items;
    return 0;
}

static int thread_room(struct trace_writer *w, uint32_t slot, int64_t id)
{
    struct put_state *s = w->put;
    if (slot == TRACE_NO_SLOT)
        return 0;
    uint32_t had = s->thread_count;
    struct put_thread *items = grown(s->threads, &s->thread_count, slot + 1, sizeof *items);
    if (!items)
        return fail(w);
    s->threads = items;
    for (uint32_t i = had; i < s->thread_count; i++)
        items[i] = (struct put_thread){TRACE_NONE, TRACE_NO_SLOT, TRACE_NO_SLOT};
    items[slot].id = id;
    return 0;
}

int put_prepare(struct trace_writer *w, const struct trace_reader *r, const struct trace_event *ev)
{
    if (!w->put) {
        w->put = calloc(1, sizeof *w->put);
        if (!w->put)
            return fail(w);
    }
    w->put->reader = r;
    int rc = thread_room(w, ev->thread_slot, ev->thread);
    if (!rc && ev->kind == TRACE_TRANSITION)
        rc = ev->what == TRACE_RESOURCE_PROC ? proc_room(w, ev->transition.slot)
                                             : go_room(w, ev->transition.slot);
    return rc;
}

void put_free(struct trace_writer *w)
{
    if (!w->put)
        return;
    free(w->put->gos);
    free(w->put->procs);
    free(w->put->threads);
    free(w->put->strings.items);
    free(w->put->stacks.items);
    free(w->put);
}

struct put_go *put_go_at(struct trace_writer *w, uint32_t slot)
{
    return slot < w->put->go_count ? &w->put->gos[slot] : NULL;
}

struct put_proc *put_proc_at(struct trace_writer *w, uint32_t slot)
{
    return slot < w->put->proc_count ? &w->put->procs[slot] : NULL;
}

// Where the id of a stable one is kept, NULL for others and without memory.
static struct put_id *cached(struct put_ids *ids, uint32_t id)
{
    if (id & TRACE_ID_TRANSIENT)
        return NULL;
    struct put_id *items = grown(ids->items, &ids->capacity, id + 1, sizeof *items);
    if (!items)
        return NULL;
    ids->items = items;
    return &items[id];
}

uint64_t put_string(struct trace_writer *w, const struct trace_reader *r, uint32_t id)
{
    uint64_t out = 0;
    if (id == 0 || w->error)
        return 0;
    struct put_id *c = cached(&w->put->strings, id);
    if (c && c->stamp == w->put->stamp)
        return c->id;
    struct trace_text text = trace_reader_string(r, id);
    trace_writer_string(w, text.bytes, text.size_bytes, &out);
    if (c)
        *c = (struct put_id){w->put->stamp, out};
    return out;
}

uint64_t put_stack(struct trace_writer *w, const struct trace_reader *r, uint32_t id)
{
    struct trace_writer_frame copy[TRACE_STACK_FRAMES_MAX];
    const struct trace_frame *frames;
    uint64_t out = 0;
    if (id == 0 || w->error || !w->generation)
        return 0;
    struct put_id *c = cached(&w->put->stacks, id);
    if (c && c->stamp == w->put->stamp)
        return c->id;
    uint32_t count = trace_reader_stack(r, id, &frames);
    for (uint32_t i = 0; i < count; i++)
        copy[i] = (struct trace_writer_frame){
            .pc = frames[i].pc,
            .function = trace_reader_string(r, frames[i].function),
            .file = trace_reader_string(r, frames[i].file),
            .line = frames[i].line,
        };
    trace_writer_stack(w, copy, count, &out);
    if (c)
        *c = (struct put_id){w->put->stamp, out};
    return out;
}
