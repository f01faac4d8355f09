// SPDX-License-Identifier: MIT
//
// Starting, stopping, advancing.
//
// Advance: the generation is stored; membarrier; each thread is seen outside of a transition once. From then on nobody
// writes the old generation, so its buffers are sealed and it is complete, and no transition that was told
// in it is still on its way, so what a G's status says is what a claim of its mark may tell. That may take several ticks
// (emit.pending); so may the statuses (emit.is_untold). No generation begins before both are done, and what had no
// status as they were told, as it was just being started, has been told by who starts it: a flight recorder's copy
// may begin with any, and what is not told in the first of a trace is unknown to readers later.

#include "emit/waits.h"
#include "emit/wire.h"

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

#define PATIENCE_NS        UINT64_C(1000000) // for others, at first
#define RETRY_NS           UINT64_C(1000000) // then each tick after twice as long looks once
#define RETRY_MAX_NS       UINT64_C(64000000)
#define PATIENCE_LAST_NS   UINT64_C(2000000000) // and then it is cut
#define NUDGE_NS           UINT64_C(1000000)
#define BEGIN_LOOK_NS      UINT64_C(2000000)   // between looks whether there is room for one
#define BEGIN_PAUSE_NS     UINT64_C(100000000) // between sessions; twice as long after a short one
#define BEGIN_PAUSE_MAX_NS UINT64_C(1600000000)

static void pause_ns(long ns)
{
    struct timespec ts = {.tv_nsec = ns};
    syscall(SYS_nanosleep, &ts, NULL);
}

// --- Generations.

// t is held.
static void announce_plain(struct emit_thread *t)
{
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
}

static void announce(void)
{
    emit.is_untold = false;
    if (!emit.announcer)
        emit.announcer = emit_thread_new(UINT32_MAX, NULL, NULL);
    if (!emit.announcer)
        return;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        bool is_left = atomic_load_explicit(&t->left, memory_order_relaxed);
        if ((!t->is_told && !t->is_made) || is_left)
            continue;
        if (emit_busy_lock(t, emit.is_untold ? 0 : EMIT_OTHER_NS)) {
            announce_plain(t);
            emit_busy_unlock(t);
        } else {
            emit.is_untold = true;
        }
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
    return emit.seg && !emit.is_parents ? seg_string(emit.seg, text, n) : 0;
}

