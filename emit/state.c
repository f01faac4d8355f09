// SPDX-License-Identifier: MIT
//
// Starting, stopping, advancing.
//
// Advance: the generation is stored; membarrier; each thread is seen outside of a transition once. From then on nobody
// writes the old generation, so its buffers are sealed and it is complete, and no transition that was told
// in it is still on its way, so what a G's status says is what a claim of its mark may tell.

#include "emit/waits.h"
#include "emit/wire.h"

#include <cpuid.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <errno.h>

struct emit emit = {.next_id = 1};

enum { SECOND = 1000000000, UNTOLD_GENERATIONS = 4 };

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static void pause_ns(long ns)
{
    struct timespec ts = {.tv_nsec = ns};
    syscall(SYS_nanosleep, &ts, NULL);
}

// --- Time.

static bool is_tsc_invariant(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

uint64_t emit_ticks(void)
{
    static _Atomic uint8_t known; // 1: TSC, 2: not
    uint8_t k = atomic_load_explicit(&known, memory_order_relaxed);
    if (__builtin_expect(!k, 0)) {
        k = is_tsc_invariant() ? 1 : 2;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 1 ? __builtin_ia32_rdtsc() : clock_ns(CLOCK_MONOTONIC);
}

struct moment {
    uint64_t ticks, ns;
};

// Both clocks at one moment: of several readings the one that took least.
static struct moment now_of_both(void)
{
    struct moment best = {0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = emit_ticks();
        uint64_t ns = clock_ns(CLOCK_MONOTONIC);
        uint64_t after = emit_ticks();
        if (after - before < least) {
            least = after - before;
            best = (struct moment){before + (after - before) / 2, ns};
        }
    }
    return best;
}

// Units per tick, times 2^64, as measured since the first start.
static uint64_t scale_at(struct moment now)
{
    uint64_t ticks = now.ticks - emit.base_ticks, ns = now.ns - emit.base_ns;
    if (!ticks)
        return (UINT64_C(1) << 58);
    return (uint64_t)(((unsigned __int128)ns << 58) / ticks);
}

// The clock of a coming generation goes on where the one before is now, and is steered so that a second later
// it shows CLOCK_MONOTONIC again; by a hundredth at most. It never goes back.
static void set_clock(uint64_t generation, bool is_first)
{
    struct moment now = now_of_both();
    struct emit_clock *c = &emit.clocks[generation & 1];
    uint64_t scale = scale_at(now), truth = now.ns / 64;
    atomic_store_explicit(&emit.claimed, 0, memory_order_relaxed);
    c->ticks = now.ticks;
    if (is_first) {
        c->units = truth;
        c->scale = scale;
    } else {
        c->units = emit_units(generation - 1, now.ticks);
        int64_t behind = (int64_t)(truth - c->units); // units
        int64_t limit = SECOND / 64 / 100;
        behind = behind > limit ? limit : behind < -limit ? -limit : behind;
        c->scale =
            (uint64_t)((unsigned __int128)scale * (uint64_t)(SECOND / 64 + behind) / (SECOND / 64));
    }
    emit.generation_began = now.ns;
    struct seg_trace_clock *out = &emit.trace->clocks[generation % SEG_TRACE_CLOCKS];
    out->units = c->units;
    out->mono_ns = now.ns;
    out->real_ns = clock_ns(CLOCK_REALTIME);
    atomic_store_explicit(&out->generation, generation, memory_order_release);
}

// --- Who waits for whom.

static bool try_lock(void)
{
    uint32_t no = 0;
    return atomic_compare_exchange_strong_explicit(&emit.lock, &no, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void lock(void)
{
    while (!try_lock())
        pause_ns(100000);
}

static void unlock(void)
{
    atomic_store_explicit(&emit.lock, 0, memory_order_release);
}

// Returns when no transition that began before is still going on.
static void quiesce(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
        pause_ns(SECOND / 100); // a kernel without: all stores have long been seen
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        uint32_t was = atomic_load_explicit(&t->busy, memory_order_acquire);
        for (int i = 0; (was & 1) && atomic_load_explicit(&t->busy, memory_order_acquire) == was;
             i++)
            syscall(SYS_sched_yield);
    }
    if (emit.runtime)
        emit.runtime->quiesce();
}

// --- Streams.

static void *pages(size_t bytes)
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
    uint8_t *mem = pages(head + EMIT_STACKS_KNOWN * sizeof(struct emit_stack_slot));
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

// --- Generations.

static void announce(void)
{
    if (!emit.announcer)
        emit.announcer = emit_thread_new(UINT32_MAX, NULL, NULL);
    if (!emit.announcer)
        return;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        if (!t->is_told && !t->is_made)
            continue;
        emit_busy_lock(t);
        if (t->is_made && t->session_made == emit_session()) {
            emit_g_status(emit.announcer, emit_ticks(), t->g, EMIT_G_RUNNABLE, UINT64_MAX);
        } else if (t->is_told && t->session == emit_session()) { // else it is new in this one
            emit_waits_settle(t);
            if (t->g_state || t->p_state) // else it needs no buffer for having nothing to say
                emit_tell(t, emit_ticks());
            if (!t->g_state) // blocked, or on its way
                emit_g_status(emit.announcer, emit_ticks(), t->g,
                              emit_waits_woken(t) ? EMIT_G_RUNNABLE : EMIT_G_WAITING, UINT64_MAX);
        }
        emit_busy_unlock(t);
    }
    if (emit.runtime) {
        emit.runtime->announce(emit.announcer, emit_ticks());
        emit.runtime->nudge();
    }
}

static void intern_reasons(void)
{
    static const char *const texts[EMIT_REASON_COUNT] = {
        "unspecified", "forever",         "network",      "select", "sync.(*Cond).Wait",
        "sync",        "chan send",       "chan receive", "sleep",  "system goroutine wait",
        "preempted",   "runtime.Gosched",
    };
    for (int i = 0; i < EMIT_REASON_COUNT; i++)
        emit.reasons[i] = encoded(seg_string(emit.seg, texts[i], strlen(texts[i])));
}

uint32_t emit_string(const char *text, size_t n)
{
    return emit.seg ? seg_string(emit.seg, text, n) : 0;
}

static int take_segment(struct seg *s)
{
    const struct seg_area *area = &s->header->areas[SEG_AREA_TRACE];
    if (!area->size)
        return -ENOTSUP;
    if (emit.seg == s && emit.trace)
        return 0;
    emit.seg = s;
    emit.trace = (struct seg_trace *)(void *)((char *)s->header + area->offset);
    emit.buffers = (struct seg_trace_buffer *)(emit.trace + 1);
    emit.data = (uint8_t *)emit.trace + emit.trace->data_offset;
    intern_reasons();
    return 0;
}

// The runtime may come at the same time: then it sees is_armed, or is seen.
static void arm(bool is_on)
{
    emit.is_armed = is_on;
    atomic_thread_fence(memory_order_seq_cst);
    if (emit.runtime)
        emit.runtime->arm(is_on);
}

// emit.lock held. goes_on: after a cut; a flight recorder still has what was before, as long as there is room.
static void begin_session(bool goes_on)
{
    if (!emit.is_armed) {
        arm(true);
        quiesce(); // of the transitions that go on none begins untraced and ends traced
    }
    struct seg_trace *t = emit.trace;
    uint64_t generation = ++emit.last_generation;
    set_clock(generation, true);
    atomic_store(&t->first, generation);
    if (!goes_on || !emit.options.is_flight)
        atomic_store(&t->oldest, generation);
    atomic_store(&t->is_flight, emit.options.is_flight);
    uint64_t session = atomic_fetch_add(&emit.session, 1) + 1;
    atomic_store(&emit.is_cut, 0);
    atomic_store(&t->session, session);
    atomic_store(&t->generation, generation);
    atomic_store(&emit_generation, generation);
    quiesce();
    announce();
    emit_others_tell();
}

// emit.lock held, before tracing is off: what no thread tells by itself.
static void tell_last(void)
{
    emit_waits_settle_all();
    emit_others_end();
}

// emit.lock held. Tracing is off: nobody writes any more once all were seen outside of transitions.
static void end_session(enum seg_trace_end why)
{
    struct seg_trace *t = emit.trace;
    atomic_store(&t->stopped_units, now_of_both().ns / 64);
    quiesce();
    emit_buffers_seal_all(UINT64_MAX);
    atomic_store(&t->end, why);
    atomic_store(&t->last, emit.last_generation);
    atomic_store(&t->generation, 0);
    atomic_store(&t->complete, emit.last_generation);
    atomic_store(&emit.is_cut, 0);
}

void emit_cut(uint64_t generation)
{
    uint64_t was = generation;
    if (atomic_compare_exchange_strong(&emit_generation, &generation, 0)) {
        atomic_store(&emit.trace->cut, was);
        atomic_fetch_add(&emit.trace->cuts, 1);
        atomic_store(&emit.is_cut, 1);
    }
}

// This library's code, where it is one of its own.
static void find_own_code(void)
{
    extern const char __ehdr_start[] __attribute__((visibility("hidden")));
    extern const char _end[] __attribute__((visibility("hidden")));
    uintptr_t low = (uintptr_t)__ehdr_start, high = (uintptr_t)_end, program = getauxval(AT_PHDR);
    if (program >= low && program < high) // linked into the program
        return;
    emit.core_low = low;
    emit.core_high = high;
}

// emit.lock held. All but the beginning itself.
static int prepare(struct seg *s, const struct emit_options *o)
{
    int rc = emit_is_on() ? -EALREADY : take_segment(s);
    if (rc)
        return rc;
    emit.options = (struct emit_options){0};
    if (o)
        memcpy(&emit.options, o, o->size < sizeof *o ? o->size : sizeof *o);
    if (!emit.options.generation_ns)
        emit.options.generation_ns = SECOND;
    syscall(SYS_madvise, emit_page, sizeof emit_page, MADV_WIPEONFORK);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    if (!emit.base_ticks) {
        find_own_code();
        struct moment first = now_of_both();
        emit.base_ticks = first.ticks;
        emit.base_ns = first.ns;
        pause_ns(SECOND / 500); // for a first estimate of the scale, to 1e-5
    }
    emit.cpus = emit_count_cpus();
    emit.pid = (uint32_t)syscall(SYS_getpid);
    emit.is_wanted = true;
    atomic_store(&emit.trace->request, SEG_TRACE_NO_REQUEST);
    return 0;
}

int emit_start(struct seg *s, const struct emit_options *o)
{
    lock();
    int rc = prepare(s, o);
    if (!rc)
        begin_session(false);
    unlock();
    return rc;
}

int emit_start_soon(struct seg *s, const struct emit_options *o)
{
    if (!try_lock())
        return -EINPROGRESS;
    int rc = emit.is_wanted ? -EALREADY : prepare(s, o);
    unlock();
    if (!rc)
        emit_poke();
    return rc;
}

static void do_tick(bool may_copy);

// Who waits for all to be outside of their transitions must not have interrupted one.
void emit_poke(void)
{
    if (emit.runtime)
        emit.runtime->poke();
    else if (!emit_self_is_inside())
        do_tick(false);
}

bool emit_is_wanted(void)
{
    return emit.is_wanted;
}

int emit_stop(void)
{
    lock();
    int rc = emit.is_wanted ? 0 : -EINVAL;
    emit.is_wanted = false;
    if (!rc)
        tell_last();
    if (!rc && atomic_exchange(&emit_generation, 0))
        end_session(SEG_TRACE_STOPPED);
    if (!rc)
        arm(false);
    unlock();
    return rc;
}

void emit_halt(void)
{
    struct seg_trace *t = emit.trace;
    emit.is_wanted = false;
    if (!t || !atomic_exchange(&emit_generation, 0))
        return;
    atomic_store(&t->stopped_units, now_of_both().ns / 64); // what we wait from here on is nobody's
    // Whoever was writing has an event to finish. One who never does was interrupted by this very call.
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    pause_ns(SECOND / 500);
    emit_buffers_seal_all(UINT64_MAX);
    atomic_store(&t->end, SEG_TRACE_STOPPED);
    atomic_store(&t->last, emit.last_generation);
    atomic_store(&t->generation, 0);
    atomic_store(&t->complete, emit.last_generation);
}

// Whether all that runs is told in this generation. One that is not told in the first of a trace (and any may be, of a
// flight recorder) is unknown to readers later. A thread that blocks SIGURG cannot be asked: after a while the
// others, but the first, go on without.
static bool all_told(uint64_t generation)
{
    if (!emit.runtime || emit.runtime->nudge())
        return true;
    uint64_t age = clock_ns(CLOCK_MONOTONIC) - emit.generation_began;
    return generation != atomic_load(&emit.trace->first) &&
           age > UNTOLD_GENERATIONS * emit.options.generation_ns;
}

// emit.lock held. False: it has to be tried again.
static bool advance(void)
{
    uint64_t old = atomic_load(&emit_generation);
    if (!old)
        return true;
    if (!all_told(old))
        return false;
    uint64_t generation = old + 1;
    set_clock(generation, false);
    if (!atomic_compare_exchange_strong(&emit_generation, &old, generation))
        return true; // cut meanwhile
    emit.last_generation = generation;
    atomic_store(&emit.trace->generation, generation);
    quiesce();
    emit_buffers_seal_all(old);
    atomic_store_explicit(&emit.trace->complete, old, memory_order_release);
    if (emit.options.is_flight && emit.options.flight_ns) {
        uint64_t keep = emit.options.flight_ns / emit.options.generation_ns + 2;
        while (generation > keep && emit_buffers_give_way(generation - keep))
            ;
    }
    emit_others_end();
    announce();
    return true;
}

int emit_advance(void)
{
    if (!emit_is_on())
        return -EINVAL;
    if (!try_lock())
        return -EBUSY;
    int rc = advance() ? 0 : -EBUSY;
    unlock();
    return rc;
}

_Atomic uint64_t emit_slow_ns[EMIT_SLOW_COUNT];

void emit_is_slow(enum emit_slow what, uint64_t ns, uint32_t name)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    uint64_t next = atomic_load_explicit(&emit.slow_next_ns, memory_order_relaxed);
    if (!emit_is_on() || now < next ||
        !atomic_compare_exchange_strong(&emit.slow_next_ns, &next, now + SECOND))
        return;
    atomic_store_explicit(&emit.trace->met_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&emit.trace->met, (uint64_t)name << 8 | (what + 1), memory_order_relaxed);
    // release: pairs with the consumer's acquire of the count, which then sees what for
    atomic_fetch_add_explicit(&emit.trace->snapshots, 1, memory_order_release);
}

void emit_set_copy(void (*copy)(void))
{
    emit.copy = copy;
}

// The flight recorder's whole room is not to be one generation's: then nothing could give way.
static bool is_generation_large(void)
{
    return emit.options.is_flight &&
           atomic_load_explicit(&emit.claimed, memory_order_relaxed) > emit.trace->buffer_count / 4;
}

// emit.lock held.
static bool tick(bool may_copy)
{
    if (atomic_load(&emit.is_cut))
        end_session(SEG_TRACE_FULL);
    uint32_t request = atomic_exchange(&emit.trace->request, SEG_TRACE_NO_REQUEST);
    if (request == SEG_TRACE_STOP) {
        emit.is_wanted = false;
        tell_last();
        if (atomic_exchange(&emit_generation, 0))
            end_session(SEG_TRACE_STOPPED);
        arm(false);
        return false;
    }
    if (!emit_is_on()) {
        // Half of the buffers, so that what is recorded from now on is worth it. A flight recorder's never become
        // free by themselves: they give way to the coming events.
        if (emit.is_wanted &&
            (emit.options.is_flight || emit_free_buffers() >= emit.trace->buffer_count / 2))
            begin_session(true);
        return false;
    }
    bool is_done = true;
    uint64_t snapshots = atomic_load(&emit.trace->snapshots);
    bool is_copy_wanted = may_copy && emit.copy && snapshots != emit.copied;
    if (request == SEG_TRACE_ADVANCE || is_copy_wanted || is_generation_large() ||
        clock_ns(CLOCK_MONOTONIC) - emit.generation_began >= emit.options.generation_ns)
        is_done = advance();
    else if (emit.runtime)
        emit.runtime->nudge();
    uint32_t none = SEG_TRACE_NO_REQUEST;
    if (!is_done && request == SEG_TRACE_ADVANCE)
        atomic_compare_exchange_strong(&emit.trace->request, &none, request);
    if (is_done && (may_copy || !emit.copy))
        emit.copied = snapshots;
    return is_copy_wanted && is_done;
}

// may_copy: not in a handler. One that has interrupted an event of its own thread would wait for that for ever.
static void do_tick(bool may_copy)
{
    if (!emit.trace || !emit.is_wanted || emit_self_is_inside() || !try_lock())
        return;
    bool is_copy_wanted = tick(may_copy);
    unlock();
    if (is_copy_wanted)
        emit.copy();
}

void emit_tick(void)
{
    do_tick(true);
}

void emit_forget(void)
{
    atomic_store(&emit_generation, 0);
    atomic_store(&emit.lock, 0);
    atomic_store(&emit.is_cut, 0);
    emit.is_wanted = false;
    arm(false);
    emit.seg = NULL;
    emit.trace = NULL;
    atomic_store(&emit.threads, NULL);
    emit.announcer = NULL;
    emit_self_forget();
    emit_waits_forget();
}

uint64_t *emit_region_word(struct emit_thread *t)
{
    return t->owner ? emit.runtime->region_word(t) : &t->region;
}

uint64_t emit_session(void)
{
    return atomic_load_explicit(&emit.session, memory_order_relaxed);
}

uint64_t emit_set_runtime(const struct emit_runtime *r)
{
    emit.runtime = r;
    atomic_thread_fence(memory_order_seq_cst);
    if (emit.is_armed)
        r->arm(true);
    return atomic_load_explicit(&emit.next_id, memory_order_relaxed);
}

void emit_set_agent(uint64_t text_low, uint64_t text_high,
                    void (*bounds)(uint64_t *low, uint64_t *high))
{
    emit.agent_low = text_low;
    emit.agent_high = text_high;
    emit.bounds = bounds;
}

void emit_set_cover(void (*cover)(const uint64_t *pcs, uint32_t depth))
{
    emit.cover = cover;
}
