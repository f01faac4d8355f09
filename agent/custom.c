// SPDX-License-Identifier: MIT
//
// Custom profiles: a state entry counts what was added and removed at a stack; a table of each profile
// says at which entry an object was added.
//
// What always holds
//   - An object is in a table at most once, and its entry has been counted up before it is there.
//   - A table is an open hash with linear probing and no gaps between an object and the place that its
//     hash names: a removal moves back what follows. It is changed under its futex alone.
//   - Tables lie in memory that a forked child finds zeroed: its segment is another, so profiles are
//     empty there. Their names stay, and are interned again.

#include "agent/custom.h"

#include "agent/api.h"

#include "fiberscope/profile.h"

#include "agent/agent.h"
#include "agent/capture.h"
#include "agent/futex.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PROFILES_MAX = 64,
    NAME_BYTES = 64,
    OBJECTS_MAX = 65536,
    PLACES = 2 * OBJECTS_MAX,
};

struct place {
    uint64_t object;
    uint32_t is_taken, state;
};

struct table {
    _Atomic uint32_t lock;
    _Atomic uint32_t count;
    uint32_t name; // id in this process' segment; 0: not yet interned
    struct place places[PLACES];
};

struct fscope_profile {
    char name[NAME_BYTES]; // "": not made yet
    struct table *table;
};

static struct fscope_profile profiles[PROFILES_MAX];
static _Atomic uint32_t profiles_lock;
// What `fiberscope finish` calls its own.
static const char *const reserved[] = {"cpu",      "wall",  "heap",  "allocs",
                                       "lifetime", "block", "mutex", "custom"};

void custom_fork_child(void)
{
    atomic_store_explicit(&profiles_lock, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < PROFILES_MAX && profiles[i].name[0]; i++) // kernels before 4.14
        atomic_store_explicit(&profiles[i].table->lock, 0, memory_order_relaxed);
}

static struct fscope_profile *find_or_make(const char *name, size_t n)
{
    uint32_t i = 0;
    while (i < PROFILES_MAX && profiles[i].name[0]) {
        if (!strcmp(profiles[i].name, name))
            return &profiles[i];
        i++;
    }
    if (i == PROFILES_MAX)
        return NULL;
    long at = sys6(SYS_mmap, 0, sizeof(struct table), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
    if (at < 0 && at > -4096)
        return NULL;
    sys3(SYS_madvise, at, sizeof(struct table), MADV_WIPEONFORK);
    profiles[i].table = (struct table *)at;
    memcpy(profiles[i].name, name, n + 1);
    return &profiles[i];
}

EXPORTED struct fscope_profile *fscope_profile_get(const char *name)
{
    size_t n = name ? strnlen(name, NAME_BYTES) : 0;
    if (n == 0 || n == NAME_BYTES)
        return NULL;
    for (uint32_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (!strcmp(name, reserved[i]))
            return NULL;
    futex_lock(&profiles_lock);
    struct fscope_profile *p = find_or_make(name, n);
    futex_unlock(&profiles_lock);
    return p;
}

static uint32_t home(uint64_t object)
{
    return (uint32_t)((object * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % PLACES;
}

// The object's place, or the free one where it would go: there always is one.
static uint32_t look_up(const struct table *t, uint64_t object)
{
    uint32_t i = home(object);
    while (t->places[i].is_taken && t->places[i].object != object)
        i = (i + 1) % PLACES;
    return i;
}

// Closes the gap at i: what would not be found across it moves there, and leaves another.
static void take_out(struct table *t, uint32_t i)
{
    for (uint32_t k = (i + 1) % PLACES; t->places[k].is_taken; k = (k + 1) % PLACES) {
        uint32_t from_home = (k - home(t->places[k].object)) % PLACES;
        if (from_home < (k - i) % PLACES)
            continue;
        t->places[i] = t->places[k];
        i = k;
    }
    t->places[i] = (struct place){0};
}

// The state entry of this profile at the caller's stack.
static uint32_t entry_here(struct table *t, const char *name, const struct unwind_registers *regs)
{
    struct seg *seg = &agent.space->seg;
    struct capture c;
    bool has_stack = !capture_begin(&c);
    if (has_stack)
        capture_stack(&c, regs);
    else // within a hook, or of a thread on its way out: counted without a stack
        c = (struct capture){.epoch = seg_epoch(seg)};
    if (!t->name)
        t->name = seg_string(seg, name, strlen(name));
    uint32_t state = seg_state_find(seg, SEG_KIND_CUSTOM, c.stack, c.labels, c.epoch, t->name);
    if (has_stack)
        capture_end(&c);
    return state;
}

static void count(uint32_t state, uint32_t value)
{
    struct seg_state *s = seg_state_at(&agent.space->seg, state);
    atomic_fetch_add_explicit(&s->values[value], 1, memory_order_relaxed);
}

static int add_locked(struct fscope_profile *p, uint64_t object,
                      const struct unwind_registers *regs)
{
    struct table *t = p->table;
    struct place *at = &t->places[look_up(t, object)];
    uint32_t n = atomic_load_explicit(&t->count, memory_order_relaxed);
    if (at->is_taken)
        return -EEXIST;
    if (n == OBJECTS_MAX)
        return -ENOSPC;
    *at = (struct place){object, 1, entry_here(t, p->name, regs)};
    count(at->state, 0);
    atomic_store_explicit(&t->count, n + 1, memory_order_relaxed);
    return 0;
}

EXPORTED int fscope_profile_add(struct fscope_profile *p, const void *object)
{
    struct unwind_registers regs;
    CAPTURE_CALLER(&regs);
    int rc = api_begin();
    if (rc)
        return rc;
    futex_lock(&p->table->lock);
    rc = add_locked(p, (uint64_t)object, &regs);
    futex_unlock(&p->table->lock);
    return rc;
}

EXPORTED int fscope_profile_remove(struct fscope_profile *p, const void *object)
{
    struct table *t = p->table;
    int rc = -ENOENT;
    futex_lock(&t->lock);
    uint32_t i = look_up(t, (uint64_t)object);
    if (t->places[i].is_taken) {
        count(t->places[i].state, 1);
        take_out(t, i);
        atomic_fetch_sub_explicit(&t->count, 1, memory_order_relaxed);
        rc = 0;
    }
    futex_unlock(&t->lock);
    return rc;
}

EXPORTED uint64_t fscope_profile_count(const struct fscope_profile *p)
{
    return atomic_load_explicit(&p->table->count, memory_order_relaxed);
}
