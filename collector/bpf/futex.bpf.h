// SPDX-License-Identifier: MIT
//
// Who waits in futex(2), and who wakes: see futex_layout.h. For profile.bpf.c alone, which has maps and samples.
//
// A word's entry in `futex_locks`: how many wait, and the sum of the times since when they are owed. So the waiters are owed
// n * now - sum, and a charge sets sum to n * now. A waiter that leaves takes its own share out: its start, or the last
// charge if that came later. An entry on which nobody waits may become another word's; two threads that come at once may
// take one each, so a charge looks at all places of its word.
//
// A charge begins a contention, which ends when a waiter has the lock: the agent counts so. A waiter that was woken may have
// it, or find it taken and wait on. What the thread does next tells: it waits on, or it wakes another at the word, which
// only the holder does. Until then the contention goes on, whoever releases the lock meanwhile.

#ifndef FIBERSCOPE_COLLECTOR_BPF_FUTEX_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_FUTEX_BPF_H

#include <linux/futex.h>

#define FUTEX_LOCK_PI2_ 13 // FUTEX_LOCK_PI2, since 5.14
#define USER_CS         0x33
// While a waiter is on its way others may take the lock and release it, as often as they like: they are charged together
// this often, as by the agent.
#define FUTEX_BARGING_NS 20000

enum { SYSCALL_FUTEX = 202, SYSCALL_RESTART = 219 };
enum {
    E_INTR = 4,
    E_TIMEDOUT = 110,
    E_RESTART_FIRST = 512,
    E_RESTART_BLOCK = 516
}; // as results, negative

struct futex_wait {            // the last one of a thread
    uint64_t since;            // 0: it is over
    uint64_t address, sp, key; // key: what it is among the locks
    uint64_t owed_since;       // by the entry
    uint32_t pid;
    uint32_t place;                                 // in futex_locks, from 1 on; 0: none
    uint32_t hint;                                  // enum bpf_futex_hint
    uint32_t goes_on;                               // it is the rest of the one before
    uint32_t is_released, is_interrupted, restarts; // since the last one
    // Who waits for this word takes it so that its release wakes: see futex_wait_begins.
    uint32_t wakes_after;
    uint32_t may_have, was_woken; // it has left, and what it found is not known yet; is_woken then
};

struct futex_lock {
    struct bpf_spin_lock guard;
    uint32_t waiters;            // 0: the entry is free
    uint64_t address, sum, last; // last: charge
    uint32_t pid;
    uint32_t is_woken; // a charge came, and no waiter has left with the lock since
    uint32_t hint;     // enum bpf_futex_hint, of its waiters
};

struct futex_charge {
    uint64_t count, ns;
    uint32_t hint;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1); // programs.c
    __type(key, uint32_t);  // thread id
    __type(value, struct futex_wait);
} futex_waits SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1); // programs.c
    __type(key, uint32_t);
    __type(value, struct futex_lock);
} futex_locks SEC(".maps");

// --- The waiters of a word.

static __always_inline struct futex_lock *futex_place(uint32_t pid, uint64_t address, uint32_t i,
                                                      uint32_t *index)
{
    uint64_t hash = mix(pid, address);
    *index = ((uint32_t)hash + i) & (config.futex_locks - 1);
    return bpf_map_lookup_elem(&futex_locks, index);
}

// Adds w to the entry if it is this word's already, or if it is free and may be taken.
static __always_inline bool futex_join(struct futex_lock *l, struct futex_wait *w, bool may_take)
{
    // What it was owed when it left, it still is: if it waits on, it has waited meanwhile.
    uint64_t address = w->key, since = w->may_have ? w->owed_since : w->since;
    uint32_t pid = w->pid, hint = w->hint, was_woken = w->was_woken;
    bool is_in = false;
    bpf_spin_lock(&l->guard);
    if (l->waiters && l->address == address && l->pid == pid) {
        is_in = true;
    } else if (!l->waiters && may_take) {
        l->address = address;
        l->pid = pid;
        l->sum = l->last = 0;
        l->is_woken = was_woken; // it was alone here, and waits on
        l->hint = 0;
        is_in = true;
    }
    if (is_in) {
        l->waiters++;
        since = l->last > since ? l->last : since;
        l->sum += since;
        l->hint |= hint;
    }
    bpf_spin_unlock(&l->guard);
    if (is_in)
        w->owed_since = since;
    return is_in;
}

