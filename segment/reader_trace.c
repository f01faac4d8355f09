// SPDX-License-Identifier: MIT
//
// The buffers of execution traces: heads, bytes, and giving them back. Where they lie is validated once;
// all else is read word by word, as its owner may be writing it.

#include "segment/hold.h"
#include "segment/reader_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BUFFER_BYTES_MIN = 64, BUFFER_BYTES_MAX = 1 << 20 };
#define UNITS_MAX UINT64_C(1000000000) // a unit is no shorter than a nanosecond

#define WORDS_MAX 128
_Static_assert(sizeof(struct seg_trace) <= WORDS_MAX * sizeof(uint64_t), "fits get_words");

// Copies an object of whole words; each of them is of one moment.
static int get_words(const struct seg_reader *r, uint64_t offset, void *out, size_t size)
{
    uint64_t words[WORDS_MAX];
    if (offset > r->bytes || size > r->bytes - offset)
        return -EINVAL;
    for (size_t i = 0; i < size / sizeof *words; i++)
        words[i] = reader_word(r, offset + i * sizeof *words);
    memcpy(out, words, size);
    return 0;
}

static uint64_t area_at(const struct seg_reader *r)
{
    return r->header.areas[SEG_AREA_TRACE].offset;
}

static uint64_t head_at(const struct seg_reader *r, uint32_t index)
{
    return area_at(r) + sizeof(struct seg_trace) +
           (uint64_t)index * sizeof(struct seg_trace_buffer);
}

static bool geometry_is_sound(const struct seg_area *a, const struct seg_trace *t)
{
    uint64_t heads = sizeof *t + (uint64_t)t->buffer_count * sizeof(struct seg_trace_buffer);
    return t->buffer_count && t->buffer_bytes >= BUFFER_BYTES_MIN &&
           t->buffer_bytes <= BUFFER_BYTES_MAX && t->units_per_second &&
           t->units_per_second <= UNITS_MAX && t->data_offset >= heads &&
           t->data_offset <= a->size &&
           (a->size - t->data_offset) / t->buffer_bytes >= t->buffer_count;
}

int seg_reader_trace(struct seg_reader *r, struct seg_trace *out)
{
    const struct seg_area *a = &r->header.areas[SEG_AREA_TRACE];
    memset(out, 0, sizeof *out);
    if (a->size < sizeof *out)
        return a->size ? -EINVAL : -ENODATA;
    int rc = get_words(r, a->offset, out, sizeof *out);
    if (rc)
        return rc;
    struct reader_trace *known = &r->trace;
    if (!known->buffer_count) {
        if (!geometry_is_sound(a, out))
            return -EINVAL;
        *known = (struct reader_trace){out->buffer_count, out->buffer_bytes, out->data_offset,
                                       out->units_per_second};
    }
    out->buffer_count = known->buffer_count; // whatever it says by now
    out->buffer_bytes = known->buffer_bytes;
    out->data_offset = known->data_offset;
    out->units_per_second = known->units_per_second;
    for (int i = 0; i < SEG_TRACE_CLOCKS; i++) {
        struct seg_trace_clock *c = &out->clocks[i];
        uint64_t at = a->offset + offsetof(struct seg_trace, clocks) + (uint64_t)i * sizeof *c;
        // One that was replaced while it was read is none.
        if (reader_word(r, at) != atomic_load_explicit(&c->generation, memory_order_relaxed))
            *c = (struct seg_trace_clock){0};
    }
    return 0;
}

static bool has_events(const struct seg_trace_buffer *b)
{
    uint32_t state = atomic_load_explicit(&b->state, memory_order_relaxed);
    return state == SEG_TRACE_WRITING || state == SEG_TRACE_SEALED;
}

int64_t seg_reader_trace_buffers(struct seg_reader *r, seg_trace_buffer_fn *fn, void *arg)
{
    int64_t n = 0;
    struct seg_trace now;
    int rc = r->trace.buffer_count ? 0 : seg_reader_trace(r, &now);
    for (uint32_t i = 0; !rc && i < r->trace.buffer_count; i++) {
        struct seg_trace_buffer b;
        if (get_words(r, head_at(r, i), &b, sizeof b) || !has_events(&b))
            continue;
        uint64_t used = atomic_load_explicit(&b.used, memory_order_relaxed);
        if (used > r->trace.buffer_bytes)
            continue; // no producer says that
        rc = fn(arg, &b, i);
        n += !rc;
    }
    return rc < 0 ? rc : n;
}

int seg_reader_trace_copy(struct seg_reader *r, uint32_t index, const struct seg_trace_buffer *b,
                          void *out)
{
    struct seg_trace_buffer now;
    uint64_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    if (index >= r->trace.buffer_count || used > r->trace.buffer_bytes)
        return -EINVAL;
    if (r->held_until)
        seg_reader_trace_hold(r, true);
    uint64_t at =
        area_at(r) + r->trace.data_offset + (uint64_t)index * (uint64_t)r->trace.buffer_bytes;
    int rc = reader_get(r, at, out, used);
    if (rc)
        return rc;
    // Bytes first, then whose they are by now: the next owner changes the head before them.
    atomic_thread_fence(memory_order_acquire);
    rc = get_words(r, head_at(r, index), &now, sizeof now);
    if (rc)
        return rc;
    bool is_same = has_events(&now) && now.tid == b->tid && now.session == b->session &&
                   now.generation == b->generation && now.order == b->order &&
                   atomic_load_explicit(&now.used, memory_order_relaxed) >= used;
    return is_same ? 0 : -ESTALE;
}

