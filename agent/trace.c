// SPDX-License-Identifier: MIT
//
// fscope_trace_start and stop, tasks, regions and logs; see include/fiberscope/trace.h.
//
// A region is known to be the innermost one by a word of the fiber, or thread, that holds its id: each keeps the id of
// the one around it. Go's reader refuses a whole trace for one region that ends out of turn, so that is found out
// here. Regions that began before the trace end unrecorded: the reader would take their end for another's.

#include "agent/trace.h"

#include "fiberscope/trace.h"

#include "agent/agent.h"
#include "agent/fork.h"
#include "agent/api.h"
#include "agent/fibers.h"
#include "agent/futex.h"
#include "agent/held.h"
#include "emit/emit.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_BYTES = 255, LOG_BYTES = 1000, TASKS_TIMED = 1024 };

static _Atomic uint64_t next_number = 1; // of tasks and regions

static void cover(const uint64_t *pcs, uint32_t depth)
{
    struct agent_slot *s = agent_live() ? slot_self() : NULL;
    if (s)
        modules_cover(&s->hook_pages, pcs, depth);
}

// A flight recorder without a collector: dumps beside the one that is written at the end.
static void copy(void)
{
    output_copy(&agent, agent.env.out[0] ? agent.env.out : "%e.%p.fscope");
}

// Asked once of each thread, which is the calling one. One from before the agent gets its exit hook here, so that its
// end is told: as in sample_enter.
static void bounds(uint64_t *low, uint64_t *high)
{
    struct agent_slot *s = agent_live() ? slot_self() : NULL;
    if (s && agent.has_key && agent.key < 32)
        pthread_setspecific(agent.key, s);
    *low = s ? s->stack_low : 0;
    *high = s ? s->stack_high : 0;
}

static void find_own_code(void)
{
    extern const char __ehdr_start[] __attribute__((visibility("hidden")));
    extern const char _end[] __attribute__((visibility("hidden")));
    emit_set_agent((uint64_t)(uintptr_t)__ehdr_start, (uint64_t)(uintptr_t)_end, bounds);
}

static void set_up(bool is_flight)
{
    emit_set_cover(cover);
    find_own_code();
    for (int i = 0; i < EMIT_SLOW_COUNT; i++)
        atomic_store_explicit(&emit_slow_ns[i], agent.env.trace_slow_ns[i], memory_order_relaxed);
    emit_set_copy(is_flight && !agent.space->told ? copy : NULL);
}

int trace_begin_soon(bool is_flight)
{
    struct emit_options o = {.size = sizeof o, .is_flight = is_flight};
    const struct seg_header *h = agent.space->seg.header;
    const struct seg_area *area = &h->areas[SEG_AREA_TRACE];
    const struct seg_trace *t = (const void *)((const char *)h + area->offset);
    if (emit_is_wanted())
        return -EALREADY;
    for (int i = 0; area->size && i < EMIT_SLOW_COUNT; i++)
        agent.env.trace_slow_ns[i] =
            atomic_load_explicit(&t->asked_slow_ns[i], memory_order_relaxed);
    set_up(is_flight);
    emit_set_copy(NULL); // the collector takes it
    int rc = emit_start_soon(&agent.space->seg, &o);
    lock_update();
    return rc;
}

_Atomic uint32_t trace_due;

// With the runtime in it the child has a scheduler whose threads are gone: nothing can be told of that.
void trace_fork_child(void)
{
    bool is_read = agent.env.socket[0] || agent.env.out[0] || agent.env.segment[0];
    bool is_traced = emit_is_wanted() || trace_is_due();
    atomic_store_explicit(&trace_due,
                          is_traced && is_read && agent.env.trace_on && agent.env.inherit &&
                              !fibers_exist(),
                          memory_order_relaxed);
}

void trace_begin_child(void)
{
    struct emit_options o = {.size = sizeof o, .is_flight = agent.env.trace_flight};
    if (!atomic_exchange_explicit(&trace_due, 0, memory_order_relaxed))
        return;
    set_up(o.is_flight);
    emit_self_doing(EMIT_DOING_RUN, agent.child_context);
    emit_start_soon(&agent.space->seg, &o);
    emit_self_doing(EMIT_DOING_NOTHING_KNOWN, NULL);
    lock_update();
}

void trace_begin_due(void)
{
    int saved = errno;
    fork_try_end();
    // A vfork child has its parent's memory, and one that forked within a hook the parent's segment yet.
    if (!agent.is_ghost && agent.pid == (uint32_t)getpid()) {
        if (agent_here_answered() ||
            (agent.space &&
             atomic_load(&agent.space->beginning) == AGENT_FAILED)) // else another thread is at it
            atomic_store_explicit(&trace_due, 0, memory_order_relaxed);
    }
    errno = saved;
}

int trace_begin(bool is_flight, uint64_t flight_ns)
{
    struct emit_options o = {.size = sizeof o, .is_flight = is_flight, .flight_ns = flight_ns};
    set_up(is_flight);
    int rc = emit_start(&agent.space->seg, &o);
    lock_update();
    if (!rc && !fibers_exist())
        trace_came(); // it runs from now on, whether it will have something to tell or not
    return rc;
}

