// SPDX-License-Identifier: MIT
//
// Stacks: address space of a power of two, a guard at the low end, struct live at the high one. Given to a
// fiber at its first dispatch and taken back at its end; never unmapped.
//
// Free ones lie in the P's cache, newest first (its page is in the processor's cache), and beyond
// CACHE_MAX in a list of the whole, the warm ones. Giving memory back costs as much as a spawn, and more with several
// threads, and most of it is soon wanted again: so sysmon does it (stacks_trim), for those that nobody
// has wanted for a while. A free stack's struct live holds the link.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/tools.h"

#include <string.h>
#include <sys/mman.h>

enum {
    CACHE_MAX = 64,
    BATCH = 32,
    KEEP_WARM = 4096, // are never trimmed
    TRIM_PART = 64,   // of what is to be trimmed, at a time
    TRIM_MIN = 64,
    TRIM_MAX = 1024, // a millisecond or two
    MIN_SHIFT = 14,
    HUGE = 2 << 20,
    COLOURS = 16,
    LIVE_BYTES = (sizeof(struct live) + LINE - 1) / LINE * LINE
};
_Static_assert(LIVE_BYTES + COLOURS * LINE <= OS_PAGE / 2, "room for frames in the first page");

struct free_stack {
    struct free_stack *next;
    uint32_t is_guarded;
};

static struct stack_class { // NOLINT(*Padding): in the order of use
    struct rt_lock lock;
    struct free_stack *warm;
    uint32_t warm_count, cold_count, cold_capacity;
    uint32_t warm_least;        // of warm_count, since the trim period began
    uint32_t trim_count;        // still to be trimmed in this period
    struct free_stack **cold;   // without memory: nothing can be linked in them
    uint8_t *arena, *arena_end; // not yet given out
    uint32_t made;
} classes[STACK_CLASSES];

static _Atomic bool is_short;

bool stacks_are_short(void)
{
    return atomic_load_explicit(&is_short, memory_order_relaxed);
}

void stacks_try_again(void)
{
    atomic_store_explicit(&is_short, false, memory_order_relaxed);
    if (atomic_load(&sched.stack_wait_count))
        wake_p();
}

uint8_t stack_class_of(size_t bytes)
{
    uint8_t c = 0;
    while (c + 1 < STACK_CLASSES && ((size_t)1 << (MIN_SHIFT + c)) < bytes)
        c++;
    return c;
}

static size_t class_bytes(uint8_t c)
{
    return (size_t)1 << (MIN_SHIFT + c);
}

// Not at the same place of each top page: those would all share few sets of the processor's caches.
static struct live *live_of_high(uint8_t *high, uint8_t c)
{
    size_t colour = ((uintptr_t)high >> (MIN_SHIFT + c)) % COLOURS;
    return (struct live *)(void *)(high - LIVE_BYTES - colour * LINE);
}

// A stack never used before, by its high end; NULL: neither memory nor mappings. Lock held.
static uint8_t *carve(struct stack_class *sc, uint8_t c)
{
    size_t bytes = class_bytes(c);
    if (sc->arena == sc->arena_end) {
        // Arenas double, from 16 stacks to 2048, so that a few fibers do not reserve gigabytes.
        size_t n = sc->made < 16 ? 16 : sc->made < 2048 ? sc->made : 2048;
        while (n > 1 && n * bytes > (size_t)1 << 30)
            n /= 2;
        uint8_t *a = NULL;
        size_t align = bytes < HUGE ? bytes : HUGE;
        while (n && !(a = os_reserve(n * bytes, align)))
            n /= 2;
        if (!a)
            return NULL;
        madvise(a, n * bytes, MADV_NOHUGEPAGE);
        sc->arena = a;
        sc->arena_end = a + n * bytes;
        sc->made += (uint32_t)n;
    }
    if (!os_guard(sc->arena, OS_PAGE))
        return NULL;
    tools_stack_made(sc->arena + OS_PAGE, sc->arena + bytes);
    sc->arena += bytes;
    return sc->arena;
}

