// SPDX-License-Identifier: MIT
//
// The mutex. Its behaviour is that of Go's sync.Mutex; its waiters are queued by address.
//
// One word: the owner's id, 0: free; and three flags. So the owner is always the one that holds it, and taking and
// releasing it are one compare-and-swap each while nobody waits.
//
// What always holds
//   - HAS_WAITERS is set exactly when the queue of its address is not empty, but inside of the bucket's lock.
//   - HAS_WAITERS and IS_STARVING change only with the bucket's lock. An unlock that has to choose the next one does so
//     before it lets go, and none touches the mutex after.
//   - IS_STARVING implies an owner: then the mutex goes from hand to hand and is never seen free.
//   - IS_WOKEN is set only while someone awake is going to try, so that no unlock need wake another. Whoever
//     took it on clears it when it gets the mutex, queues up again or gives up.

#include "runtime/core.h"
#include "runtime/descriptor.h"
#include "runtime/sync/owner.h"
#include "runtime/sync/wait_table.h"
#include "runtime/usdt.h"

#include <errno.h>

#define HAS_WAITERS (UINT64_C(1) << 60)
#define IS_WOKEN    (UINT64_C(1) << 61)
#define IS_STARVING (UINT64_C(1) << 62)
_Static_assert((HAS_WAITERS | IS_WOKEN | IS_STARVING) == OWNER_FLAGS, "ids leave them free");

enum { STARVING_NS = 1000 * 1000, SPINS = 4, SPIN_PAUSES = 30 }; // as Go

static inline _Atomic uint64_t *word_of(const struct fib_mutex *m)
{
    return (_Atomic uint64_t *)(uintptr_t)&m->owner;
}

static inline uint64_t word_look(const struct fib_mutex *m)
{
    return atomic_load_explicit(word_of(m), memory_order_relaxed);
}