// The entry's number from 1 on; 0: there is no room.
static __always_inline uint32_t futex_enter(struct futex_wait *w)
{
    uint64_t address = w->key;
    uint32_t pid = w->pid;
    for (uint32_t i = 0; i < 2 * BPF_FUTEX_PROBES; i++) { // the word's own first
        uint32_t index;
        struct futex_lock *l = futex_place(pid, address, i % BPF_FUTEX_PROBES, &index);
        bool may_take = i >= BPF_FUTEX_PROBES;
        if (!l)
            return 0;
        bool is_own = l->waiters && l->address == address && l->pid == pid;
        if ((is_own || (may_take && !l->waiters)) && futex_join(l, w, may_take))
            return index + 1;
    }
    COUNT_LOSS(locks);
    return 0;
}

static __always_inline void futex_leave(struct futex_wait *w, bool may_have)
{
    uint64_t since = w->owed_since;
    uint32_t index = w->place - 1, was_woken;
    struct futex_lock *l = w->place ? bpf_map_lookup_elem(&futex_locks, &index) : 0;
    if (!l)
        return;
    bpf_spin_lock(&l->guard);
    since = l->last > since ? l->last : since;
    l->sum -= since;
    l->waiters--;
    was_woken = l->is_woken;
    l->is_woken = may_have ? was_woken : 0;
    bpf_spin_unlock(&l->guard);
    w->owed_since = since;
    w->may_have = may_have;
    w->was_woken = may_have && was_woken;
}

// A waiter that may have had the lock has had it: it does something else, and holds it perhaps.
static __always_inline void futex_has(struct futex_wait *w)
{
    uint32_t index = w->place - 1, pid = w->pid;
    uint64_t key = w->key;
    struct futex_lock *l = w->may_have ? bpf_map_lookup_elem(&futex_locks, &index) : 0;
    w->may_have = w->was_woken = 0;
    if (!l)
        return;
    bpf_spin_lock(&l->guard);
    if (l->address == key && l->pid == pid)
        l->is_woken = 0;
    bpf_spin_unlock(&l->guard);
}

static __always_inline void futex_charge_one(struct futex_lock *l, uint32_t pid, uint64_t address,
                                             uint64_t now, bool had_waited, struct futex_charge *c)
{
    uint64_t ns = 0, most = 0, is_first = 0, passed = counted_ns(0, now);
    uint32_t hint = 0;
    bpf_spin_lock(&l->guard);
    if (l->waiters && l->address == address && l->pid == pid &&
        !(l->is_woken && !had_waited && now - l->last < FUTEX_BARGING_NS)) {
        ns = l->waiters * now - l->sum;
        most = l->waiters * passed;
        is_first = !l->is_woken || had_waited;
        hint = l->hint;
        l->sum = l->waiters * now;
        l->last = now;
        l->is_woken = 1;
    }
    bpf_spin_unlock(&l->guard);
    if ((int64_t)ns > 0 && most) { // else a waiter came between our clock and here
        c->ns += ns < most ? ns : most;
        c->count |= is_first;
        c->hint |= hint;
    }
}

// A read-write lock of glibc's has two words side by side, and who waits for one waits for who wakes at the other: both are
// one entry. Nothing else waits so: for a value that is not 0, with the clock's flag and no time.
static __always_inline bool futex_is_half(uint64_t op, uint32_t value, uint64_t timeout)
{
    return op & FUTEX_CLOCK_REALTIME && value && !timeout;
}

static __always_inline uint64_t futex_both_halves(uint64_t address)
{
    return (address & ~7ull) | 1;
}

struct futex_charging {
    uint64_t address, now;
    uint32_t pid, had_waited;
    struct futex_charge sum;
};

static long futex_charge_place(uint32_t i, struct futex_charging *g)
{
    uint32_t index;
    uint64_t key = i < BPF_FUTEX_PROBES ? g->address : futex_both_halves(g->address);
    struct futex_lock *l = futex_place(g->pid, key, i % BPF_FUTEX_PROBES, &index);
    if (l && l->waiters && l->address == key && l->pid == g->pid)
        futex_charge_one(l, g->pid, key, g->now, g->had_waited, &g->sum);
    return 0;
}