static int take_segment(struct seg *s)
{
    const struct seg_area *area = &s->header->areas[SEG_AREA_TRACE];
    if (!area->size)
        return -ENOTSUP;
    if (emit.seg == s && emit.trace && !emit.is_parents)
        return 0;
    emit.is_parents = false;
    emit.seg = s;
    emit.trace = (struct seg_trace *)(void *)((char *)s->header + area->offset);
    emit.buffers = (struct seg_trace_buffer *)(emit.trace + 1);
    emit.data = (uint8_t *)emit.trace + emit.trace->data_offset;
    emit.copied = atomic_load(&emit.trace->snapshots); // a parent's are not ours to make
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

// is_first: since it was last done.
static void retry_later(bool is_first)
{
    uint64_t twice = emit.retry_pause_ns * 2;
    emit.retry_pause_ns = is_first ? RETRY_NS : twice < RETRY_MAX_NS ? twice : RETRY_MAX_NS;
    atomic_store(&emit.retry_ns, emit_now_ns() + emit.retry_pause_ns);
}

// emit.lock held. goes_on: after a cut; a flight recorder still has what was before, as long as there is room.
static void begin_session(bool goes_on)
{
    if (!emit.is_armed) {
        arm(true);
        emit_quiesce(
            true,
            PATIENCE_NS); // of the transitions that go on none begins untraced and ends traced
    }
    struct seg_trace *t = emit.trace;
    uint64_t generation = ++emit.last_generation;
    emit_set_clock(generation, true);
    atomic_store(&t->first, generation);
    if (!goes_on || !emit.options.is_flight)
        atomic_store(&t->oldest, generation);
    atomic_store(&t->is_flight, emit.options.is_flight);
    uint64_t session = atomic_fetch_add(&emit.session, 1) + 1;
    atomic_store(&emit.is_cut, 0);
    atomic_store(&t->session, session);
    atomic_store(&t->generation, generation);
    emit.session_began = emit_now_ns();
    atomic_store(&emit_rests, 0);
    atomic_store(&emit_generation, generation);
    emit_quiesce(true, PATIENCE_NS);
    announce();
    emit_others_tell();
    retry_later(emit.is_untold);
}

// emit.lock held, before tracing is off: what no thread tells by itself.
static void tell_last(void)
{
    emit_waits_settle_all();
    emit_others_end();
}

// A session that was cut soon may be so again; a flight recorder's goes on in the same copy, and no new file.
static void pause_before_next(void)
{
    uint64_t now = emit_now_ns(), twice = emit.begin_pause_ns * 2;
    bool is_short =
        emit.begin_pause_ns && now - emit.session_began < SECOND && !emit.options.is_flight;
    emit.begin_pause_ns = !is_short                    ? BEGIN_PAUSE_NS
                          : twice < BEGIN_PAUSE_MAX_NS ? twice
                                                       : BEGIN_PAUSE_MAX_NS;
    atomic_store(&emit.begin_ns, now + emit.begin_pause_ns);
}

// emit.lock held. Tracing is off: nobody writes any more once all were seen outside of transitions, or are left.
static void end_session(enum seg_trace_end why)
{
    struct seg_trace *t = emit.trace;
    atomic_store(&t->stopped_units, emit_now_of_both().ns / 64);
    if (!emit_quiesce(true, PATIENCE_NS))
        emit_leave_behind();
    emit_buffers_seal_all(UINT64_MAX);
    atomic_store(&t->end, why);
    atomic_store(&t->last, emit.last_generation);
    atomic_store(&t->generation, 0);
    atomic_store(&t->complete, emit.last_generation);
    atomic_store(&emit.is_cut, 0);
    emit.pending = 0;
    emit.is_untold = false;
    if (why == SEG_TRACE_FULL)
        pause_before_next();
}

void emit_cut(uint64_t generation)
{
    uint64_t was = generation;
    if (atomic_compare_exchange_strong(&emit_generation, &generation, 0)) {
        atomic_store(&emit.trace->cut, was);
        atomic_fetch_add(&emit.trace->cuts, 1);
        atomic_store(&emit.is_cut, 1);
        atomic_store(&emit_rests, 1);
    }
}

void emit_cut_now(void)
{
    for (uint64_t g; (g = atomic_load(&emit_generation));)
        emit_cut(g);
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
    atomic_store(&emit.begin_ns, 0);
    emit.begin_pause_ns = 0;
    emit.options = (struct emit_options){0};
    if (o)
        memcpy(&emit.options, o, o->size < sizeof *o ? o->size : sizeof *o);
    if (!emit.options.generation_ns)
        emit.options.generation_ns = SECOND;
    syscall(SYS_madvise, emit_page, sizeof emit_page, MADV_WIPEONFORK);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    if (!emit.base_ticks) {
        find_own_code();
        struct emit_moment first = emit_now_of_both();
        emit.base_ticks = first.ticks;
        emit.base_ns = first.ns;
        pause_ns(SECOND / 500); // for a first estimate of the scale, to 1e-5
    }
    emit.cpus = emit_count_cpus();
    emit.pid = (uint32_t)syscall(SYS_getpid);
    emit.is_wanted = true;
    for (int i = 0; i < EMIT_SLOW_COUNT; i++)
        atomic_store(&emit.trace->hits[i], 0);
    atomic_store(&emit.trace->request, SEG_TRACE_NO_REQUEST);
    return 0;
}

int emit_start(struct seg *s, const struct emit_options *o)
{
    emit_lock();
    int rc = prepare(s, o);
    if (!rc)
        begin_session(false);
    emit_unlock();
    return rc;
}

int emit_start_soon(struct seg *s, const struct emit_options *o)
{
    if (!emit_try_lock())
        return -EINPROGRESS;
    int rc = emit.is_wanted ? -EALREADY : prepare(s, o);
    emit_unlock();
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
    emit_lock();
    int rc = emit.is_wanted ? 0 : -EINVAL;
    emit.is_wanted = false;
    if (!rc)
        tell_last();
    if (!rc && atomic_exchange(&emit_generation, 0))
        end_session(SEG_TRACE_STOPPED);
    else if (!rc && atomic_load(&emit.is_cut)) // and no tick has come since
        end_session(SEG_TRACE_FULL);
    atomic_store(&emit_rests, 0);
    if (!rc)
        arm(false);
    emit_unlock();
    return rc;
}

void emit_halt(void)
{
    struct seg_trace *t = emit.trace;
    emit.is_wanted = false;
    atomic_store(&emit_rests, 0);
    if (!t || !atomic_exchange(&emit_generation, 0))
        return;
    atomic_store(&t->stopped_units,
                 emit_now_of_both().ns / 64); // what we wait from here on is nobody's
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
    if (!emit.runtime)
        return true;
    // Who had a G on its way to run as the statuses were told, so that it had none, has told it once that is over.
    emit.runtime->quiesce();
    if (emit.runtime->nudge())
        return true;
    uint64_t age = emit_now_ns() - emit.generation_began;
    return generation != atomic_load(&emit.trace->first) &&
           age > UNTOLD_GENERATIONS * emit.options.generation_ns;
}

// The generation before is over.
static void complete(uint64_t old)
{
    emit_buffers_seal_all(old);
    atomic_store_explicit(&emit.trace->complete, old, memory_order_release);
    emit.pending = 0;
    if (emit.options.is_flight && emit.options.flight_ns) {
        uint64_t keep = emit.options.flight_ns / emit.options.generation_ns + 2;
        while (old + 1 > keep && emit_buffers_give_way(old + 1 - keep))
            ;
    }
    emit_others_end();
    announce();
}

// What the last advance has left. False: it has to be tried again.
static bool go_on(void)
{
    if (emit.pending && emit_quiesce(false, 0))
        complete(emit.pending);
    else if (!emit.pending && emit.is_untold)
        announce();
    if (!emit.pending && !emit.is_untold)
        return true;
    retry_later(false);
    if (emit_now_ns() - emit.generation_began > PATIENCE_LAST_NS)
        emit_cut_now();
    return false;
}

// emit.lock held. False: it has to be tried again.
static bool advance(void)
{
    uint64_t old = atomic_load(&emit_generation);
    if (!old)
        return true;
    if (!go_on() || !all_told(old))
        return false;
    uint64_t generation = old + 1;
    emit_set_clock(generation, false);
    if (!atomic_compare_exchange_strong(&emit_generation, &old, generation))
        return true; // cut meanwhile
    emit.last_generation = generation;
    atomic_store(&emit.trace->generation, generation);
    emit.pending = old;
    if (emit_quiesce(true, PATIENCE_NS))
        complete(old);
    retry_later(true);
    return !emit.pending;
}

int emit_advance(void)
{
    if (!emit_is_on())
        return -EINVAL;
    if (!emit_try_lock())
        return -EBUSY;
    int rc = advance() ? 0 : -EBUSY;
    emit_unlock();
    return rc;
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

// Half of the buffers, so that what is recorded from now on is worth it. A flight recorder's never become free by
// themselves: they give way to the coming events.
static bool may_begin(uint64_t now)
{
    if (!emit.is_wanted || now < atomic_load_explicit(&emit.begin_ns, memory_order_relaxed))
        return false;
    if (emit.options.is_flight || emit_free_buffers() >= emit.trace->buffer_count / 2)
        return true;
    atomic_store_explicit(&emit.begin_ns, now + BEGIN_LOOK_NS, memory_order_relaxed);
    return false;
}

static bool is_going_on(void)
{
    return emit.pending || emit.is_untold;
}

static bool is_old(uint64_t now)
{
    return now - emit.generation_began >= emit.options.generation_ns;
}

static bool is_copy_wanted(bool may_copy, uint64_t snapshots)
{
    return may_copy && emit.copy && snapshots != emit.copied;
}

// Whether a tick would find something to do. Without emit.lock, so that it is only as good as a look.
static bool is_due(bool may_copy)
{
    uint64_t now = emit_now_ns();
    uint32_t request = atomic_load_explicit(&emit.trace->request, memory_order_relaxed);
    if (atomic_load_explicit(&emit.is_cut, memory_order_relaxed) || request == SEG_TRACE_STOP)
        return true;
    if (!emit_is_on())
        return may_begin(now);
    if (is_going_on())
        return now >= atomic_load_explicit(&emit.retry_ns, memory_order_relaxed);
    return request != SEG_TRACE_NO_REQUEST || is_old(now) || is_generation_large() ||
           (emit.runtime && now >= atomic_load_explicit(&emit.nudge_ns, memory_order_relaxed)) ||
           is_copy_wanted(may_copy, atomic_load(&emit.trace->snapshots));
}

static void nudge(void)
{
    atomic_store(&emit.nudge_ns, emit_now_ns() + NUDGE_NS);
    emit.runtime->nudge();
}

// emit.lock held.
static bool tick(bool may_copy)
{
    uint32_t request = atomic_exchange(&emit.trace->request, SEG_TRACE_NO_REQUEST);
    if (atomic_load(&emit.is_cut))
        end_session(SEG_TRACE_FULL);
    if (request == SEG_TRACE_STOP) {
        emit.is_wanted = false;
        tell_last();
        if (atomic_exchange(&emit_generation, 0))
            end_session(SEG_TRACE_STOPPED);
        atomic_store(&emit_rests, 0);
        arm(false);
        return false;
    }
    if (!emit_is_on()) {
        if (may_begin(emit_now_ns()))
            begin_session(true);
        return false;
    }
    bool is_done = true;
    uint64_t snapshots = atomic_load(&emit.trace->snapshots);
    bool is_copy = is_copy_wanted(may_copy, snapshots);
    if (request == SEG_TRACE_ADVANCE || is_copy || is_generation_large() || is_old(emit_now_ns()))
        is_done = advance();
    else if (!go_on())
        is_done = false;
    else if (emit.runtime)
        nudge();
    uint32_t none = SEG_TRACE_NO_REQUEST;
    if (!is_done && request == SEG_TRACE_ADVANCE)
        atomic_compare_exchange_strong(&emit.trace->request, &none, request);
    if (is_done && (may_copy || !emit.copy))
        emit.copied = snapshots;
    return is_copy && is_done;
}

// may_copy: not in a handler. One that has interrupted an event of its own thread would wait for that for ever. A child of
// vfork has its parent's memory, and not its threads.
static void do_tick(bool may_copy)
{
    if (!emit.trace || !emit.is_wanted || emit_self_is_inside())
        return;
    emit_self_hold(); // who forks in a handler meanwhile finds the segment yet
    bool is_copy = false;
    if (emit.trace && is_due(may_copy) && emit.pid == (uint32_t)syscall(SYS_getpid) &&
        emit_try_lock()) {
        is_copy = tick(may_copy);
        emit_unlock();
    }
    emit_self_let_go();
    if (is_copy)
        emit.copy();
}

void emit_tick(void)
{
    do_tick(true);
}

void emit_forget(void)
{
    atomic_store(&emit_generation, 0);
    atomic_store(&emit_rests, 0);
    atomic_store(&emit.lock, 0);
    atomic_store(&emit.is_cut, 0);
    emit.is_wanted = false;
    arm(false);
    emit.is_parents = emit_self_is_inside(); // then what it is in goes on, in copies
    if (!emit.is_parents) {
        emit.seg = NULL;
        emit.trace = NULL;
    }
    emit.pending = 0;
    emit.is_untold = false;
    atomic_store(&emit.left, 0);
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

void emit_set_runtime(const struct emit_runtime *r)
{
    r->begin(atomic_fetch_or(&emit.next_id, EMIT_IDS_RUNTIME));
    __atomic_store_n(&emit.runtime, r, __ATOMIC_RELEASE);
    atomic_thread_fence(memory_order_seq_cst);
    if (emit.is_armed)
        r->arm(true);
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
