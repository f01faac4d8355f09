// SPDX-License-Identifier: MIT
//
// Going through a segment: records, state, modules, threads, interned bytes. Each thing is copied,
// then checked in the copy.

#include "segment/reader_internal.h"
#include "segment/table.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static uint32_t get_u32(const struct seg_reader *r, uint64_t offset)
{
    uint32_t v = 0;
    if (reader_get(r, offset, &v, sizeof v))
        return 0;
    return v;
}

uint64_t reader_word(const struct seg_reader *r, uint64_t offset)
{
    uint64_t v = 0;
    if (offset > r->bytes - sizeof v || offset % sizeof v) // a segment is larger than its header
        return 0;
    if (r->base)
        // acquire: pairs with the producers' release of head and of slot keys
        return atomic_load_explicit((_Atomic uint64_t *)(void *)(r->base + offset),
                                    memory_order_acquire);
    // The kernel promises nothing about a word that is stored while it is read: two readings that
    // agree were not torn.
    for (int i = 0; i < 8; i++) {
        uint64_t before = v;
        if (reader_get(r, offset, &v, sizeof v))
            return 0;
        if (i && v == before)
            break;
    }
    return v;
}

static void put_tail(struct seg_reader *r, uint64_t offset, uint64_t value)
{
    if (r->base)
        // release: pairs with the producer's acquire of tail; we are done with what is below it
        atomic_store_explicit((_Atomic uint64_t *)(void *)(r->base + offset), value,
                              memory_order_release);
    else if (pwrite(r->fd, &value, sizeof value, (off_t)offset) != (ssize_t)sizeof value)
        return; // the owner truncated its own file: nothing of ours is lost
}

static uint32_t threads_used(const struct seg_reader *r)
{
    uint32_t used = get_u32(r, offsetof(struct seg_header, thread_used));
    return used < r->header.thread_count ? used : r->header.thread_count;
}

static bool record_is_sound(const struct seg_record *rec, uint64_t index)
{
    return rec->kind > SEG_KIND_NONE && rec->kind < SEG_KIND_COUNT &&
           rec->check == (uint16_t)(index ^ rec->kind);
}

struct drain {
    seg_record_fn *fn;
    void *arg;
    int64_t delivered;
    uint64_t damaged;
    int stop; // fn's nonzero value
};

static void drain_ring(struct seg_reader *r, uint64_t at, struct drain *d)
{
    uint64_t capacity = (r->header.ring_bytes - sizeof(struct seg_ring)) / SEG_RECORD_BYTES;
    uint64_t head = reader_word(r, at + offsetof(struct seg_ring, head));
    uint64_t tail = reader_word(r, at + offsetof(struct seg_ring, tail));
    if (head == tail)
        return;
    if (head - tail > capacity) {
        // No producer makes this. What may be whole is what the ring can hold below head; each
        // record's own check then decides.
        d->damaged++;
        tail = head > capacity ? head - capacity : 0;
        if (head < tail || head - tail > capacity)
            tail = head;
    }
    for (; tail != head && !d->stop; tail++) {
        struct seg_record rec;
        uint64_t offset = at + sizeof(struct seg_ring) + tail % capacity * SEG_RECORD_BYTES;
        if (reader_get(r, offset, &rec, sizeof rec) || !record_is_sound(&rec, tail)) {
            d->damaged++;
            continue;
        }
        d->stop = d->fn(d->arg, &rec);
        if (d->stop)
            break;
        d->delivered++;
    }
    put_tail(r, at + offsetof(struct seg_ring, tail), tail);
}

int64_t seg_reader_drain(struct seg_reader *r, seg_record_fn *fn, void *arg, uint64_t *damaged)
{
    struct drain d = {fn, arg, 0, 0, 0};
    uint64_t at = r->header.areas[SEG_AREA_RINGS].offset;
    uint64_t rings = (uint64_t)threads_used(r) * SEG_CONTEXT_COUNT;
    for (uint64_t i = 0; i < rings && !d.stop; i++)
        drain_ring(r, at + i * r->header.ring_bytes, &d);
    if (damaged)
        *damaged += d.damaged;
    return d.stop < 0 ? d.stop : d.delivered;
}