// had_waited: by one of the waiters, with which the contention before has ended. By bpf_loop: Linux 6.1 looks at each way
// through a loop of its own, which were too many.
static __always_inline struct futex_charge futex_charge(uint32_t pid, uint64_t address,
                                                        uint64_t now, bool had_waited)
{
    struct futex_charging g = {
        .address = address, .now = now, .pid = pid, .had_waited = had_waited};
    bpf_loop(2 * BPF_FUTEX_PROBES, futex_charge_place, &g, 0);
    return g.sum;
}

// --- Waits.

static __always_inline struct futex_wait *futex_wait_of(uint32_t tid)
{
    static const struct futex_wait none;
    struct futex_wait *w = bpf_map_lookup_elem(&futex_waits, &tid);
    if (w)
        return w;
    bpf_map_update_elem(&futex_waits, &tid, &none, BPF_NOEXIST_);
    w = bpf_map_lookup_elem(&futex_waits, &tid);
    if (!w)
        COUNT_LOSS(waits);
    return w;
}

static __always_inline uint32_t futex_hint(uint32_t what, uint64_t op, uint32_t value,
                                           uint64_t timeout)
{
    if (what == FUTEX_LOCK_PI || what == FUTEX_LOCK_PI2_)
        return BPF_FUTEX_IS_LOCK;
    if (op & FUTEX_CLOCK_REALTIME && !timeout) // of a read-write lock: 2 means something else
        return 0;
    bool has_owner = value & FUTEX_WAITERS && (value & FUTEX_TID_MASK) != FUTEX_TID_MASK;
    return value == 2 || has_owner ? BPF_FUTEX_IS_LOCK : 0;
}

static __always_inline void futex_wait_begins(const struct task_struct *task,
                                              const struct pt_regs *regs, uint32_t what,
                                              bool is_charged)
{
    uint32_t pid = (uint32_t)task->tgid, value = (uint32_t)regs->dx;
    uint64_t address = regs->di, sp = regs->sp;
    struct futex_wait *w = futex_wait_of((uint32_t)task->pid);
    if (!w)
        return;
    uint32_t hint = futex_hint(what, regs->si, value, regs->r10);
    bool is_same = w->address == address && w->sp == sp;
    w->goes_on = is_same && (w->is_interrupted || (hint && w->hint && !w->is_released));
    if (!w->goes_on)
        futex_has(w);
    w->pid = pid;
    w->address = address;
    w->key = futex_is_half(regs->si, value, regs->r10) ? futex_both_halves(address) : address;
    w->sp = sp;
    w->hint = hint;
    // Locks of three states: who has waited takes it as one that others may wait for. musl's has a bit for that, and does not.
    w->wakes_after = value == 2 && hint;
    w->is_released = w->is_interrupted = w->restarts = 0;
    w->since = bpf_ktime_get_ns();
    w->place = is_charged && (value || hint) ? futex_enter(w) : 0;
    w->may_have = w->was_woken = 0;
}

// A thread that was stopped and goes on; what it waits for is as before.
static __always_inline void futex_wait_restarts(const struct task_struct *task)
{
    uint32_t tid = (uint32_t)task->pid;
    struct futex_wait *w = bpf_map_lookup_elem(&futex_waits, &tid);
    if (!w || !w->restarts)
        return;
    bool is_counted = w->place;
    w->goes_on = 1;
    w->is_interrupted = w->restarts = 0;
    w->since = bpf_ktime_get_ns();
    w->place = is_counted ? futex_enter(w) : 0;
    w->may_have = w->was_woken = 0;
}

// A wait of `rate` or longer counts; one of ns by a chance of ns / rate, and then as rate / ns of that length: as
// lock_weigh (agent/lock_weigh.c).
static __always_inline bool futex_weigh(uint64_t *count, uint64_t *ns)
{
    uint64_t rate = config.block_ns;
    *count = 1;
    if (*ns >= rate)
        return true;
    if (!*ns)
        *ns = 1;
    if (bpf_get_prandom_u32() % rate >= *ns)
        return false;
    *count = rate / *ns + (bpf_get_prandom_u32() % *ns < rate % *ns);
    *ns = rate;
    return true;
}

static __always_inline void futex_sample(struct sample *m, uint32_t slot)
{
    struct scratch *s = scratch_take();
    if (!s)
        return;
    take(s, m, slot);
    scratch_give(s);
}