EXPORTED int fscope_trace_start(const struct fscope_trace_options *options)
{
    struct fscope_trace_options o = {0};
    if (options) // a caller of an older build has a shorter struct
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    int rc = api_begin();
    if (rc)
        return rc;
    futex_lock(&agent.api_lock);
    const uint64_t slow[] = {o.slow_region_ns, o.slow_task_ns, o.slow_latency_ns, o.slow_stall_ns};
    if (o.is_flight && !emit_is_on())
        memcpy(agent.env.trace_slow_ns, slow, sizeof slow);
    rc = trace_begin(o.is_flight != 0, o.flight_ns);
    if (!rc) // no collector's from now on, whose own had just ended
        held_own(1u << SEG_HELD_TRACE);
    futex_unlock(&agent.api_lock);
    return rc;
}

EXPORTED int fscope_trace_stop(void)
{
    futex_lock(&agent.api_lock);
    int rc = agent_live() ? emit_stop() : -EINVAL;
    if (!rc) {
        held_own(1u << SEG_HELD_TRACE);
        lock_update();
    }
    futex_unlock(&agent.api_lock);
    return rc;
}

// Of those that come to a barrier all wait, and the last one, which wakes them, cannot be told from the others.
void trace_wait_begin(enum seg_lock_type type, const void *object, const void *again, uint64_t at)
{
    if (trace_is_due())
        trace_begin_due();
    if (type == SEG_LOCK_COND)
        emit_self_block_again(EMIT_REASON_COND, (uint64_t)object, (uint64_t)again, at);
    else if (type == SEG_LOCK_MUTEX)
        emit_self_block_again(EMIT_REASON_SYNC, (uint64_t)object, (uint64_t)object, at);
    else if (type == SEG_LOCK_RWLOCK)
        emit_self_block_rwlock((uint64_t)object, again != NULL, at);
    else
        emit_self_block(EMIT_REASON_SYNC, type == SEG_LOCK_BARRIER ? 0 : (uint64_t)object, at);
}

// It cleans up nothing, for there is nothing of ours on the stack. libgcc, which calls it, need not be there.
enum { UNWIND_CLEANUP_PHASE = 2, UNWIND_CONTINUE = 8 };

__attribute__((visibility("hidden"), used)) int trace_unwinds(int version, int actions,
                                                              uint64_t kind, void *exception,
                                                              void *context)
{
    int saved = errno;
    (void)version, (void)kind, (void)exception, (void)context;
    if (actions & UNWIND_CLEANUP_PHASE)
        emit_self_unwound();
    errno = saved;
    return UNWIND_CONTINUE;
}

void trace_timed_out(const void *mutex, uint64_t late_ns)
{
    int saved = errno;
    emit_self_timed_out((uint64_t)mutex, late_ns);
    errno = saved;
}

void trace_came(void)
{
    int saved = errno;
    emit_self_here();
    errno = saved;
}

void trace_took(const void *mutex)
{
    int saved = errno;
    emit_self_took((uint64_t)mutex);
    errno = saved;
}

void trace_unlock(const void *object)
{
    int saved = errno;
    emit_self_release((uint64_t)object);
    errno = saved;
}

void trace_signal(const void *object, bool all)
{
    int saved = errno;
    emit_self_signal((uint64_t)object, all);
    errno = saved;
}

void trace_heap(uint64_t live_bytes)
{
    if (!emit_is_on() || live_bytes > INT64_MAX)
        return;
    struct emit_thread *t = emit_enter();
    if (t)
        emit_heap(t, emit_ticks(), live_bytes);
    emit_leave(t);
}

void trace_wait_end(uint64_t at)
{
    emit_self_go_on(at);
    emit_self_tick();
}

static uint32_t text_id(const char *text, size_t max)
{
    return text ? emit_string(text, strnlen(text, max)) : 0;
}

// --- Tasks.

// When tasks began, for the flight recorder's limit. One whose place another has taken is not timed.
static struct {
    _Atomic uint64_t id, began_ns;
    _Atomic uint32_t name;
} timed[TASKS_TIMED];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static bool is_timed(enum emit_slow what)
{
    return atomic_load_explicit(&emit_slow_ns[what], memory_order_relaxed) != 0;
}

static uint64_t take_number(void)
{
    return atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed);
}

static struct emit_thread *enter_user(void)
{
    if (trace_is_due())
        trace_begin_due();
    return emit_enter_user();
}

EXPORTED uint64_t fscope_task_begin(const char *name, uint64_t parent)
{
    uint64_t id = take_number();
    struct emit_thread *t = enter_user();
    uint32_t text = 0;
    if (t) {
        text = text_id(name, NAME_BYTES);
        emit_task_begin(t, emit_ticks(), id, parent, text, emit_stack_here(t));
    }
    emit_leave(t);
    if (t && is_timed(EMIT_SLOW_TASK)) {
        atomic_store_explicit(&timed[id % TASKS_TIMED].name, text, memory_order_relaxed);
        atomic_store_explicit(&timed[id % TASKS_TIMED].began_ns, now_ns(), memory_order_relaxed);
        atomic_store_explicit(&timed[id % TASKS_TIMED].id, id, memory_order_release);
    }
    return id;
}

