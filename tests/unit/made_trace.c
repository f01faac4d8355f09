// SPDX-License-Identifier: MIT

#include "tests/unit/made_trace.h"

#include <errno.h>
#include <string.h>

static struct seg_trace_buffer *head_of(const struct made_trace *m, int buffer)
{
    return (struct seg_trace_buffer *)(void *)(m->t + 1) + buffer;
}

static uint8_t *data_of(const struct made_trace *m, int buffer)
{
    return (uint8_t *)m->t + m->t->data_offset + (uint64_t)buffer * m->t->buffer_bytes;
}

static uint64_t generation_of(const struct made_trace *m)
{
    return atomic_load(&m->t->generation);
}

static void set_clock(struct made_trace *m, uint64_t generation)
{
    struct seg_trace_clock *c = &m->t->clocks[generation % SEG_TRACE_CLOCKS];
    atomic_store(&c->generation, 0);
    c->units = m->now;
    c->mono_ns = m->now * 64;
    c->real_ns = m->now * 64 + UINT64_C(1700000000000000000);
    atomic_store(&c->generation, generation);
}

void made_trace_start(struct made_trace *m, struct seg *s, uint64_t now)
{
    uint64_t first;
    *m = (struct made_trace){.s = s, .now = now};
    m->t =
        (struct seg_trace *)(void *)((char *)s->header + s->header->areas[SEG_AREA_TRACE].offset);
    first = atomic_load(&m->t->last) + 1;
    atomic_store(&m->t->first, first);
    atomic_store(&m->t->complete, first - 1);
    atomic_fetch_add(&m->t->session, 1);
    atomic_store(&m->t->generation, first);
    set_clock(m, first);
    for (int i = 0; i < MADE_TRACE_THREADS; i++)
        m->threads[i].buffer = -1;
}

static int slot_of(struct made_trace *m, uint32_t tid)
{
    int i = 0;
    while (m->threads[i].tid != tid && m->threads[i].tid)
        i++;
    m->threads[i].tid = tid;
    return i;
}

void made_trace_seal(struct made_trace *m, uint32_t tid)
{
    int i = slot_of(m, tid);
    if (m->threads[i].buffer >= 0)
        atomic_store(&head_of(m, m->threads[i].buffer)->state, SEG_TRACE_SEALED);
    m->threads[i].buffer = -1;
}

static void seal_all(struct made_trace *m)
{
    for (int i = 0; i < MADE_TRACE_THREADS && m->threads[i].tid; i++)
        made_trace_seal(m, m->threads[i].tid);
}

void made_trace_advance(struct made_trace *m)
{
    uint64_t g = generation_of(m);
    m->now++;
    set_clock(m, g + 1);
    atomic_store(&m->t->generation, g + 1);
    seal_all(m);
    atomic_store(&m->t->complete, g);
}

void made_trace_stop(struct made_trace *m)
{
    uint64_t g = generation_of(m);
    seal_all(m);
    atomic_store(&m->t->last, g);
    atomic_store(&m->t->generation, 0);
    atomic_store(&m->t->stopped_units, m->now);
    atomic_store(&m->t->complete, g);
}

static int claim(struct made_trace *m, int i)
{
    for (uint32_t k = 0; k < m->t->buffer_count; k++) {
        struct seg_trace_buffer *b = head_of(m, (int)k);
        uint32_t no = SEG_TRACE_FREE;
        if (!atomic_compare_exchange_strong(&b->state, &no, SEG_TRACE_CLAIMED))
            continue;
        b->tid = m->threads[i].tid;
        b->session = atomic_load(&m->t->session);
        b->generation = generation_of(m);
        b->order = m->threads[i].order++;
        b->start_units = m->now;
        atomic_store(&b->used, 0);
        m->threads[i].buffer = (int)k;
        m->threads[i].last = m->now;
        atomic_store(&b->state, SEG_TRACE_WRITING);
        return 0;
    }
    return -ENOSPC;
}

static size_t put_number(uint8_t *at, uint64_t n)
{
    size_t size = 0;
    for (; n >= 0x80; n >>= 7)
        at[size++] = (uint8_t)(n | 0x80);
    at[size++] = (uint8_t)n;
    return size;
}

int made_trace_put(struct made_trace *m, uint32_t tid, uint8_t wire, const uint64_t *args,
                   uint32_t count)
{
    uint8_t bytes[64];
    int i = slot_of(m, tid), rc = 0;
    m->now++;
    if (m->threads[i].buffer >= 0 &&
        atomic_load(&head_of(m, m->threads[i].buffer)->used) + sizeof bytes > m->t->buffer_bytes)
        made_trace_seal(m, tid);
    if (m->threads[i].buffer < 0)
        rc = claim(m, i);
    if (rc)
        return rc;
    size_t n = 0;
    bytes[n++] = wire;
    n += put_number(bytes + n, m->now - m->threads[i].last);
    for (uint32_t k = 0; k < count; k++)
        n += put_number(bytes + n, args[k]);
    struct seg_trace_buffer *b = head_of(m, m->threads[i].buffer);
    uint64_t used = atomic_load(&b->used);
    memcpy(data_of(m, m->threads[i].buffer) + used, bytes, n);
    m->threads[i].last = m->now;
    atomic_store(&b->used, used + n);
    return 0;
}

void made_trace_begin_event(struct made_trace *m, uint32_t tid)
{
    int i = slot_of(m, tid);
    uint64_t used = atomic_load(&head_of(m, m->threads[i].buffer)->used);
    data_of(m, m->threads[i].buffer)[used] = 1;
}