// Whether something but zeros follows what was committed. An event begins with its type, which is none.
static bool has_more(struct seg_reader *r, uint32_t index, uint64_t used)
{
    enum { LOOKED_AT = 16 };
    unsigned char more[LOOKED_AT];
    uint64_t left = r->trace.buffer_bytes - used, n = left < LOOKED_AT ? left : LOOKED_AT;
    uint64_t at =
        area_at(r) + r->trace.data_offset + (uint64_t)index * (uint64_t)r->trace.buffer_bytes;
    if (reader_get(r, at + used, more, n))
        return true;
    for (uint64_t i = 0; i < n; i++)
        if (more[i])
            return true;
    return false;
}

bool seg_reader_trace_in_flight(struct seg_reader *r)
{
    struct seg_trace now;
    bool is = !r->trace.buffer_count && seg_reader_trace(r, &now);
    for (uint32_t i = 0; !is && i < r->trace.buffer_count; i++) {
        struct seg_trace_buffer b;
        if (get_words(r, head_at(r, i), &b, sizeof b))
            return true;
        uint32_t state = atomic_load_explicit(&b.state, memory_order_relaxed);
        uint64_t used = atomic_load_explicit(&b.used, memory_order_relaxed);
        is = state == SEG_TRACE_CLAIMED ||
             (state == SEG_TRACE_WRITING && (used > r->trace.buffer_bytes || has_more(r, i, used)));
    }
    return is;
}

static _Atomic uint32_t *word32(struct seg_reader *r, uint64_t offset)
{
    return (_Atomic uint32_t *)(void *)(r->base + offset);
}

// A live named file is not mapped: there the word is stored and not exchanged.
static int put_word32(struct seg_reader *r, uint64_t offset, uint32_t value)
{
    ssize_t n = pwrite(r->fd, &value, sizeof value, (off_t)offset);
    return n == (ssize_t)sizeof value ? 0 : n < 0 ? -errno : -EIO;
}

int seg_reader_trace_free(struct seg_reader *r, uint32_t index)
{
    if (index >= r->trace.buffer_count)
        return -EINVAL;
    uint64_t at = head_at(r, index) + offsetof(struct seg_trace_buffer, state);
    uint32_t state = SEG_TRACE_SEALED;
    if (r->base)
        // release: pairs with the acquire of who claims it; we are done with its bytes
        return atomic_compare_exchange_strong_explicit(word32(r, at), &state, SEG_TRACE_FREE,
                                                       memory_order_release, memory_order_relaxed)
                   ? 0
                   : -EBUSY;
    if (reader_get(r, at, &state, sizeof state) || state != SEG_TRACE_SEALED)
        return -EBUSY;
    return put_word32(r, at, SEG_TRACE_FREE); // but in flight nobody else changes a sealed one
}

int seg_reader_trace_hold(struct seg_reader *r, bool on)
{
    uint64_t at = area_at(r) + offsetof(struct seg_trace, hold);
    if (!r->trace.buffer_count)
        return -ENODATA;
    if (!r->is_live)
        return 0;
    if (!r->base)
        return -EOPNOTSUPP; // copies are checked anyway
    if (!on)
        seg_let_go(word32(r, at), r->held_until);
    r->held_until = on ? seg_hold(word32(r, at)) : 0;
    return 0;
}

int seg_reader_trace_limits(struct seg_reader *r, const uint64_t slow_ns[4])
{
    if (!r->trace.buffer_count)
        return -ENODATA;
    if (!r->is_live || !r->base)
        return -EOPNOTSUPP;
    struct seg_trace *t = (struct seg_trace *)(void *)(r->base + area_at(r));
    for (int i = 0; i < 4; i++)
        atomic_store_explicit(&t->asked_slow_ns[i], slow_ns[i], memory_order_relaxed);
    return 0;
}

int seg_reader_trace_request(struct seg_reader *r, enum seg_trace_request request)
{
    uint64_t at = area_at(r) + offsetof(struct seg_trace, request);
    uint64_t wake = offsetof(struct seg_header, control.wake);
    if (!r->trace.buffer_count)
        return -ENODATA;
    if (!r->is_live)
        return -ESRCH;
    if (!r->base)
        return put_word32(r, at, request);
    // release: pairs with the target's acquire; the wish is complete
    atomic_store_explicit(word32(r, at), request, memory_order_release);
    atomic_fetch_add_explicit(word32(r, wake), 1, memory_order_release);
    syscall(SYS_futex, r->base + wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return 0;
}
