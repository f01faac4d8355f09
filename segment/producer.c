// SPDX-License-Identifier: MIT
//
// Recording into a segment: threads, rings, state, modules. Async-signal-safe throughout.

#include "segment/producer.h"

#include "segment/table.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STATE_PROBES_MAX = 64, STATE_SHARDS = 4, LABELS_MAX = 32 };

static void *area(const struct seg *s, enum seg_area_kind kind)
{
    return (char *)s->header + s->header->areas[kind].offset;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); // only ever summed
}

static struct seg_ring *ring_of(const struct seg *s, int slot, enum seg_context context)
{
    uint64_t index = (uint64_t)slot * SEG_CONTEXT_COUNT + (uint64_t)context;
    return (struct seg_ring *)((char *)area(s, SEG_AREA_RINGS) + index * s->header->ring_bytes);
}

static int is_drained(const struct seg *s, int slot)
{
    for (int c = 0; c < SEG_CONTEXT_COUNT; c++) {
        struct seg_ring *r = ring_of(s, slot, (enum seg_context)c);
        // acquire: pairs with the consumer's release of tail
        if (atomic_load_explicit(&r->tail, memory_order_acquire) !=
            atomic_load_explicit(&r->head, memory_order_relaxed))
            return 0;
    }
    return 1;
}

// Which slots seg_thread_enter may take, from the best to the last resort.
enum claim { CLAIM_FREE, CLAIM_DRAINED, CLAIM_LEFT, CLAIM_DEAD, CLAIM_COUNT };

// A thread that was ended without seg_thread_exit, by the exit system call. Only the kernel knows.
static int is_gone(uint32_t tid)
{
    int saved = errno;
    int gone = tid && syscall(SYS_tgkill, getpid(), (pid_t)tid, 0) && errno == ESRCH;
    errno = saved;
    return gone;
}