static bool is_hex(const char *p, int n)
{
    for (int i = 0; i < n; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
            return false;
    return true;
}

static bool is_zero(const char *p, int n)
{
    while (n && *p == '0')
        p++, n--;
    return !n;
}

// W3C Trace Context, 3.2.2: version-traceid-parentid-flags.
static bool is_traceparent(const char *p)
{
    if (!p || strnlen(p, 56) < 55)
        return false;
    return is_hex(p, 2) && memcmp(p, "ff", 2) && p[2] == '-' && is_hex(p + 3, 32) &&
           !is_zero(p + 3, 32) && p[35] == '-' && is_hex(p + 36, 16) && !is_zero(p + 36, 16) &&
           p[52] == '-' && is_hex(p + 53, 2) && (!p[55] || (p[55] == '-' && memcmp(p, "00", 2)));
}

EXPORTED uint64_t fscope_task_begin_from(const char *name, const char *traceparent, int *error)
{
    uint64_t id = fscope_task_begin(name, 0);
    bool is_valid = is_traceparent(traceparent);
    if (is_valid && emit_is_on())
        fscope_log(id, "traceparent", traceparent);
    if (error)
        *error = is_valid ? 0 : -EINVAL;
    return id;
}

EXPORTED void fscope_task_end(uint64_t task)
{
    struct emit_thread *t = enter_user();
    if (t && task)
        emit_task_end(t, emit_ticks(), task, emit_stack_here(t));
    emit_leave(t);
    uint64_t id = task;
    if (t && task && is_timed(EMIT_SLOW_TASK) &&
        atomic_compare_exchange_strong(&timed[id % TASKS_TIMED].id, &id, 0)) {
        uint64_t ns = now_ns() - atomic_load(&timed[task % TASKS_TIMED].began_ns);
        if (emit_is_over(EMIT_SLOW_TASK, ns))
            emit_is_slow(EMIT_SLOW_TASK, ns, atomic_load(&timed[task % TASKS_TIMED].name));
    }
}

// --- Regions.

#define REGION_ERROR UINT64_C(1) // in began_ns, whose last bit is nobody's
#define REGION_ENDED UINT64_MAX  // as its session

EXPORTED struct fscope_region fscope_region_begin(uint64_t task, const char *name)
{
    struct fscope_region r = {.task = task, .name = name};
    struct emit_thread *t = enter_user();
    if (t) {
        uint32_t text = text_id(name, NAME_BYTES);
        if (emit_region(t, emit_ticks(), false, task, text, emit_stack_here(t))) {
            uint64_t *innermost = emit_region_word(t);
            r.session = emit_session();
            r.id = take_number();
            r.outer = *innermost;
            *innermost = r.id;
        }
        emit_leave(t);
    }
    if (region_times_wanted() || (r.id && is_timed(EMIT_SLOW_REGION)))
        r.began_ns = now_ns() & ~REGION_ERROR;
    return r;
}

// Once, whether it was traced or not.
static void region_ends(struct fscope_region *r, bool is_traced)
{
    uint64_t began = r->began_ns;
    r->id = 0;
    r->session = REGION_ENDED;
    if (!began)
        return;
    uint64_t now = now_ns(), ns = now > began ? now - (began & ~REGION_ERROR) : 0;
    r->began_ns = 0;
    if (is_traced && emit_is_over(EMIT_SLOW_REGION, ns))
        emit_is_slow(EMIT_SLOW_REGION, ns, text_id(r->name, NAME_BYTES));
    if (region_times_wanted())
        region_times_add(r->name, ns, began & REGION_ERROR);
}

EXPORTED int fscope_region_end(struct fscope_region *r)
{
    if (!r || r->session == REGION_ENDED)
        return -EINVAL;
    struct emit_thread *t = r->id ? enter_user() : NULL;
    if (!t) { // it began without a trace, or that is over: what nests in another one is asked of regions that begin there
        region_ends(r, false);
        return 0;
    }
    uint64_t *innermost = emit_region_word(t);
    int rc = 0;
    bool is_same = r->session == emit_session();
    if (is_same && *innermost != r->id) {
        rc = -EINVAL;
    } else if (is_same) {
        emit_region(t, emit_ticks(), true, r->task, text_id(r->name, NAME_BYTES),
                    emit_stack_here(t));
        *innermost = r->outer;
    }
    emit_leave(t);
    if (!rc)
        region_ends(r, true);
    return rc;
}

EXPORTED void fscope_region_error(struct fscope_region *r, const char *text)
{
    if (!r)
        return;
    if (r->began_ns)
        r->began_ns |= REGION_ERROR;
    fscope_log(r->task, "error", text);
}

// --- Logs.

EXPORTED void fscope_log(uint64_t task, const char *category, const char *text)
{
    struct emit_thread *t = enter_user();
    if (t) {
        uint32_t key = text_id(category, NAME_BYTES), value = text_id(text, LOG_BYTES);
        emit_log(t, emit_ticks(), task, key, value, emit_stack_here(t));
    }
    emit_leave(t);
}
