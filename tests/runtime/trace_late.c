// SPDX-License-Identifier: MIT
//
// Traces that begin or advance in moments of a few instructions' length, which are held open here. Who records it
// (tests/conformance/trace_late.py) asks Go's reader whether the traces are valid.
//
//     trace_late start      A processor has taken a fiber out of its queue, and has not told yet that it starts it, while
//                           the statuses are told; the next generation is to begin meanwhile.
//     trace_late create     A thread starts a fiber, which is not told, and a trace begins before the fiber can be seen.
//     trace_late created    It is told, and a trace ends and another begins before it can be seen.
//     trace_late ready      A thread readies a fiber, likewise.

#include "emit/emit.h"
#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/trace.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

struct m;
struct g;

enum { MS = 1000000, HELD_MS = 300, LIMIT_MS = 20000 };

static _Atomic int moment; // the next one is let come once the last is there
enum { NOT_YET, WANTED, BEGUN, OVER };
static const char *which;
static struct emit_runtime ops;
static void (*announce)(struct emit_thread *t, uint64_t ticks);
static struct fib_chan *chan;
static _Atomic bool has_advanced;

// Of no function that agent or runtime know.
static void nap(void)
{
    syscall(SYS_nanosleep, &(struct timespec){0, MS}, NULL);
}

static void wait_for(int wanted)
{
    for (int i = 0; moment < wanted; i++) {
        CHECK(i < LIMIT_MS, "%s: %d, not %d", which, moment, wanted);
        nap();
    }
}

static bool is(const char *name)
{
    return !strcmp(which, name);
}

static void start_trace(void)
{
    int rc = fscope_trace_start(NULL);
    CHECK(!rc || rc == -EALREADY, "%d", rc); // it has begun anew by itself
}

// --- The moments.

static void announce_late(struct emit_thread *t, uint64_t ticks)
{
    if (is("start") && moment == WANTED) {
        moment = BEGUN;
        wait_for(OVER);
    }
    announce(t, ticks);
}

void __real_emit_set_runtime(const struct emit_runtime *r);
void __wrap_emit_set_runtime(const struct emit_runtime *r);
void __wrap_emit_set_runtime(const struct emit_runtime *r)
{
    ops = *r;
    announce = r->announce;
    ops.announce = announce_late;
    __real_emit_set_runtime(&ops);
}

// Called for a stack that is not known yet: in the midst of a transition.
static void hold_transition(const uint64_t *pcs, uint32_t depth)
{
    (void)pcs, (void)depth;
    uint64_t generation = emit_generation;
    moment = OVER;
    for (int i = 0; i < HELD_MS && emit_generation == generation; i++)
        nap();
}

struct emit_thread *__real_trace_outside_create(struct g *g, uint64_t id);
struct emit_thread *__wrap_trace_outside_create(struct g *g, uint64_t id);
struct emit_thread *__wrap_trace_outside_create(struct g *g, uint64_t id)
{
    bool is_it = moment == WANTED;
    if (is_it && is("create"))
        fscope_trace_stop();
    struct emit_thread *t = __real_trace_outside_create(g, id);
    if (is_it && is("created"))
        fscope_trace_stop();
    if (is_it)
        start_trace();
    return t;
}

void __real_trace_outside_ready(struct emit_thread *t, struct g *g);
void __wrap_trace_outside_ready(struct emit_thread *t, struct g *g);
void __wrap_trace_outside_ready(struct emit_thread *t, struct g *g)
{
    if (moment == WANTED) {
        moment = BEGUN;
        wait_for(OVER);
    }
    __real_trace_outside_ready(t, g);
}

// --- Who does it.

static void late(void *arg)
{
    (void)arg;
    int got;
    if (is("ready"))
        fib_chan_recv(chan, &got);
}

static void *start_and_advance(void *arg)
{
    moment = WANTED;
    start_trace();
    while (emit_generation && emit_advance() == -EBUSY)
        nap();
    return arg;
}

static void *create(void *arg)
{
    moment = WANTED;
    CHECK(!fib_go(NULL, late, NULL));
    uint64_t generation = emit_generation;
    for (int i = 0; emit_generation && emit_generation == generation && i < LIMIT_MS; i++) {
        emit_advance();
        nap();
    }
    has_advanced = true;
    return arg;
}

static void *begin_anew(void *arg)
{
    wait_for(BEGUN);
    fscope_trace_stop();
    start_trace();
    moment = OVER;
    return arg;
}

static void *ready(void *arg)
{
    int sent = 1;
    moment = WANTED;
    fib_chan_send(chan, &sent);
    return arg;
}

static pthread_t thread(void *(*fn)(void *))
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, fn, NULL));
    return t;
}

static void join(pthread_t t)
{
    fib_blocking_enter();
    pthread_join(t, NULL);
    fib_blocking_exit();
}

static void tell_something(void)
{
    struct fscope_region r = fscope_region_begin(0, "busy");
    fscope_region_end(&r);
}

static __attribute__((noinline)) void wait_on_a_stack_of_its_own(void)
{
    emit_set_cover(hold_transition);
    fib_sleep(MS);
    emit_set_cover(NULL);
}

static void run(void *arg)
{
    struct fib f;
    (void)arg;
    chan = fib_chan_new(sizeof(int), 0);
    if (!is("create") && !is("created")) {
        CHECK(!is("start") || !fscope_trace_stop());
        CHECK(!fib_go(&f, late, NULL));
    }
    if (is("start")) {
        pthread_t t = thread(start_and_advance);
        while (moment < BEGUN) // the processor is not given away
            tell_something();
        tell_something();
        wait_on_a_stack_of_its_own();
        join(t);
    } else if (!is("ready")) {
        pthread_t t = thread(create);
        while (!has_advanced)
            tell_something();
        join(t);
    } else {
        fib_sleep(MS); // it waits
        pthread_t other = thread(begin_anew), t = thread(ready);
        join(t);
        join(other);
    }
    fib_sleep(5 * MS);
    fscope_trace_stop();
}

int main(int argc, char **argv)
{
    CHECK(argc == 2, "trace_late start|create|created|ready");
    which = argv[1];
    setenv("FIB_MAXPROCS", "1", 1);
    setenv("FIB_DEBUG", "asyncpreemptoff=1", 1);
    return fib_main(run, NULL);
}