// An overflow entry that nothing overflowed into, or one whose owner died before it added.
static bool is_zero(const struct seg_state *e)
{
    uint64_t any = 0;
    for (int i = 0; i < 4; i++)
        any |= atomic_load_explicit(&e->values[i], memory_order_relaxed);
    return any == 0;
}

// Skips what was never written: where the next bytes from `at` on are, or `end`. Reading a hole of a
// memfd through a mapping would fill it, page by page, with memory and time.
static uint64_t skip_hole(const struct seg_reader *r, uint64_t at, uint64_t end)
{
    if (!r->is_live || !r->base)
        return at;
    off_t data = lseek(r->fd, (off_t)at, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? end : at;
    return (uint64_t)data < end ? (uint64_t)data : end;
}

int64_t seg_reader_states(struct seg_reader *r, seg_state_fn *fn, void *arg)
{
    int64_t n = 0;
    uint64_t start = r->header.areas[SEG_AREA_STATE].offset;
    uint64_t end = start + (uint64_t)r->header.state_count * sizeof(struct seg_state);
    uint64_t page_end = start; // areas begin on pages, and holes do
    for (uint64_t at = start; at < end; at += sizeof(struct seg_state)) {
        struct seg_state e;
        if (at == page_end) {
            at = skip_hole(r, at, end);
            page_end = at + 4096;
            if (at == end)
                break;
        }
        if (!(reader_word(r, at) & SEG_SLOT_READY) || reader_get(r, at, &e, sizeof e))
            continue;
        if (e.kind == SEG_KIND_NONE || e.kind >= SEG_KIND_COUNT || is_zero(&e))
            continue;
        int rc = fn(arg, &e, (uint32_t)((at - start) / sizeof e));
        if (rc)
            return rc < 0 ? rc : n;
        n++;
    }
    return n;
}

int seg_reader_site(struct seg_reader *r, uint32_t index, struct seg_site *out)
{
    const struct seg_area *a = &r->header.areas[SEG_AREA_SITES];
    memset(out, 0, sizeof *out);
    if (!a->size)
        return -ENODATA;
    if (index >= r->header.state_count)
        return -EINVAL;
    return reader_get(r, a->offset + (uint64_t)index * sizeof *out, out, sizeof *out);
}

void seg_reader_heap(struct seg_reader *r, struct seg_heap *out)
{
    if (reader_get(r, offsetof(struct seg_header, heap), out, sizeof *out))
        memset(out, 0, sizeof *out);
}

int64_t seg_reader_modules(struct seg_reader *r, seg_module_fn *fn, void *arg)
{
    int64_t n = 0;
    uint64_t at = r->header.areas[SEG_AREA_MODULES].offset;
    uint32_t used = get_u32(r, offsetof(struct seg_header, module_used));
    if (used > r->header.module_count)
        used = r->header.module_count;
    for (uint32_t i = 0; i < used; i++, at += sizeof(struct seg_module)) {
        struct seg_module m;
        char path[4096];
        if (reader_get(r, at, &m, sizeof m) ||
            // acquire: pairs with the release in seg_module_add
            atomic_load_explicit(&m.ready, memory_order_acquire) != 1)
            continue;
        if (m.start >= m.end || m.build_id_size > SEG_BUILD_ID_BYTES)
            continue;
        if (seg_reader_string(r, m.path, path, sizeof path) < 0)
            path[0] = '\0';
        int rc = fn(arg, &m, path);
        if (rc)
            return rc < 0 ? rc : n;
        n++;
    }
    return n;
}

int64_t seg_reader_threads(struct seg_reader *r, seg_thread_fn *fn, void *arg)
{
    int64_t n = 0;
    uint64_t at = r->header.areas[SEG_AREA_THREADS].offset;
    uint32_t used = threads_used(r);
    for (uint32_t i = 0; i < used; i++, at += sizeof(struct seg_thread)) {
        struct seg_thread t;
        if (reader_get(r, at, &t, sizeof t))
            continue;
        uint32_t state = atomic_load_explicit(&t.state, memory_order_relaxed);
        if (state != SEG_THREAD_LIVE && state != SEG_THREAD_EXITED)
            continue; // free, or its owner was killed while it moved in
        t.name[SEG_THREAD_NAME_BYTES - 1] = '\0';
        int rc = fn(arg, &t);
        if (rc)
            return rc < 0 ? rc : n;
        n++;
    }
    return n;
}

// Copies an interned entry's slot and finds its bytes; *at is their offset in the segment.
static int find_entry(struct seg_reader *r, enum seg_area_kind kind, const struct seg_table *t,
                      uint32_t id, struct seg_slot *slot, uint64_t *at)
{
    if (id == 0 || id > t->slot_count)
        return -EINVAL;
    uint64_t table = r->header.areas[kind].offset;
    uint64_t where = table + sizeof *t + (uint64_t)(id - 1) * sizeof *slot;
    uint64_t key = reader_word(r, where);
    if (!(key & SEG_SLOT_READY) || reader_get(r, where, slot, sizeof *slot))
        return -EINVAL;
    atomic_store_explicit(&slot->key, key, memory_order_relaxed);
    if (slot->offset < t->arena_offset || slot->offset - t->arena_offset > t->arena_size ||
        slot->size > t->arena_size - (slot->offset - t->arena_offset))
        return -EINVAL;
    *at = table + slot->offset;
    return 0;
}

// A published slot whose bytes are missing (a dump taken in between) or scribbled over does not
// have its own hash.
static bool hash_matches(const struct seg_slot *slot, const void *bytes)
{
    uint64_t seed = ((uint64_t)slot->epoch << 32) ^ ((uint64_t)slot->kind << 8) ^ slot->flags;
    uint64_t key = atomic_load_explicit(&slot->key, memory_order_relaxed);
    return key == (SEG_SLOT_READY | seg_hash(bytes, slot->size, seed));
}

int seg_reader_stack(struct seg_reader *r, uint32_t id, uint64_t *pcs, uint32_t max, uint32_t *kind,
                     uint32_t *epoch, uint32_t *flags)
{
    struct seg_slot slot;
    uint64_t at, all[SEG_STACK_DEPTH_MAX];
    if (id == 0)
        return 0;
    int rc = find_entry(r, SEG_AREA_STACKS, &r->stacks, id, &slot, &at);
    if (rc)
        return rc;
    if (slot.size % 8 || slot.size > sizeof all || reader_get(r, at, all, slot.size) ||
        !hash_matches(&slot, all))
        return -EINVAL;
    uint32_t depth = slot.size / 8 < max ? slot.size / 8 : max;
    memcpy(pcs, all, depth * sizeof *pcs);
    if (kind)
        *kind = slot.kind;
    if (epoch)
        *epoch = slot.epoch;
    if (flags)
        *flags = slot.flags;
    return (int)depth;
}

int seg_reader_string(struct seg_reader *r, uint32_t id, char *text, size_t size)
{
    struct seg_slot slot;
    uint64_t at;
    static _Thread_local char all[READER_STRING_MAX + 1];
    if (size)
        text[0] = '\0';
    if (id == 0)
        return 0;
    int rc = find_entry(r, SEG_AREA_BLOBS, &r->blobs, id, &slot, &at);
    if (rc)
        return rc;
    if (slot.kind != 0 || slot.size > READER_STRING_MAX || reader_get(r, at, all, slot.size) ||
        !hash_matches(&slot, all))
        return -EINVAL;
    if (size) {
        size_t n = slot.size < size - 1 ? slot.size : size - 1;
        memcpy(text, all, n);
        text[n] = '\0';
    }
    return (int)slot.size;
}

int seg_reader_labels(struct seg_reader *r, uint32_t id, uint32_t (*pairs)[2], uint32_t max)
{
    struct seg_slot slot;
    uint64_t at;
    uint32_t all[64][2];
    if (id == 0)
        return 0;
    int rc = find_entry(r, SEG_AREA_BLOBS, &r->blobs, id, &slot, &at);
    if (rc)
        return rc;
    if (slot.kind != 1 || slot.size % sizeof *all || slot.size > sizeof all ||
        reader_get(r, at, all, slot.size) || !hash_matches(&slot, all))
        return -EINVAL;
    uint32_t n = slot.size / (uint32_t)sizeof *all;
    if (n > max)
        n = max;
    memcpy(pairs, all, n * sizeof *all);
    return (int)n;
}