static bool word_swap(struct fib_mutex *m, uint64_t *old, uint64_t new)
{
    // acquire: sees what the last holder did; release: shows what this one did
    return atomic_compare_exchange_strong_explicit(word_of(m), old, new, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static inline bool fast_lock(struct fib_mutex *m, uint64_t self)
{
    uint64_t free = 0;
    // acquire: pairs with the release in fast_unlock
    return atomic_compare_exchange_strong_explicit(word_of(m), &free, self, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline bool fast_unlock(struct fib_mutex *m, uint64_t self)
{
    // release: pairs with the acquire in fast_lock
    return atomic_compare_exchange_strong_explicit(word_of(m), &self, 0, memory_order_release,
                                                   memory_order_relaxed);
}

// One who tries to lock.
struct attempt {
    uint64_t self;
    int64_t since_ns, until_ns; // 0: has not waited yet; INT64_MAX: without limit
    int64_t timeout_ns;
    uint32_t spins;
    bool is_woken;    // IS_WOKEN is this one's
    bool is_starving; // has waited too long
};

// Only while another processor runs something that may unlock, and there is nothing else to do here.
static bool may_spin(const struct attempt *a)
{
    if (a->spins >= SPINS || sched_is_seeded)
        return false;
    uint32_t procs = atomic_load_explicit(&sched.ps_made, memory_order_relaxed);
    uint32_t idle = atomic_load_explicit(&sched.idle_ps, memory_order_relaxed) +
                    atomic_load_explicit(&sched.spinning, memory_order_relaxed);
    struct m *m = this_m();
    if (!m)
        return procs > idle;
    struct p *p = m_p(m);
    return procs > idle + 1 && p && runq_is_empty(p);
}

static void spin(struct fib_mutex *m, struct attempt *a, uint64_t word)
{
    if (!a->is_woken && (word & HAS_WAITERS) && !(word & IS_WOKEN))
        a->is_woken = word_swap(m, &word, word | IS_WOKEN);
    for (int i = 0; i < SPIN_PAUSES; i++)
        arch_pause();
    a->spins++;
}

// Takes it if it is free.
static bool try_free(struct fib_mutex *m, struct attempt *a)
{
    uint64_t word = word_look(m);
    while (!(word & ~OWNER_FLAGS))
        if (word_swap(m, &word, (word & ~(a->is_woken ? IS_WOKEN : 0)) | a->self))
            return true;
    return false;
}

// With the bucket's lock: says in the word that one more waits. False: it is free now.
static bool announce(struct fib_mutex *m, const struct attempt *a)
{
    uint64_t word = word_look(m);
    uint64_t set = HAS_WAITERS | (a->is_starving ? IS_STARVING : 0);
    while (word & ~OWNER_FLAGS)
        if (word_swap(m, &word, (word & ~(a->is_woken ? IS_WOKEN : 0)) | set))
            return true;
    return false;
}

// With the bucket's lock: one whose time is over leaves.
static int give_up(struct fib_mutex *m, struct wait_bucket *b)
{
    if (wait_is_empty(b, m))
        atomic_fetch_and_explicit(word_of(m), ~(HAS_WAITERS | IS_STARVING), memory_order_relaxed);
    wait_unlock(b);
    return -ETIMEDOUT;
}

// Queues up and waits: 0: it is the caller's; -EAGAIN: to be tried again; -ETIMEDOUT.
static int wait_once(struct fib_mutex *m, struct attempt *a, enum wait_reason reason,
                     const void *object)
{
    bool is_first = !a->since_ns;
    int64_t now = clock_now();
    if (is_first) {
        a->since_ns = now;
        if (a->timeout_ns >= 0 && a->timeout_ns < INT64_MAX - now)
            a->until_ns = now + a->timeout_ns;
    }
    a->is_starving = now - a->since_ns > STARVING_NS && now < a->until_ns;
    struct wait_bucket *b = wait_lock(m);
    if (!announce(m, a)) {
        wait_unlock(b);
        return -EAGAIN;
    }
    a->is_woken = false;
    bool is_limited = a->until_ns != INT64_MAX;
    if (is_limited && a->until_ns <= now)
        return give_up(m, b);

    struct waiter w;
    wait_init(&w, m, is_limited);
    w.since_ns = now;
    w.s.value = a->since_ns;
    w.id = a->self;
    if (is_first)
        wait_append(b, &w);
    else
        wait_prepend(b, &w);
    if (!wait_park(b, &w, reason, object, &m->owner, is_limited ? a->until_ns - now : -1))
        return give_up(m, b);
    if (w.s.ok) // handed over
        return 0;
    a->is_woken = true;
    a->spins = 0;
    return -EAGAIN;
}

__attribute__((noinline)) static int lock_slow(struct fib_mutex *m, int64_t timeout_ns,
                                               enum wait_reason reason, const void *object,
                                               const char *call)
{
    struct attempt a = {.self = owner_self(), .timeout_ns = timeout_ns, .until_ns = INT64_MAX};
    if (owner_of(&m->owner) == a.self)
        rt_fatal(call, "the caller holds it already, and would wait for itself");
    for (;;) {
        if (try_free(m, &a))
            return 0;
        uint64_t word = word_look(m);
        if ((word & ~OWNER_FLAGS) && !(word & IS_STARVING) && may_spin(&a)) {
            spin(m, &a, word);
            continue;
        }
        int rc = wait_once(m, &a, reason, object);
        if (rc != -EAGAIN)
            return rc;
    }
}

int mutex_lock_as(struct fib_mutex *m, int64_t timeout_ns, enum wait_reason reason,
                  const void *object, const char *call)
{
    return fast_lock(m, owner_self()) ? 0 : lock_slow(m, timeout_ns, reason, object, call);
}

// The next waiter is woken, or given the mutex; returned is whom to ready, *is_handed: it has it.
// *since_ns: when that one parked.
static struct g *pass_on(struct fib_mutex *m, bool *is_handed, int64_t *since_ns)
{
    struct wait_bucket *b = wait_lock(m);
    uint64_t word = word_look(m);
    bool is_starving = word & IS_STARVING;
    struct waiter *w = NULL;
    if (is_starving || !(word & IS_WOKEN))
        w = wait_take(b, m);
    uint64_t set = wait_is_empty(b, m) ? 0 : HAS_WAITERS;
    *is_handed = w && is_starving;
    if (*is_handed)
        set |= w->id | (set && clock_now() - w->s.value > STARVING_NS ? IS_STARVING : 0);
    else if (w)
        set |= IS_WOKEN;
    struct g *g = w ? w->s.g : NULL;
    if (w) {
        w->s.ok = *is_handed;
        *since_ns = w->since_ns;
    }
    // Meanwhile only IS_WOKEN may be set, by one that spins.
    while (!word_swap(m, &word, (word & IS_WOKEN) | set))
        ;
    wait_unlock(b);
    return g;
}

// A fiber that must not be switched now keeps the processor, even if it hands over.
static bool may_yield(void)
{
    struct m *m = this_m();
    return m && !m->cur->live->blocking && !m->cur->live->nopreempt && !m->locks;
}

__attribute__((noreturn, cold, noinline)) static void not_owner(const struct fib_mutex *m,
                                                                const char *call)
{
    uint64_t owner = owner_of(&m->owner);
    if (!owner)
        rt_fatal(call, "it is not locked");
    rt_fatal(call, "the caller does not hold it; %s %llu does", owner >> 63 ? "thread" : "fiber",
             (unsigned long long)(owner << 1 >> 1));
}

void mutex_check_owner(const struct fib_mutex *m, const char *call)
{
    if (__builtin_expect(owner_of(&m->owner) != owner_self(), 0))
        not_owner(m, call);
}

// In fibers: a plain thread's waits are not told either.
__attribute__((noinline)) static void tell_unlock(const struct fib_mutex *m, uint64_t ns)
{
    void (*tell)(const void *object, uint64_t ns) =
        __atomic_load_n(&fib_descriptor.on_unlock, __ATOMIC_RELAXED);
    struct m *here = this_m();
    if (here && USDT_IS_ON(mutex))
        USDT4(mutex, usdt_self(here), ns, (uintptr_t)m, 1);
    if (tell && here)
        tell(m, ns);
}

__attribute__((noinline)) static void unlock_slow(struct fib_mutex *m, const char *call,
                                                  bool may_not_yield)
{
    mutex_check_owner(m, call);
    // Someone awake will try: nobody has to be chosen. Who woke may have queued up since, then the word has changed.
    uint64_t word = word_look(m);
    while ((word & (IS_WOKEN | IS_STARVING)) == IS_WOKEN)
        if (word_swap(m, &word, word & OWNER_FLAGS))
            return;
    bool is_handed;
    int64_t since_ns = 0;
    struct g *g = pass_on(m, &is_handed, &since_ns);
    if (!g)
        return;
    int64_t now = fib_descriptor.on_unlock || USDT_IS_ON(mutex) ? clock_now() : 0;
    if (is_handed && !may_not_yield && may_yield())
        g_ready_and_yield(g);
    else
        g_ready(g);
    if (__builtin_expect(now > since_ns, 0))
        tell_unlock(m, (uint64_t)(now - since_ns));
}

void mutex_unlock_no_yield(struct fib_mutex *m, const char *call)
{
    if (!fast_unlock(m, owner_self()))
        unlock_slow(m, call, true);
}

void mutex_unlock_as(struct fib_mutex *m, const char *call)
{
    if (!fast_unlock(m, owner_self()))
        unlock_slow(m, call, false);
}

// The fast paths of fibers: all else is out of line, as the last thing they do, so that they need no frame.
// The inline ones of sync.h come here when they cannot do it.
#undef fib_mutex_lock
#undef fib_mutex_unlock

void lock_tell(const void *object, uint32_t what)
{
    void (*tell)(const void *object, uint32_t what) =
        __atomic_load_n(&fib_descriptor.on_lock, __ATOMIC_RELAXED);
    uint32_t how = __atomic_load_n(&sched_slow_locks, __ATOMIC_RELAXED);
    if (tell && (how & DESCRIPTOR_LOCKS_WATCHED)) {
        fib_tls.owner = 0; // known here it would unlock inline, and that is to be told, too
        tell(object, what);
    }
}

__attribute__((noinline)) static void lock_else(struct fib_mutex *m)
{
    seed_point();
    uint32_t waits = DESCRIPTOR_LOCK_WAITS;
    if (!fast_lock(m, owner_self())) {
        lock_watch(m, DESCRIPTOR_LOCK_WANTED | waits);
        lock_slow(m, -1, WAIT_MUTEX, m, "fib_mutex_lock");
        waits = 0; // told already
    }
    lock_watch(m, DESCRIPTOR_LOCK_TAKEN | waits);
}

FIB_PUBLIC void fib_mutex_lock(struct fib_mutex *m)
{
    struct m *here = this_m();
    if (__builtin_expect(!here || locks_are_slow(), 0) || !fast_lock(m, owner_in(here)))
        lock_else(m);
}

bool mutex_try_as(struct fib_mutex *m)
{
    struct attempt a = {.self = owner_self()};
    return try_free(m, &a);
}

FIB_PUBLIC bool fib_mutex_trylock(struct fib_mutex *m)
{
    seed_point();
    bool is_taken = mutex_try_as(m);
    if (is_taken)
        lock_watch(m, DESCRIPTOR_LOCK_TAKEN);
    return is_taken;
}

FIB_PUBLIC int fib_mutex_lock_for(struct fib_mutex *m, int64_t timeout_ns)
{
    seed_point();
    int rc = mutex_lock_as(m, timeout_ns, WAIT_MUTEX, m, "fib_mutex_lock_for");
    if (!rc)
        lock_watch(m, DESCRIPTOR_LOCK_TAKEN | (timeout_ns < 0 ? DESCRIPTOR_LOCK_WAITS : 0));
    return rc;
}

__attribute__((noinline)) static void unlock_else(struct fib_mutex *m)
{
    seed_point();
    lock_watch(m, DESCRIPTOR_LOCK_RELEASED);
    mutex_unlock_as(m, "fib_mutex_unlock");
}

FIB_PUBLIC void fib_mutex_unlock(struct fib_mutex *m)
{
    struct m *here = this_m();
    if (__builtin_expect(!here || locks_are_slow(), 0) || !fast_unlock(m, owner_in(here)))
        unlock_else(m);
}