// Those that idle Ps keep: nobody owns one as long as it is in the list.
static struct free_stack *take_from_idle(uint8_t c)
{
    struct free_stack *f = NULL;
    rt_lock(&sched.lock);
    for (struct p *p = sched.idle_p_list; p && !f; p = p->link) {
        f = p->stacks[c].head;
        if (f) {
            p->stacks[c].head = f->next;
            p->stacks[c].count--;
        }
    }
    rt_unlock(&sched.lock);
    return f;
}

static struct free_stack *refill(struct p *p, uint8_t c)
{
    struct stack_class *sc = &classes[c];
    struct free_stack *f = NULL;
    rt_lock(&sc->lock);
    while (p->stacks[c].count < BATCH && sc->warm) {
        f = sc->warm;
        sc->warm = f->next;
        if (--sc->warm_count < sc->warm_least)
            sc->warm_least = sc->warm_count;
        f->next = p->stacks[c].head;
        p->stacks[c].head = f;
        p->stacks[c].count++;
    }
    if (!p->stacks[c].head) {
        if (sc->cold_count) {
            f = sc->cold[--sc->cold_count];
        } else {
            uint8_t *high = carve(sc, c);
            f = high ? (struct free_stack *)(void *)live_of_high(high, c) : NULL;
        }
        rt_unlock(&sc->lock);
        return f ? f : take_from_idle(c);
    }
    rt_unlock(&sc->lock);
    f = p->stacks[c].head;
    p->stacks[c].head = f->next;
    p->stacks[c].count--;
    return f;
}

static inline void zero_live(struct live *l)
{
    typedef long long line __attribute__((vector_size(16), may_alias));
    line *to = (line *)(void *)l;
    for (size_t i = 0; i < offsetof(struct live, name) / sizeof *to + 1; i++)
        to[i] = (line){0};
}

bool stack_attach(struct p *p, struct g *g)
{
    uint8_t c = g->stack_class;
    struct free_stack *f = p->stacks[c].head;
    if (f) {
        p->stacks[c].head = f->next;
        p->stacks[c].count--;
    } else {
        f = refill(p, c);
        if (!f) {
            atomic_store_explicit(&is_short, true, memory_order_relaxed);
            return false;
        }
    }
    struct live *l = (struct live *)(void *)f;
    uint64_t high = ((uint64_t)(uintptr_t)l | (OS_PAGE - 1)) + 1;
    if (g->flags & G_IS_MEASURED) // what the last one touched must not count
        os_forget((uint8_t *)(uintptr_t)(high - class_bytes(c) + OS_PAGE),
                  class_bytes(c) - OS_PAGE);
    zero_live(l);
    l->g = g;
    l->high = high;
    l->low = high - class_bytes(c);
    tools_fiber_begins(l);
    fib_fn *fn = g->flags & G_IS_TASK ? ((const struct go_task *)g->arg)->run : g->fn;
    l->sp = arch_new_stack((uint64_t)(uintptr_t)l, fn, g->arg);
    __atomic_store_n(&g->live, l, __ATOMIC_RELAXED); // g_live
    g->flags |= G_IS_STARTED;
    return true;
}

static void chill(struct stack_class *sc, struct free_stack *f)
{
    rt_lock(&sc->lock);
    if (sc->cold_count == sc->cold_capacity) {
        uint32_t capacity = sc->cold_capacity ? sc->cold_capacity * 2 : OS_PAGE / sizeof f;
        struct free_stack **cold = os_pages(capacity * sizeof *cold);
        if (!cold) { // then it stays warm
            f->next = sc->warm;
            sc->warm = f;
            sc->warm_count++;
            rt_unlock(&sc->lock);
            return;
        }
        if (sc->cold_count)
            memcpy(cold, sc->cold, sc->cold_count * sizeof *cold);
        os_pages_free(sc->cold, sc->cold_capacity * sizeof *cold);
        sc->cold = cold;
        sc->cold_capacity = capacity;
    }
    sc->cold[sc->cold_count++] = f;
    rt_unlock(&sc->lock);
}

// Half of the P's cache goes to all.
static void spill(struct p *p, uint8_t c)
{
    struct stack_class *sc = &classes[c];
    struct free_stack *first = p->stacks[c].head, *last = first;
    for (uint32_t i = 1; i < CACHE_MAX / 2; i++)
        last = last->next;
    p->stacks[c].head = last->next;
    p->stacks[c].count -= CACHE_MAX / 2;
    rt_lock(&sc->lock);
    last->next = sc->warm;
    sc->warm = first;
    sc->warm_count += CACHE_MAX / 2;
    rt_unlock(&sc->lock);
}

