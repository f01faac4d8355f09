// SPDX-License-Identifier: MIT
//
// See lock_order.h.

#include "agent/lock_order.h"

#include "agent/capture.h"
#include "agent/fibers.h"
#include "agent/lock.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

enum { PROBES = 16, NUMBER_SHIFT = 32 };

#define NUMBER_MASK UINT64_C(0x7fffffff)

static struct seg_order *order(void)
{
    const struct seg_header *h = agent.space->seg.header;
    const struct seg_area *a = &h->areas[SEG_AREA_ORDER];
    return a->size ? (struct seg_order *)(void *)((char *)agent.space->seg.header + a->offset)
                   : NULL;
}

static struct seg_order_lock *locks(struct seg_order *o)
{
    return (struct seg_order_lock *)(void *)(o + 1);
}

static struct seg_order_edge *edges(struct seg_order *o)
{
    return (struct seg_order_edge *)(void *)(locks(o) + o->lock_count);
}

static void count(_Atomic uint64_t *what)
{
    atomic_fetch_add_explicit(what, 1, memory_order_relaxed);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool lock_order_is_wanted(void)
{
    const struct seg_order *o = order();
    return o && atomic_load_explicit(&o->wanted, memory_order_relaxed);
}

bool lock_order_want(bool on)
{
    struct seg_order *o = order();
    if (o)
        atomic_store_explicit(&o->wanted, on, memory_order_relaxed);
    return o;
}

void lock_order_update(bool on)
{
    struct seg_order *o = order();
    bool was = atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_ORDER;
    // A forked child has its parent's flags, and a segment in which nothing was switched on yet.
    if (!o || !on || (was && atomic_load_explicit(&o->since_ns, memory_order_relaxed)))
        return;
    // Before the flag: what is held from the time before is not held any more.
    atomic_fetch_add_explicit(&agent.space->order.session, 1, memory_order_relaxed);
    atomic_store_explicit(&o->since_ns, now_ns(), memory_order_relaxed);
}

// --- Who holds what.

static struct lock_holder *fresh(struct lock_holder *h, uint64_t who)
{
    uint32_t session = atomic_load_explicit(&agent.space->order.session, memory_order_relaxed);
    if (h->session == session)
        return h;
    h->session = session;
    h->count = 0;
    h->who = who;
    return h;
}

// makes: where it has none yet. NULL: it has none, or there is no place.
static struct lock_holder *holder_of_fiber(uint64_t id, bool makes)
{
    struct lock_fiber *table = agent.space->order.fibers;
    uint64_t at = id * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    for (uint64_t i = 0; i < PROBES; i++) {
        struct lock_fiber *f = &table[(at + i) % LOCK_FIBERS];
        if (atomic_load_explicit(&f->id, memory_order_relaxed) == id)
            return fresh(&f->holder, SEG_ORDER_FIBER | id);
    }
    for (uint64_t i = 0; makes && i < PROBES; i++) {
        struct lock_fiber *f = &table[(at + i) % LOCK_FIBERS];
        uint64_t none = 0;
        // acquire: pairs with the release in leave_if_empty
        if (atomic_compare_exchange_strong_explicit(&f->id, &none, id, memory_order_acquire,
                                                    memory_order_relaxed)) {
            f->holder.session = 0;
            return fresh(&f->holder, SEG_ORDER_FIBER | id);
        }
    }
    return NULL;
}

static struct lock_holder *holder_here(struct agent_slot *s, bool makes)
{
    struct fiber_here f;
    if (fibers_exist() && fibers_look(&f, (uint64_t)__builtin_frame_address(0), false))
        return holder_of_fiber(f.id, makes);
    struct lock_holder *h = &s->order;
    if (h->session != atomic_load_explicit(&agent.space->order.session, memory_order_relaxed)) {
        uint64_t number =
            atomic_fetch_add_explicit(&agent.space->order.threads, 1, memory_order_relaxed) + 1;
        uint32_t tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
        fresh(h, (number & NUMBER_MASK) << NUMBER_SHIFT | tid);
    }
    return h;
}

// A fiber that holds nothing leaves its place to others.
static void leave_if_empty(struct lock_holder *h)
{
    if (h->count || !(h->who & SEG_ORDER_FIBER))
        return;
    struct lock_fiber *f =
        (struct lock_fiber *)(void *)((char *)h - offsetof(struct lock_fiber, holder));
    // release: pairs with the acquire in holder_of_fiber
    atomic_store_explicit(&f->id, 0, memory_order_release);
}

static struct lock_held *find_held(struct lock_holder *h, const void *object)
{
    for (uint32_t i = h->count; i--;)
        if (h->held[i].object == (uint64_t)object)
            return &h->held[i];
    return NULL;
}

// --- Locks in the segment.

static struct seg_order_lock *lock_look(struct seg_order *o, const void *object)
{
    uint64_t at = lock_hash(object) >> 40;
    for (uint64_t i = 0; i < PROBES; i++) {
        struct seg_order_lock *l = &locks(o)[(at + i) & (o->lock_count - 1)];
        uint64_t address = atomic_load_explicit(&l->address, memory_order_acquire);
        if (address == (uint64_t)object)
            return l;
        if (!address)
            break;
    }
    return NULL;
}

static bool lock_claim(struct seg_order_lock *l, const void *object, enum seg_lock_type type)
{
    uint64_t was = atomic_load_explicit(&l->address, memory_order_relaxed);
    if ((was && !(was & SEG_ORDER_DEAD)) ||
        !atomic_compare_exchange_strong_explicit(&l->address, &was, (uint64_t)object,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    // One that was just seen by others has another number now; 0 is none's.
    if (atomic_fetch_add_explicit(&l->number, 1, memory_order_relaxed) == UINT32_MAX)
        atomic_store_explicit(&l->number, 1, memory_order_relaxed);
    atomic_store_explicit(&l->type, (uint32_t)type, memory_order_release);
    return true;
}

// Two threads may give one lock two places: who reads takes them for one, by its address.
static struct seg_order_name name_of(struct seg_order *o, const void *object,
                                     enum seg_lock_type type)
{
    struct seg_order_lock *l = lock_look(o, object);
    uint64_t at = lock_hash(object) >> 40;
    for (uint64_t i = 0; !l && i < PROBES; i++) {
        struct seg_order_lock *c = &locks(o)[(at + i) & (o->lock_count - 1)];
        if (lock_claim(c, object, type) ||
            atomic_load_explicit(&c->address, memory_order_relaxed) == (uint64_t)object)
            l = c;
    }
    if (!l) {
        count(&o->locks_full);
        return (struct seg_order_name){0, 0};
    }
    return (struct seg_order_name){(uint32_t)(l - locks(o)),
                                   atomic_load_explicit(&l->number, memory_order_relaxed)};
}

static bool is_alive(struct seg_order *o, struct seg_order_name n)
{
    return atomic_load_explicit(&locks(o)[n.index & (o->lock_count - 1)].number,
                                memory_order_relaxed) == n.number;
}

void lock_order_forgets(const void *object)
{
    uint32_t was = capture_hold();
    struct seg_order *o = agent_live() ? order() : NULL;
    struct seg_order_lock *l = o ? lock_look(o, object) : NULL;
    uint64_t address = (uint64_t)object;
    if (l) {
        atomic_fetch_add_explicit(&l->number, 1,
                                  memory_order_relaxed); // from here on no edge counts
        // release: pairs with the acquire in lock_claim
        if (atomic_compare_exchange_strong_explicit(&l->address, &address, address | SEG_ORDER_DEAD,
                                                    memory_order_release, memory_order_relaxed))
            count(&o->forgotten);
    }
    capture_release(was);
}

// --- Edges.

static bool is_same(struct seg_order_name a, struct seg_order_name b)
{
    return a.index == b.index && a.number == b.number;
}

static uint64_t mix(uint64_t h, struct seg_order_name n)
{
    h ^= (uint64_t)n.index << 32 | n.number;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

static uint64_t key_of(const struct seg_order_edge *e)
{
    uint64_t h = mix(mix((uint64_t)e->flags << 8 | e->guard_count, e->from), e->to);
    for (uint32_t i = 0; i < e->guard_count; i++)
        h = mix(h, e->guards[i]);
    return SEG_SLOT_READY | (h & (SEG_SLOT_CLAIMED - 1));
}

static bool is_edge(const struct seg_order_edge *e, const struct seg_order_edge *like, uint64_t key)
{
    // acquire: pairs with the release in edge_make
    if (atomic_load_explicit(&e->key, memory_order_acquire) != key ||
        !is_same(e->from, like->from) || !is_same(e->to, like->to) ||
        e->guard_count != like->guard_count || e->flags != like->flags)
        return false;
    for (uint32_t i = 0; i < e->guard_count; i++)
        if (!is_same(e->guards[i], like->guards[i]))
            return false;
    return true;
}

static struct seg_order_edge *edge_find(struct seg_order *o, const struct seg_order_edge *like,
                                        uint64_t key)
{
    for (uint64_t i = 0; i < PROBES; i++) {
        struct seg_order_edge *e = &edges(o)[(key + i) & (o->edge_count - 1)];
        if (is_edge(e, like, key))
            return e;
        if (!atomic_load_explicit(&e->key, memory_order_relaxed))
            break;
    }
    return NULL;
}

// In a free place, or in that of an edge whose locks are no more.
static struct seg_order_edge *edge_make(struct seg_order *o, const struct seg_order_edge *like,
                                        uint64_t key)
{
    for (uint64_t i = 0; i < PROBES; i++) {
        struct seg_order_edge *e = &edges(o)[(key + i) & (o->edge_count - 1)];
        uint64_t was = atomic_load_explicit(&e->key, memory_order_acquire);
        if (was && (!(was & SEG_SLOT_READY) || (is_alive(o, e->from) && is_alive(o, e->to))))
            continue;
        if (!atomic_compare_exchange_strong_explicit(
                &e->key, &was, SEG_SLOT_CLAIMED | (key & (SEG_SLOT_CLAIMED - 1)),
                memory_order_acq_rel, memory_order_relaxed))
            continue; // two may both make it: who reads adds them
        e->from = like->from;
        e->to = like->to;
        e->from_stack = like->from_stack;
        e->to_stack = like->to_stack;
        e->flags = like->flags;
        e->guard_count = like->guard_count;
        for (uint32_t g = 0; g < SEG_ORDER_GUARDS; g++)
            e->guards[g] = like->guards[g];
        e->first_ns = now_ns();
        atomic_store_explicit(&e->count, 0, memory_order_relaxed);
        atomic_store_explicit(&e->who[0], 0, memory_order_relaxed);
        atomic_store_explicit(&e->who[1], 0, memory_order_relaxed);
        atomic_store_explicit(&e->others, 0, memory_order_relaxed);
        atomic_store_explicit(&e->key, key,
                              memory_order_release); // pairs with the acquire in is_edge
        return e;
    }
    count(&o->edges_full);
    return NULL;
}

static bool is_by(const struct seg_order_edge *e, uint64_t who)
{
    return atomic_load_explicit(&e->who[0], memory_order_relaxed) == who ||
           atomic_load_explicit(&e->who[1], memory_order_relaxed) == who ||
           atomic_load_explicit(&e->others, memory_order_relaxed);
}

static void edge_seen(struct seg_order_edge *e, uint64_t who)
{
    count(&e->count);
    if (is_by(e, who))
        return;
    for (int i = 0; i < 2; i++) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong_explicit(&e->who[i], &none, who, memory_order_relaxed,
                                                    memory_order_relaxed) ||
            none == who)
            return;
    }
    atomic_store_explicit(&e->others, 1, memory_order_relaxed);
}

static struct seg_order_name name_held(struct seg_order *o, struct lock_held *a)
{
    if (!a->name.number || !is_alive(o, a->name))
        a->name = name_of(o, (const void *)(uintptr_t)a->object, (enum seg_lock_type)a->type);
    return a->name;
}

// The guards, sorted: one set has one edge.
static void add_guard(struct seg_order_edge *e, struct seg_order_name n)
{
    if (e->guard_count == SEG_ORDER_GUARDS) {
        e->flags |= SEG_ORDER_GUARDS_CUT;
        return;
    }
    uint32_t at = e->guard_count++;
    for (; at && (e->guards[at - 1].index > n.index ||
                  (e->guards[at - 1].index == n.index && e->guards[at - 1].number > n.number));
         at--)
        e->guards[at] = e->guards[at - 1];
    e->guards[at] = n;
}

// From the at'th of what h holds to `to`.
static void add_edge(struct seg_order *o, struct lock_holder *h, uint32_t at,
                     struct seg_order_name to, uint32_t to_stack, unsigned how)
{
    struct seg_order_edge like = {
        .from = name_held(o, &h->held[at]),
        .to = to,
        .from_stack = h->held[at].stack,
        .to_stack = to_stack,
        .flags = (h->held[at].is_read ? SEG_ORDER_FROM_READ : 0u) |
                 (how & LOCK_ORDER_READS ? SEG_ORDER_TO_READ : 0u) |
                 (how & LOCK_ORDER_QUEUES ? SEG_ORDER_TO_QUEUES : 0u),
    };
    if (!like.from.number)
        return;
    // Where this one has done the same without guards, those of now make no difference.
    uint64_t bare = key_of(&like);
    struct seg_order_edge *e = edge_find(o, &like, bare);
    if (!e || !is_by(e, h->who)) {
        for (uint32_t i = 0; i < h->count; i++) {
            struct seg_order_name g =
                i == at ? (struct seg_order_name){0} : name_held(o, &h->held[i]);
            g.index |= h->held[i].is_read ? SEG_ORDER_SHARED : 0;
            if (g.number)
                add_guard(&like, g);
            else if (i != at)
                like.flags |= SEG_ORDER_GUARDS_CUT;
        }
        uint64_t key = key_of(&like);
        if (!e || key != bare)
            e = edge_find(o, &like, key);
        if (!e)
            e = edge_make(o, &like, key);
    }
    if (e)
        edge_seen(e, h->who);
}

static void add_edges(struct lock_holder *h, const void *object, enum seg_lock_type type,
                      uint32_t stack, unsigned how)
{
    struct seg_order *o = order();
    struct seg_order_name to = name_of(o, object, type);
    for (uint32_t i = 0; to.number && i < h->count; i++)
        add_edge(o, h, i, to, stack, how);
}

// --- What happens.

static void take_stack(struct capture *c, unsigned how, const struct unwind_registers *regs)
{
    if (!(how & LOCK_ORDER_FIBER)) {
        capture_stack(c, regs);
        return;
    }
    uint32_t flags, depth = capture_walk(c, regs, &flags);
    uint32_t skip = fibers_skip(c->slot->hook_pcs, depth);
    c->stack = seg_stack(&agent.space->seg, c->slot->hook_pcs + skip, depth - skip, 0, flags);
}

void lock_order_wants(const void *object, enum seg_lock_type type, unsigned how,
                      const struct unwind_registers *regs)
{
    struct capture c;
    int saved = errno;
    if (!(how & LOCK_ORDER_WAITS) || capture_begin(&c)) {
        errno = saved;
        return;
    }
    struct lock_holder *h = order() ? holder_here(c.slot, false) : NULL;
    if (h && h->count && !find_held(h, object)) {
        take_stack(&c, how, regs);
        add_edges(h, object, type, c.stack, how);
    }
    capture_end(&c);
    errno = saved;
}

void lock_order_wants_at(const void *object, enum seg_lock_type type, unsigned how,
                         const void *frame)
{
    struct unwind_registers regs;
    CAPTURE_CALLER_OF(&regs, frame);
    lock_order_wants(object, type, how, &regs);
}

static void drop(struct lock_holder *h, const struct lock_held *held)
{
    for (uint32_t i = (uint32_t)(held - h->held) + 1; i < h->count; i++)
        h->held[i - 1] = h->held[i];
    h->count--;
}

// Whether who holds it may take it once more. The field is that of glibc's public header; mtx_t is the same inside.
static bool is_taken_again(const void *object, enum seg_lock_type type, unsigned how)
{
    const pthread_mutex_t *m = object;
    if (type == SEG_LOCK_RWLOCK)
        return how & LOCK_ORDER_READS;
    return !(how & LOCK_ORDER_FIBER) && (m->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE;
}

static void took(struct capture *c, const void *object, enum seg_lock_type type, unsigned how,
                 const struct unwind_registers *regs)
{
    struct lock_holder *h = holder_here(c->slot, true);
    struct lock_held *again = h ? find_held(h, object) : NULL;
    if (again && is_taken_again(object, type, how)) {
        again->times++;
        return;
    }
    if (again) // somebody else has released it meanwhile
        drop(h, again);
    if (!h || h->count == LOCK_HELD_MAX) {
        count(&order()->held_full);
        return;
    }
    take_stack(c, how, regs);
    if (how & LOCK_ORDER_WAITS && h->count)
        add_edges(h, object, type, c->stack, how);
    h->held[h->count++] = (struct lock_held){.object = (uint64_t)object,
                                             .stack = c->stack,
                                             .times = 1,
                                             .type = (uint8_t)type,
                                             .is_read = how & LOCK_ORDER_READS};
}

void lock_order_took(const void *object, enum seg_lock_type type, unsigned how,
                     const struct unwind_registers *regs)
{
    struct capture c;
    int saved = errno;
    if (!capture_begin(&c)) {
        if (order())
            took(&c, object, type, how, regs);
        capture_end(&c);
    }
    errno = saved;
}

__attribute__((noinline)) int lock_order_result(const void *object, enum seg_lock_type type,
                                                unsigned how, int rc, const void *frame)
{
    struct unwind_registers regs;
    CAPTURE_CALLER_OF(&regs, frame);
    if (!rc || rc == EOWNERDEAD)
        lock_order_took(object, type, how, &regs);
    return rc;
}

void lock_order_releases(const void *object)
{
    struct capture c;
    if (!capture_begin_again(&c))
        return; // a thread without a slot holds nothing that is known
    struct lock_holder *h = holder_here(c.slot, false);
    struct lock_held *held = h ? find_held(h, object) : NULL;
    if (held && !--held->times) {
        drop(h, held);
        leave_if_empty(h);
    }
    capture_end(&c);
}

void lock_order_fiber(const void *object, uint32_t what)
{
    struct unwind_registers regs;
    bool is_rw = what & DESCRIPTOR_LOCK_RW, reads = what & DESCRIPTOR_LOCK_READS;
    enum seg_lock_type type = is_rw ? SEG_LOCK_RWLOCK : SEG_LOCK_MUTEX;
    unsigned how = LOCK_ORDER_FIBER | (what & DESCRIPTOR_LOCK_WAITS ? LOCK_ORDER_WAITS : 0u) |
                   (reads ? LOCK_ORDER_READS | LOCK_ORDER_QUEUES : 0u);
    CAPTURE_CALLER(&regs);
    switch (what & DESCRIPTOR_LOCK_EVENT) {
    case DESCRIPTOR_LOCK_WANTED: lock_order_wants(object, type, how, &regs); break;
    case DESCRIPTOR_LOCK_TAKEN: lock_order_took(object, type, how, &regs); break;
    default: lock_order_releases(object);
    }
}