static __always_inline bool futex_has_waited(uint32_t error)
{
    return !error || error == E_INTR || error == E_TIMEDOUT ||
           (error >= E_RESTART_FIRST && error <= E_RESTART_BLOCK);
}

static __always_inline void futex_wait_ends(void *ctx, struct task_struct *task, long result)
{
    struct sample m = {.ctx = ctx, .task = task, .kind = BPF_SAMPLE_BLOCK};
    uint32_t tid = (uint32_t)task->pid, slot, error = (uint32_t)-result;
    struct futex_wait *w = bpf_map_lookup_elem(&futex_waits, &tid);
    if (!w || !w->since)
        return;
    m.sum.ns = counted_ns(w->since, bpf_ktime_get_ns());
    futex_leave(w, w->wakes_after && error != E_TIMEDOUT);
    w->since = 0;
    w->is_interrupted = error == E_INTR || error >= E_RESTART_FIRST;
    w->restarts = error == E_RESTART_BLOCK;
    w->is_released |= error == E_TIMEDOUT;
    if (!config.block_ns || !futex_has_waited(error) || !is_watched(task, &slot) ||
        told_by_sites(task) & BPF_TOLD_BLOCK || !futex_weigh(&m.sum.count, &m.sum.ns))
        return;
    m.sum.count = w->goes_on ? 0 : m.sum.count;
    m.object = w->address;
    m.hint = w->hint;
    futex_sample(&m, slot);
}

// --- Wakes.

static __always_inline void futex_wakes(void *ctx, struct task_struct *task, uint64_t address,
                                        uint32_t slot, bool is_charged)
{
    struct sample m = {.ctx = ctx, .task = task, .kind = BPF_SAMPLE_MUTEX, .object = address};
    uint32_t tid = (uint32_t)task->pid, fraction = config.mutex_fraction;
    struct futex_wait *w = bpf_map_lookup_elem(&futex_waits, &tid);
    bool had_waited = w && w->address == address && w->may_have;
    if (w && w->address == address)
        w->is_released = 1;
    if (had_waited)
        w->may_have = w->was_woken = 0;
    if (!is_charged)
        return;
    struct futex_charge c =
        futex_charge((uint32_t)task->tgid, address, bpf_ktime_get_ns(), had_waited);
    if (!c.ns || (fraction > 1 && bpf_get_prandom_u32() % fraction))
        return;
    m.sum.count = fraction * c.count;
    m.sum.ns = fraction * c.ns;
    m.hint = c.hint;
    futex_sample(&m, slot);
}

// --- The system call.

SEC("tp_btf/sys_enter")
int BPF_PROG(futex_enters, struct pt_regs *regs, long number)
{
    uint32_t slot;
    if ((number != SYSCALL_FUTEX && number != SYSCALL_RESTART) || regs->cs != USER_CS)
        return 0;
    struct task_struct *task = bpf_get_current_task_btf();
    if (!is_watched(task, &slot))
        return 0;
    if (number == SYSCALL_RESTART) {
        futex_wait_restarts(task);
        return 0;
    }
    uint32_t what = (uint32_t)regs->si & FUTEX_CMD_MASK, told_of = told_by_sites(task);
    bool is_charged = config.mutex_fraction && !(told_of & BPF_TOLD_MUTEX);
    if (!is_charged && (!config.block_ns || told_of & BPF_TOLD_BLOCK))
        return 0;
    switch (what) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2_: futex_wait_begins(task, regs, what, is_charged); break;
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_WAKE_OP:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_UNLOCK_PI: futex_wakes(ctx, task, regs->di, slot, is_charged); break;
    default: break;
    }
    return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(futex_exits, struct pt_regs *regs, long result)
{
    if (regs->orig_ax == SYSCALL_FUTEX || regs->orig_ax == SYSCALL_RESTART)
        futex_wait_ends(ctx, bpf_get_current_task_btf(), result);
    return 0;
}

static __always_inline void futex_thread_ends(uint32_t tid)
{
    struct futex_wait *w = bpf_map_lookup_elem(&futex_waits, &tid);
    if (!w)
        return;
    if (w->since)
        futex_leave(w, false);
    futex_has(w);
    bpf_map_delete_elem(&futex_waits, &tid);
}

#endif