// --- Giving memory back.

static void trim_one(struct stack_class *sc, uint8_t c)
{
    rt_lock(&sc->lock);
    struct free_stack *f = sc->warm;
    if (f) {
        sc->warm = f->next;
        if (--sc->warm_count < sc->warm_least)
            sc->warm_least = sc->warm_count;
    }
    rt_unlock(&sc->lock);
    if (!f)
        return;
    uint64_t high = ((uint64_t)(uintptr_t)f | (OS_PAGE - 1)) + 1;
    uint8_t *low = (uint8_t *)(uintptr_t)(high - class_bytes(c));
    os_forget(low + OS_PAGE, class_bytes(c) - OS_PAGE);
    chill(sc, f);
}

bool stacks_trim(bool is_new_period)
{
    bool is_more = false;
    for (int k = 0; k < STACK_CLASSES; k++) {
        const uint8_t c = (uint8_t)k;
        struct stack_class *sc = &classes[c];
        rt_lock(&sc->lock);
        if (is_new_period) {
            sc->trim_count = sc->warm_least > KEEP_WARM ? sc->warm_least - KEEP_WARM : 0;
            sc->warm_least = sc->warm_count;
        }
        is_more |= sc->warm_count > KEEP_WARM;
        rt_unlock(&sc->lock);
        uint32_t n = sc->trim_count / TRIM_PART;
        n = n < TRIM_MIN ? TRIM_MIN : n > TRIM_MAX ? TRIM_MAX : n;
        n = n < sc->trim_count ? n : sc->trim_count;
        sc->trim_count -= n;
        for (; n; n--)
            trim_one(sc, c);
    }
    return is_more;
}

FIB_LOOKS void stacks_count(uint64_t *made, uint64_t *free)
{
    *made = *free = 0;
    for (uint32_t c = 0; c < STACK_CLASSES; c++) {
        struct stack_class *sc = &classes[c];
        rt_lock(&sc->lock);
        *made += sc->made - (uint64_t)(sc->arena_end - sc->arena) / class_bytes((uint8_t)c);
        *free += sc->warm_count + sc->cold_count;
        rt_unlock(&sc->lock);
        for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++)
            *free += *(volatile uint32_t *)&sched.ps[i]->stacks[c].count;
    }
}

// From the lowest page in memory to the high end. The fiber may end meanwhile, and its bounds be zeroed.
FIB_LOOKS size_t stack_used_bytes(const struct live *l)
{
    uint8_t pages[512];
    const uint64_t low = *(const volatile uint64_t *)&l->low;
    const uint64_t high = *(const volatile uint64_t *)&l->high;
    if (low >= high || high - low > class_bytes(STACK_CLASSES - 1))
        return 0;
    for (uint64_t at = low + OS_PAGE; at < high; at += sizeof pages * OS_PAGE) {
        uint64_t n = high - at < sizeof pages * OS_PAGE ? high - at : sizeof pages * OS_PAGE;
        if (!os_resident((void *)(uintptr_t)at, n, pages))
            continue;
        for (uint64_t i = 0; i < n / OS_PAGE; i++)
            if (pages[i] & 1)
                return high - at - i * OS_PAGE;
    }
    return 0;
}

void stack_release(struct p *p, struct g *g)
{
    uint8_t c = g->stack_class;
    if (g->flags & G_IS_MEASURED) {
        site_note(g->site, stack_used_bytes(g->live));
        atomic_fetch_add_explicit(&g->site->measured, 1, memory_order_relaxed);
    }
    tools_fiber_ended(g->live);
    struct free_stack *f = (struct free_stack *)(void *)g->live;
    __atomic_store_n(&g->live, NULL, __ATOMIC_RELAXED); // g_live
    g->flags = 0;
    f->next = p->stacks[c].head;
    p->stacks[c].head = f;
    if (++p->stacks[c].count > CACHE_MAX)
        spill(p, c);
    if (stacks_are_short())
        atomic_store_explicit(&is_short, false, memory_order_relaxed);
}