// Moves the slot to CLAIMED if it is what `how` says; then it is the caller's alone.
static int slot_claim(struct seg *s, struct seg_thread *t, int i, enum claim how)
{
    // acquire: pairs with the releases of seg_thread_exit and seg_thread_enter, so that the last
    // head of the thread before us is seen
    uint32_t old = atomic_load_explicit(&t->state, memory_order_acquire);
    if (how == CLAIM_FREE ? old != SEG_THREAD_FREE
                          : old != (how == CLAIM_DEAD ? SEG_THREAD_LIVE : SEG_THREAD_EXITED))
        return 0;
    if (how == CLAIM_DRAINED && !is_drained(s, i))
        return 0;
    if (how == CLAIM_DEAD && !is_gone(atomic_load_explicit(&t->tid, memory_order_relaxed)))
        return 0;
    return atomic_compare_exchange_strong_explicit(&t->state, &old, SEG_THREAD_CLAIMED,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void slot_fill(struct seg *s, struct seg_thread *t, int i, uint32_t tid, const char *name)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    t->generation++;
    t->start_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    atomic_store_explicit(&t->tid, tid, memory_order_relaxed);
    atomic_store_explicit(&t->cpu_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&t->fiber, 0, memory_order_relaxed);
    size_t n = name ? strnlen(name, SEG_THREAD_NAME_BYTES - 1) : 0;
    memset(t->name, 0, sizeof t->name);
    memcpy(t->name, name ? name : "", n);
    if (t->generation == 1)
        seg_keep_in_core(ring_of(s, i, SEG_CONTEXT_NORMAL),
                         SEG_CONTEXT_COUNT * s->header->ring_bytes, true);
    for (int c = 0; c < SEG_CONTEXT_COUNT; c++) // its last owner may have died while appending
        atomic_store_explicit(&ring_of(s, i, (enum seg_context)c)->busy, 0, memory_order_relaxed);
    // release: pairs with the acquires in slot_claim and in the reader
    atomic_store_explicit(&t->state, SEG_THREAD_LIVE, memory_order_release);
}

int seg_thread_enter(struct seg *s, uint32_t tid, const char *name)
{
    struct seg_header *h = s->header;
    struct seg_thread *threads = area(s, SEG_AREA_THREADS);
    for (uint32_t k = 0; k < CLAIM_COUNT * h->thread_count; k++) {
        uint32_t i = k % h->thread_count;
        if (!slot_claim(s, &threads[i], (int)i, (enum claim)(k / h->thread_count)))
            continue;
        slot_fill(s, &threads[i], (int)i, tid, name);
        uint32_t used = atomic_load_explicit(&h->thread_used, memory_order_relaxed);
        while (used < i + 1 &&
               !atomic_compare_exchange_weak_explicit(&h->thread_used, &used, i + 1,
                                                      memory_order_release, memory_order_relaxed))
            ; // release: pairs with the reader's acquire of thread_used
        return (int)i;
    }
    count(&h->losses.threads_full);
    return -ENOSPC;
}

void seg_thread_exit(struct seg *s, int slot, uint64_t cpu_ns)
{
    struct seg_thread *t = (struct seg_thread *)area(s, SEG_AREA_THREADS) + slot;
    atomic_store_explicit(&t->cpu_ns, cpu_ns, memory_order_relaxed);
    // release: pairs with the acquire in slot_claim
    atomic_store_explicit(&t->state, SEG_THREAD_EXITED, memory_order_release);
}

uint32_t seg_stack(struct seg *s, const uint64_t *pcs, uint32_t depth, uint32_t kind,
                   uint32_t flags)
{
    if (depth == 0)
        return 0;
    if (depth > SEG_STACK_DEPTH_MAX) {
        depth = SEG_STACK_DEPTH_MAX;
        flags |= SEG_FLAG_TRUNCATED;
    }
    // acquire: pairs with the release in seg_module_remove
    uint32_t epoch = atomic_load_explicit(&s->header->epoch, memory_order_acquire);
    uint32_t id = seg_table_intern(area(s, SEG_AREA_STACKS), pcs, depth * (uint32_t)sizeof *pcs,
                                   (struct seg_table_key){epoch, kind, flags});
    if (!id)
        count(&s->header->losses.stacks_full);
    return id;
}

uint32_t seg_string(struct seg *s, const char *text, size_t n)
{
    if (n == 0)
        return 0;
    if (n > UINT16_MAX)
        n = UINT16_MAX;
    uint32_t id = seg_table_intern(area(s, SEG_AREA_BLOBS), text, (uint32_t)n,
                                   (struct seg_table_key){0, 0, 0});
    if (!id)
        count(&s->header->losses.blobs_full);
    return id;
}

uint32_t seg_labels(struct seg *s, uint32_t (*pairs)[2], uint32_t n)
{
    if (n == 0)
        return 0;
    if (n > LABELS_MAX)
        n = LABELS_MAX;
    for (uint32_t i = 1; i < n; i++) { // insertion sort: a handful at most
        uint32_t key = pairs[i][0], value = pairs[i][1], j = i;
        for (; j > 0 && pairs[j - 1][0] > key; j--) {
            pairs[j][0] = pairs[j - 1][0];
            pairs[j][1] = pairs[j - 1][1];
        }
        pairs[j][0] = key;
        pairs[j][1] = value;
    }
    uint32_t id = seg_table_intern(area(s, SEG_AREA_BLOBS), pairs, n * (uint32_t)sizeof *pairs,
                                   (struct seg_table_key){0, 1, 0});
    if (!id)
        count(&s->header->losses.blobs_full);
    return id;
}

const void *seg_blob(const struct seg *s, uint32_t id, uint32_t kind, uint32_t *size_bytes)
{
    const struct seg_table *t = area(s, SEG_AREA_BLOBS);
    const struct seg_slot *slot = (const struct seg_slot *)(t + 1) + (id - 1);
    if (id == 0 || id > t->slot_count)
        return NULL;
    // acquire: pairs with the release in seg_table_intern
    uint64_t key = atomic_load_explicit(&slot->key, memory_order_acquire);
    uint64_t offset = slot->offset, size = slot->size, end = t->arena_offset + t->arena_size;
    // A consumer has the segment mapped too: what lies here is checked like anybody's.
    if (!(key & SEG_SLOT_READY) || slot->kind != kind || offset < t->arena_offset || offset > end ||
        size > end - offset)
        return NULL;
    *size_bytes = (uint32_t)size;
    return (const char *)t + offset;
}

// What makes two state entries equal, hashed as bytes.
struct state_key {
    uint32_t kind, user_stack, labels, epoch;
    uint64_t object;
};

static int state_matches(const struct seg_state *e, const struct state_key *k)
{
    return e->kind == k->kind && e->user_stack == k->user_stack && e->labels == k->labels &&
           e->epoch == k->epoch && e->object == k->object;
}

static void state_accumulate(struct seg_state *e, const uint64_t values[4])
{
    for (int i = 0; i < 4; i++)
        if (values[i])
            atomic_fetch_add_explicit(&e->values[i], values[i], memory_order_relaxed);
}

// The entry of this key among the probes from start on, made if it is not there; NULL: no room.
static struct seg_state *state_probe(struct seg *s, uint32_t start, uint64_t hash,
                                     const struct state_key *k, const uint64_t values[4])
{
    const struct seg_header *h = s->header;
    struct seg_state *table = area(s, SEG_AREA_STATE);
    uint32_t mask = h->state_count - 1;
    uint32_t probes = h->state_count < STATE_PROBES_MAX ? h->state_count : STATE_PROBES_MAX;
    for (uint32_t i = 0; i < probes; i++) {
        struct seg_state *e = &table[(start + i) & mask];
        // acquire: pairs with the release that published the entry below
        uint64_t now = atomic_load_explicit(&e->key, memory_order_acquire);
        if (now == (SEG_SLOT_READY | hash) && state_matches(e, k)) {
            state_accumulate(e, values);
            return e;
        }
        if (now != 0 ||
            !atomic_compare_exchange_strong_explicit(&e->key, &now, SEG_SLOT_CLAIMED | hash,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        e->kind = k->kind;
        e->user_stack = k->user_stack;
        e->labels = k->labels;
        e->epoch = k->epoch;
        e->object = k->object;
        state_accumulate(e, values);
        count(&s->states_used);
        // release: pairs with the acquires above, in the reader and in any_used
        atomic_store_explicit(&e->key, SEG_SLOT_READY | hash, memory_order_release);
        return e;
    }
    return NULL;
}

// The kind's overflow entry (counted) where there is no room. values: added before a new entry is seen, so
// that a reader meets none that is all zero.
static struct seg_state *state_find_in(struct seg *s, struct seg_state_place place,
                                       const struct state_key *k, const uint64_t values[4])
{
    enum { OWN = SEG_STATE_SHARDS * STATE_PROBES_MAX }; // places that the shards of one key need
    struct seg_header *h = s->header;
    uint64_t hash = seg_hash(k, sizeof *k, 0);
    uint32_t own = place.shard * STATE_PROBES_MAX, places = h->state_count;
    struct seg_state *e =
        state_probe(s, ((uint32_t)hash & (place.window - 1)) + own, hash, k, values);
    // Windows grow in each other, so the first ones fill up. Then in the third quarter, where no window
    // below the whole reaches: no shard meets another's entry there.
    if (!e && place.window < places && places >= 8 * OWN)
        e = state_probe(s, places / 2 + OWN + ((uint32_t)(hash >> 32) & (places / 4 - 1)) + own,
                        hash, k, values);
    if (e)
        return e;
    count(&h->losses.state_full);
    struct seg_state *overflow = (struct seg_state *)area(s, SEG_AREA_STATE) +
                                 (k->kind < SEG_KIND_COUNT ? k->kind : SEG_KIND_NONE);
    state_accumulate(overflow, values);
    return overflow;
}

// The thread pointer tells threads apart without a call or a byte of TLS.
static struct seg_state *state_find(struct seg *s, const struct state_key *k,
                                    const uint64_t values[4])
{
    uint64_t self = (uint64_t)(uintptr_t)__builtin_thread_pointer() * UINT64_C(0x9e3779b97f4a7c15);
    struct seg_state_place place = {(uint32_t)(self >> 62) % STATE_SHARDS, s->header->state_count};
    return state_find_in(s, place, k, values);
}

uint32_t seg_state_find_in(struct seg *s, struct seg_state_place place, enum seg_kind kind,
                           uint32_t user_stack, uint32_t labels, uint32_t epoch, uint64_t object)
{
    static const uint64_t nothing[4];
    struct state_key k = {(uint32_t)kind, user_stack, labels, epoch, object};
    return (uint32_t)(state_find_in(s, place, &k, nothing) -
                      (struct seg_state *)area(s, SEG_AREA_STATE));
}

uint32_t seg_state_find(struct seg *s, enum seg_kind kind, uint32_t user_stack, uint32_t labels,
                        uint32_t epoch, uint64_t object)
{
    static const uint64_t nothing[4];
    struct state_key k = {(uint32_t)kind, user_stack, labels, epoch, object};
    return (uint32_t)(state_find(s, &k, nothing) - (struct seg_state *)area(s, SEG_AREA_STATE));
}

void seg_state_add(struct seg *s, enum seg_kind kind, uint32_t user_stack, uint32_t labels,
                   uint64_t object, const uint64_t values[4])
{
    struct state_key k = {(uint32_t)kind, user_stack, labels, seg_epoch(s), object};
    state_find(s, &k, values);
}

static void fold(struct seg *s, const struct seg_record *r)
{
    count(&s->header->losses.ring_full[r->kind < SEG_KIND_COUNT ? r->kind : 0]);
    if (r->kind == SEG_KIND_SERIES) // a moment, not a sum
        return;
    struct state_key k = {r->kind, r->user_stack, r->labels, r->epoch, r->object};
    state_find(s, &k, (const uint64_t[4]){r->values[0], r->values[1], 0, 0});
}

void seg_record_put(struct seg *s, int slot, enum seg_context context, struct seg_record *r)
{
    struct seg_header *h = s->header;
    struct seg_ring *ring = ring_of(s, slot, context);
    uint64_t capacity = (h->ring_bytes - sizeof *ring) / SEG_RECORD_BYTES;
    // acquire: pairs with the release in seg_module_remove
    r->epoch = atomic_load_explicit(&h->epoch, memory_order_acquire);
    if (atomic_load_explicit(&ring->busy, memory_order_relaxed)) {
        fold(s, r);
        return;
    }
    atomic_store_explicit(&ring->busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); // a handler from here on sees busy
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); // only we write it
    // acquire: pairs with the consumer's release of tail, after which the place is ours
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (head - tail >= capacity) {
        // A hostile or mad tail ahead of head lands here too, and costs only time and thread.
        fold(s, r);
    } else {
        r->check = (uint16_t)(head ^ r->kind);
        struct seg_record *at = (struct seg_record *)(ring + 1) + head % capacity;
        memcpy(at, r, sizeof *at);
        // release: pairs with the consumer's acquire of head; the record is whole before it is seen
        atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    }
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&ring->busy, 0, memory_order_relaxed);
}

int seg_module_add(struct seg *s, const struct seg_module *m)
{
    struct seg_header *h = s->header;
    struct seg_module *modules = area(s, SEG_AREA_MODULES);
    uint32_t i = atomic_fetch_add_explicit(&h->module_used, 1, memory_order_relaxed);
    if (i >= h->module_count) {
        atomic_store_explicit(&h->module_used, h->module_count, memory_order_relaxed);
        count(&h->losses.modules_full);
        return -ENOSPC;
    }
    struct seg_module *at = &modules[i];
    at->start = m->start;
    at->end = m->end;
    at->offset = m->offset;
    at->device = m->device;
    at->inode = m->inode;
    at->path = m->path;
    at->build_id_size =
        m->build_id_size <= SEG_BUILD_ID_BYTES ? m->build_id_size : SEG_BUILD_ID_BYTES;
    memcpy(at->build_id, m->build_id, sizeof at->build_id);
    // A load starts no epoch: what it maps was free since the last unload, so within an epoch no
    // address ever has two owners, and stacks stay shared across loads.
    at->load_epoch = atomic_load_explicit(&h->epoch, memory_order_relaxed);
    // release: pairs with the reader's acquire of ready
    atomic_store_explicit(&at->ready, 1, memory_order_release);
    return (int)i;
}

void seg_module_remove(struct seg *s, int index)
{
    struct seg_header *h = s->header;
    if (index < 0 || (uint32_t)index >= h->module_count)
        return;
    struct seg_module *m = (struct seg_module *)area(s, SEG_AREA_MODULES) + index;
    // The new epoch first, so that two unloads at once get two. release: pairs with the acquires of epoch
    uint32_t epoch = atomic_fetch_add_explicit(&h->epoch, 1, memory_order_release) + 1;
    // release: pairs with the reader's acquire of unload_epoch
    atomic_store_explicit(&m->unload_epoch, epoch, memory_order_release);
}
