// SPDX-License-Identifier: MIT
//
// The pool of trace buffers: claimed by compare-and-swap, sealed by their writer or once nobody can be writing
// them, freed by the consumer, or, in a flight recorder, by whoever needs one. And the streams that fill them.

#include "emit/internal.h"

#include "segment/hold.h"
#include "segment/table.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static bool move(struct seg_trace_buffer *b, uint32_t from, uint32_t to)
{
    // acq_rel: what was written in the old state is seen by who has the new one
    return atomic_compare_exchange_strong_explicit(&b->state, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static struct seg_trace_buffer *find_free_in(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct seg_trace_buffer *b = &emit.buffers[i];
        if (atomic_load_explicit(&b->state, memory_order_relaxed) == SEG_TRACE_FREE &&
            move(b, SEG_TRACE_FREE, SEG_TRACE_CLAIMED))
            return b;
    }
    return NULL;
}

// The first: it has been used before if any has, and the first touch of a page costs more than all that is written into it.
// Of many, those where one was free last, and all others after that.
static struct seg_trace_buffer *find_free(void)
{
    enum { LOOKED_AT = 512 };
    uint32_t n = emit.trace->buffer_count;
    struct seg_trace_buffer *b = find_free_in(0, n < LOOKED_AT ? n : LOOKED_AT);
    if (b || n <= LOOKED_AT)
        return b;
    uint32_t hint = atomic_load_explicit(&emit.hint, memory_order_relaxed);
    hint = hint < n ? hint : 0;
    b = find_free_in(hint, n);
    b = b ? b : find_free_in(0, hint);
    if (b)
        atomic_store_explicit(&emit.hint, (uint32_t)(b - emit.buffers), memory_order_relaxed);
    return b;
}

bool emit_buffers_give_way(uint64_t below)
{
    struct seg_trace *t = emit.trace;
    // seq_cst: pairs with the consumer's, which says so before it copies
    if (seg_is_held(&t->hold))
        return false;
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < t->buffer_count; i++) {
        struct seg_trace_buffer *b = &emit.buffers[i];
        if (atomic_load_explicit(&b->state, memory_order_acquire) == SEG_TRACE_SEALED &&
            b->generation < lowest)
            lowest = b->generation;
    }
    if (lowest >= below)
        return false;
    atomic_store_explicit(&t->oldest, lowest + 1, memory_order_relaxed);
    bool is_any = false;
    for (uint32_t i = 0; i < t->buffer_count; i++) {
        struct seg_trace_buffer *b = &emit.buffers[i];
        if (atomic_load_explicit(&b->state, memory_order_acquire) == SEG_TRACE_SEALED &&
            b->generation <= lowest)
            is_any |= move(b, SEG_TRACE_SEALED, SEG_TRACE_FREE);
    }
    return is_any;
}

static void first_use(const struct seg_trace_buffer *b, bool is_next)
{
    uint32_t bytes = emit.trace->buffer_bytes;
    uint8_t *data = emit.data + (size_t)(b - emit.buffers) * bytes;
    seg_keep_in_core(data, bytes, true);
    // Who fills one after the other gets its pages at once, which costs less than a fault for each. Older kernels
    // know nothing of it.
    int saved = errno;
    if (is_next)
        syscall(SYS_madvise, data, (size_t)bytes, MADV_POPULATE_WRITE);
    errno = saved;
}

struct seg_trace_buffer *emit_buffer_claim(struct emit_thread *t, uint64_t generation, bool is_next)
{
    struct seg_trace_buffer *b = find_free();
    while (!b && emit.options.is_flight && emit_buffers_give_way(generation))
        b = find_free();
    if (!b)
        return NULL;
    atomic_fetch_add_explicit(&emit.claimed, 1, memory_order_relaxed);
    if (!b->session)
        first_use(b, is_next);
    b->tid = t->tid;
    b->session = t->session;
    b->generation = generation;
    b->order = t->order++;
    b->start_units = t->units;
    atomic_store_explicit(&b->used, 0, memory_order_relaxed);
    // release: the fields above are valid
    atomic_store_explicit(&b->state, SEG_TRACE_WRITING, memory_order_release);
    return b;
}

void emit_buffer_seal(struct seg_trace_buffer *b)
{
    move(b, SEG_TRACE_WRITING, SEG_TRACE_SEALED);
}

void emit_buffers_seal_all(uint64_t generation)
{
    for (uint32_t i = 0; i < emit.trace->buffer_count; i++) {
        struct seg_trace_buffer *b = &emit.buffers[i];
        if (atomic_load_explicit(&b->state, memory_order_acquire) == SEG_TRACE_WRITING &&
            b->generation <= generation && !emit_is_left(b))
            emit_buffer_seal(b);
    }
}

uint32_t emit_free_buffers(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < emit.trace->buffer_count; i++)
        n += atomic_load_explicit(&emit.buffers[i].state, memory_order_relaxed) == SEG_TRACE_FREE;
    return n;
}

// --- Streams.

void *emit_pages(size_t bytes)
{
    void *p = (void *)syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    return p == MAP_FAILED ? NULL : p;
}

struct emit_thread *emit_thread_new(uint32_t tid, void (*look)(struct emit_thread *), void *owner)
{
    // Not at the start of a page, as so much is that is used with it: a load is held up by a store before it to an address
    // with the same low 12 bits.
    enum { AT = 704 };
    size_t head = AT + ((sizeof(struct emit_thread) + 63) & ~(size_t)63);
    uint8_t *mem = emit_pages(head + EMIT_STACKS_KNOWN * sizeof(struct emit_stack_slot));
    if (!mem)
        return NULL;
    struct emit_thread *t = (struct emit_thread *)(void *)(mem + AT);
    t->known = (struct emit_stack_slot *)(void *)(mem + head);
    t->tid = tid;
    t->look = look;
    t->owner = owner;
    return t;
}

void emit_thread_end(struct emit_thread *t)
{
    if (t && t->buffer && t->generation == atomic_load(&emit_generation))
        emit_buffer_seal(t->buffer);
    if (t)
        t->generation = 0;
}
