// SPDX-License-Identifier: MIT
//
// The trace buffers of a segment become files that Go's parser and ours read: with the names that functions
// have, one file per session, up to the last committed event of a target that was killed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/trace_build.h"
#include "formats/trace/trace.h"
#include "tests/unit/made_trace.h"
#include "tests/unit/skip.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// --- Code whose addresses stacks have. That this program has the fiber runtime is what fib_descriptor says.

char fib_descriptor[8] = "runtime";
extern char etext[];
int main(int argc, char **argv);

static void *noted;
__attribute__((noinline)) static void note(void)
{
    noted = __builtin_return_address(0);
    __asm__ volatile("" ::: "memory");
}
__attribute__((always_inline)) static inline void inlined_part(void)
{
    note();
    __asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) static void worker(void)
{
    inlined_part();
    __asm__ volatile("" ::: "memory");
}
#define CODE(name)                                                                                 \
    __attribute__((noinline)) void name(void);                                                     \
    void name(void)                                                                                \
    {                                                                                              \
        note();                                                                                    \
        __asm__ volatile("" ::: "memory");                                                         \
    }
CODE(fib_chan_recv)
CODE(fiber_begin)
CODE(start_thread)
CODE(handler)

// A return address in the function, as the call of note leaves it.
static uint64_t in(void (*fn)(void))
{
    fn();
    return (uintptr_t)noted;
}

enum { G_MAIN = 1, G_WORKER = 2, THREAD = 100, OTHER = 101, NOBODY = UINT32_MAX };

struct world {
    struct seg s;
    struct made_trace m;
    uint32_t deep, start, blocked, chan_receive, gosched;
    uint64_t main_seq, worker_seq;
    struct trace_build *build;
    struct seg_reader *reader;
    char paths[16][64];
    struct trace_build_file files[16];
    int rc[16];
    uint32_t opened, closed;
    int fd;
    int fail_fd; // written to instead; 0: none
};

static char folder[] = "trace-build-XXXXXX";

static void add_own_module(struct seg *s)
{
    char line[512], path[400] = "";
    unsigned long long start, end, offset, inode;
    unsigned major, minor;
    FILE *f = fopen("/proc/self/maps", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%llx-%llx r-xp %llx %x:%x %llu %399s", &start, &end, &offset, &major,
                   &minor, &inode, path) != 7 ||
            (uintptr_t)worker < start || (uintptr_t)worker >= end)
            continue;
        struct seg_module m = {.start = start,
                               .end = end,
                               .offset = offset,
                               .path = seg_string(s, path, strlen(path))};
        assert_true(seg_module_add(s, &m) >= 0);
    }
    if (f)
        fclose(f);
    assert_true(path[0]);
}

static uint32_t string(struct world *w, const char *text)
{
    return seg_string(&w->s, text, strlen(text));
}

static void make_world(struct world *w, uint32_t buffers)
{
    struct seg_options o = {.size = sizeof o, .trace_buffers = buffers};
    *w = (struct world){.fd = -1};
    assert_int_equal(seg_create(&w->s, &o), 0);
    add_own_module(&w->s);
    uint64_t blocked[] = {in(fib_chan_recv), in(worker), in(fiber_begin)};
    uint64_t start[] = {(uintptr_t)worker + 1};
    uint64_t deep[200];
    for (int i = 0; i < 200; i++)
        deep[i] = in(handler);
    deep[198] = in(worker);
    deep[199] = in(start_thread);
    w->blocked = seg_stack(&w->s, blocked, 3, 0, 0);
    w->start = seg_stack(&w->s, start, 1, 0, 0);
    w->deep = seg_stack(&w->s, deep, 200, 0, 0);
    w->chan_receive = string(w, "chan receive");
    w->gosched = string(w, "runtime.Gosched");
}

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    struct world *w = arg;
    (void)err;
    assert_true(number == w->opened + 1 && number <= 16 && w->opened == w->closed);
    char *path = w->paths[w->opened++];
    snprintf(path, sizeof w->paths[0], "%s/%u.trace", folder, number);
    w->fd = w->fail_fd ? w->fail_fd : open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(w->fd >= 0);
    return w->fd;
}

static void close_file(void *arg, const struct trace_build_file *f, int rc)
{
    struct world *w = arg;
    w->rc[w->closed] = rc;
    w->files[w->closed++] = *f;
    close(w->fd);
}

static int open_module(void *arg, const struct seg_module *m, const char *path,
                       const char *build_id)
{
    (void)arg, (void)m, (void)build_id;
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void open_build(struct world *w, uint32_t version)
{
    struct fscope_error err = {0};
    if (seg_reader_open(&w->reader, dup(w->s.fd), &err))
        fail_msg("%s", err.text);
    struct trace_build_options o = {
        .size = sizeof o,
        .reader = w->reader,
        .version = version,
        .symbolize = true,
        .open_module = open_module,
        .open_file = open_file,
        .close_file = close_file,
        .arg = w,
    };
    if (trace_build_new(&w->build, &o, &err))
        fail_msg("%s", err.text);
}

static void end_world(struct world *w)
{
    trace_build_free(w->build);
    seg_reader_close(w->reader);
    seg_close(&w->s);
    assert_int_equal(w->opened, w->closed);
}

// What everything is as a session or generation begins: main runs on P 1, the worker (if it is there) waits.
static void announce(struct world *w, bool has_worker)
{
    struct made_trace *m = &w->m;
    w->main_seq = w->worker_seq = 0;
    MADE(m, THREAD, TRACE_EV_PROC_STATUS, 1, TRACE_PROC_STATUS_RUNNING);
    MADE(m, THREAD, TRACE_EV_GO_STATUS_STACK, G_MAIN, THREAD, TRACE_GO_STATUS_RUNNING, w->deep);
    MADE(m, THREAD, TRACE_EV_PROCS_CHANGE, 2, 0);
    MADE(m, OTHER, TRACE_EV_PROC_STATUS, 2, TRACE_PROC_STATUS_IDLE);
    if (has_worker)
        MADE(m, NOBODY, TRACE_EV_GO_STATUS_STACK, G_WORKER, UINT64_MAX, TRACE_GO_STATUS_WAITING,
             w->blocked);
}

static int round_trip(struct world *w)
{
    struct made_trace *m = &w->m;
    int rc = MADE(m, THREAD, TRACE_EV_GO_UNBLOCK, G_WORKER, ++w->worker_seq, w->deep);
    rc |= MADE(m, THREAD, TRACE_EV_GO_STOP, w->gosched, w->deep);
    rc |= MADE(m, THREAD, TRACE_EV_GO_START, G_WORKER, ++w->worker_seq);
    rc |= MADE(m, THREAD, TRACE_EV_GO_BLOCK, w->chan_receive, w->blocked);
    rc |= MADE(m, THREAD, TRACE_EV_GO_START, G_MAIN, ++w->main_seq);
    return rc;
}
enum { ROUND_EVENTS = 5 };

static void create_worker(struct world *w)
{
    MADE(&w->m, THREAD, TRACE_EV_GO_CREATE, G_WORKER, w->start, w->deep);
    MADE(&w->m, THREAD, TRACE_EV_GO_STOP, w->gosched, w->deep);
    MADE(&w->m, THREAD, TRACE_EV_GO_START, G_WORKER, ++w->worker_seq);
    MADE(&w->m, THREAD, TRACE_EV_GO_BLOCK, w->chan_receive, w->blocked);
    MADE(&w->m, THREAD, TRACE_EV_GO_START, G_MAIN, ++w->main_seq);
}

// --- Two parsers.

struct read {
    struct trace_reader *r;
    uint64_t transitions, samples, syncs, generations, worker_samples;
    char worker_name[256];            // the outermost frame of G_WORKER's first stack
    char block_names[8][256];         // of its first block
    uint32_t block_depth, main_depth; // frames
    char main_outermost[256];
    uint64_t block_pcs[8];
    uint32_t version;
};

static void name_of(const struct trace_reader *r, uint32_t string_id, char *out)
{
    struct trace_text t = trace_reader_string(r, string_id);
    snprintf(out, 256, "%.*s", (int)t.size_bytes, t.bytes);
}

static void see_transition(struct read *c, const struct trace_event *e)
{
    const struct trace_frame *f;
    c->transitions++;
    if (e->what != TRACE_RESOURCE_GOROUTINE)
        return;
    if (e->transition.id == G_WORKER && !c->worker_name[0]) {
        uint32_t n = trace_reader_stack(c->r, e->transition.stack, &f);
        if (n)
            name_of(c->r, f[n - 1].function, c->worker_name);
    }
    if (e->transition.id == G_WORKER && e->transition.to == TRACE_GO_WAITING && !c->block_depth) {
        c->block_depth = trace_reader_stack(c->r, e->transition.stack, &f);
        for (uint32_t i = 0; i < c->block_depth && i < 8; i++) {
            name_of(c->r, f[i].function, c->block_names[i]);
            c->block_pcs[i] = f[i].pc;
        }
    }
    if (e->wire == TRACE_EV_GO_STOP && e->transition.id == G_MAIN) {
        c->main_depth = trace_reader_stack(c->r, e->transition.stack, &f);
        if (c->main_depth)
            name_of(c->r, f[c->main_depth - 1].function, c->main_outermost);
    }
}

static void read_with_ours(const char *path, struct read *c)
{
    struct fscope_error err = {0};
    const struct trace_event *e;
    *c = (struct read){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    if (trace_reader_open_fd(&c->r, fd, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    c->version = trace_reader_version(c->r);
    while ((rc = trace_reader_next(c->r, &e)) > 0) {
        c->syncs += e->kind == TRACE_SYNC;
        c->generations += e->kind == TRACE_SYNC && e->sync.generation != 0;
        c->samples += e->kind == TRACE_STACK_SAMPLE;
        c->worker_samples += e->kind == TRACE_STACK_SAMPLE && e->goroutine == G_WORKER;
        if (e->kind == TRACE_TRANSITION)
            see_transition(c, e);
    }
    if (rc)
        fail_msg("%s: %s", path, trace_reader_error(c->r)->text);
    trace_reader_close(c->r);
    close(fd);
}

// Go's own parser, which prints the events; how many lines have the text.
static uint64_t read_with_go(const char *path, const char *text)
{
    char command[256], line[8192];
    uint64_t found = 0;
    if (system("go version >/dev/null 2>&1"))
        SKIP_CASE("there is no Go here");
    snprintf(command, sizeof command, "go tool trace -d=parsed %s 2>&1", path);
    FILE *f = popen(command, "re");
    char last[256] = "";
    while (f && fgets(line, sizeof line, f)) {
        found += strstr(line, text) != NULL;
        snprintf(last, sizeof last, "%.255s", line);
    }
    int status = f ? pclose(f) : -1;
    if (status)
        fail_msg("%s: Go's parser refuses it: %s", path, last);
    return found;
}

// --- Cases.

static void a_session_becomes_a_file(void **state)
{
    static struct world w;
    struct read c;
    struct trace_build_stats st;
    uint64_t events = 0;
    (void)state;
    make_world(&w, 4);
    open_build(&w, 23);
    assert_int_equal(trace_build_pump(w.build), 0); // before anything was traced
    assert_int_equal(w.opened, 0);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    for (int g = 0; g < 4; g++) {
        for (int i = 0; i < 8000; i++) {
            assert_int_equal(round_trip(&w), 0);
            if (i % 500 == 0) // the pool is smaller than a generation
                assert_int_equal(trace_build_pump(w.build), 0);
        }
        made_trace_advance(&w.m);
        assert_int_equal(trace_build_pump(w.build), 0);
        trace_build_get_stats(w.build, &st);
        assert_true(st.events > events && w.opened == 1 && w.closed == 0);
        events = st.events;
        announce(&w, true);
    }
    assert_false(trace_build_stop(w.build));
    assert_int_equal(atomic_load(&w.m.t->request), SEG_TRACE_STOP);
    made_trace_stop(&w.m);
    assert_true(trace_build_stop(w.build));
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_int_equal(w.closed, 1);
    const struct trace_build_file *f = &w.files[0];
    assert_true(f->generations == 5 && !f->was_cut && !f->was_killed && !f->left_out);
    assert_int_equal(f->lost_names, 0);
    assert_int_equal(f->events, 32000 * ROUND_EVENTS + 4 + 5 + 4 * 5);
    assert_int_equal(f->start_ns, (15625000 + 1) * 64);
    end_world(&w);

    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.version, 23);
    assert_int_equal(c.generations, 5);
    assert_string_equal(c.worker_name, "worker");
    // The root is stripped, the runtime is told, what is inlined is a frame with a pc of its own.
    assert_int_equal(c.block_depth, 3);
    assert_string_equal(c.block_names[0], "runtime.fib_chan_recv");
    assert_string_equal(c.block_names[1], "inlined_part");
    assert_string_equal(c.block_names[2], "worker");
    assert_true(c.block_pcs[1] != c.block_pcs[2]);
    // 200 frames without start_thread: the leaf's 127 and the outermost one.
    assert_int_equal(c.main_depth, TRACE_STACK_FRAMES_MAX);
    assert_string_equal(c.main_outermost, "worker");
    assert_int_equal(read_with_go(w.paths[0], "Running->Waiting"), 32001);
    // Twice in a line, as the stack of who blocks and of what is blocked.
    assert_int_equal(read_with_go(w.paths[0], "runtime.fib_chan_recv"), 2 * (32001 + 4));
}

static void the_newer_format_has_the_time_of_day(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 26);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    for (int i = 0; i < 10; i++)
        round_trip(&w);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.version, 26);
    assert_int_equal(c.generations, 2);
    // 1,700,000,000 s of the wall clock where CLOCK_MONOTONIC is at 1 s is November 2023.
    assert_true(read_with_go(w.paths[0], "2023-11-14") >= 2);
}

static void samples_fall_into_their_generation(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    uint64_t leaf[] = {(uintptr_t)handler, in(worker)}; // the leaf's pc is exact
    uint32_t stack = seg_stack(&w.s, leaf, 2, 0, 0);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    uint64_t start_ns = w.m.now * 64;
    announce(&w, false);
    create_worker(&w);
    struct seg_record r = {.kind = SEG_KIND_CPU, .tid = THREAD, .user_stack = stack};
    for (int i = 0; i < 9; i++) {
        r.time_ns = start_ns - 64 * 4 + (uint64_t)i * 64 * 2; // two of them before the trace
        r.fiber = i % 2 ? G_WORKER : 0;
        trace_build_sample(w.build, &r);
    }
    made_trace_advance(&w.m);
    announce(&w, true);
    r.time_ns = w.m.now * 64;
    trace_build_sample(w.build, &r);
    assert_int_equal(trace_build_pump(w.build), 0);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_int_equal(w.files[0].samples, 8);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.samples, 8);
    assert_int_equal(c.worker_samples, 3);
    assert_int_equal(read_with_go(w.paths[0], "StackSample"), 8);
}

// Whatever the moment: what was committed is a trace.
static void a_killed_target_leaves_a_valid_trace(void **state)
{
    (void)state;
    for (int events = 1; events < 40; events++) {
        static struct world w;
        struct read c;
        make_world(&w, 16);
        open_build(&w, 23 + 3 * (uint32_t)(events % 2));
        made_trace_start(&w.m, &w.s, 15625000);
        announce(&w, false);
        create_worker(&w);
        if (events % 3) {
            made_trace_advance(&w.m);
            announce(&w, true);
        }
        if (events % 2)
            trace_build_pump(w.build);
        for (int i = 0; i < events; i++)
            round_trip(&w);
        // Some of the last generation's events are there, some are not.
        assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
        assert_int_equal(w.closed, 1);
        assert_true(w.files[0].was_killed);
        assert_int_equal(w.files[0].left_out, 0);
        assert_int_equal(w.files[0].events, 4 + 5 + (events % 3 ? 5 : 0) + events * ROUND_EVENTS);
        end_world(&w);
        read_with_ours(w.paths[0], &c);
        assert_int_equal(c.generations, events % 3 ? 2 : 1);
    }
}

// A target that lives on and does not answer: events at or after the moment are left out.
static void a_living_target_is_cut_in_time(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    uint64_t until = w.m.now + 1 + ROUND_EVENTS * 3 + 2;
    for (int i = 0; i < 100; i++)
        round_trip(&w);
    assert_int_equal(trace_build_finish(w.build, until * 64), 0);
    assert_int_equal(w.files[0].events, 4 + 5 + ROUND_EVENTS * 3 + 2);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
}

static void a_cut_session_goes_on_in_the_next_file(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 4);
    open_build(&w, 23);
    for (int session = 0; session < 3; session++) {
        made_trace_start(&w.m, &w.s, 15625000 * (uint64_t)(session + 1));
        announce(&w, session > 0);
        if (session == 0)
            create_worker(&w);
        for (int i = 0; i < 5; i++)
            round_trip(&w);
        atomic_store(&w.m.t->end, session < 2 ? SEG_TRACE_FULL : SEG_TRACE_STOPPED);
        if (session < 2)
            atomic_fetch_add(&w.m.t->cuts, 1);
        made_trace_stop(&w.m);
        assert_int_equal(trace_build_pump(w.build), 0);
    }
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_int_equal(w.closed, 3);
    end_world(&w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w.files[i].was_cut, i < 2);
        read_with_ours(w.paths[i], &c);
        assert_int_equal(c.generations, 1);
        read_with_go(w.paths[i], "");
    }
}

// An event that no recorder writes: its generation is left out and told, the next one is a file of its own.
static void what_makes_no_sense_is_left_out(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    MADE(&w.m, THREAD, 200, 1, 2, 3);
    round_trip(&w);
    MADE(&w.m, OTHER, TRACE_EV_GO_UNBLOCK, G_WORKER, 7, 0);
    made_trace_advance(&w.m);
    announce(&w, true);
    round_trip(&w);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_int_equal(w.closed, 2);
    assert_int_equal(w.files[0].generations, 1);
    assert_int_equal(w.files[0].left_out, 1);
    assert_true(strlen(w.files[0].why) > 10);
    assert_int_equal(w.files[1].generations, 1);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    read_with_ours(w.paths[1], &c);
}

static void a_killed_trace_that_makes_no_sense_ends_before(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    MADE(&w.m, THREAD, TRACE_EV_GO_START, G_WORKER, 9); // it waits, and nobody has woken it
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.files[0].generations, 1);
    assert_int_equal(w.files[0].left_out, 1);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
}

static void a_flight_recorder_gives_snapshots(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 32); // nothing is given back
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    atomic_store(&w.m.t->is_flight, 1);
    announce(&w, false);
    create_worker(&w);
    for (int i = 0; i < 3; i++) {
        made_trace_advance(&w.m);
        announce(&w, true);
        round_trip(&w);
        assert_int_equal(trace_build_pump(w.build), 0);
    }
    assert_int_equal(w.opened, 0); // nobody asked
    trace_build_snapshot(w.build);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(atomic_load(&w.m.t->request), SEG_TRACE_ADVANCE);
    assert_int_equal(w.opened, 0); // it waits for the generation to end
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.files[0].generations, 4);

    // The oldest has given way; a condition in the target was met.
    atomic_store(&w.m.t->oldest, 3);
    atomic_fetch_add(&w.m.t->snapshots, 1);
    assert_int_equal(trace_build_pump(w.build), 0);
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(w.closed, 2);
    assert_int_equal(w.files[1].generations, 3);
    round_trip(&w);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0); // it was killed
    assert_int_equal(w.closed, 3);
    if (w.files[2].left_out)
        fail_msg("%s", w.files[2].why);
    assert_int_equal(w.files[2].left_out, 0);
    assert_int_equal(w.files[2].generations, 4);
    assert_int_equal(atomic_load(&w.m.t->hold), 0);
    end_world(&w);
    for (int i = 0; i < 3; i++) {
        read_with_ours(w.paths[i], &c);
        read_with_go(w.paths[i], "");
    }
}

static void a_full_disk_costs_the_rest_of_the_file(void **state)
{
    static struct world w;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    w.fail_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(w.fail_fd >= 0);
    assert_int_equal(trace_build_pump(w.build), -ENOSPC);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.rc[0], -ENOSPC);
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0); // told once
    assert_int_equal(w.opened, 1);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX), 0);
    assert_true(strlen(trace_build_error(w.build)) > 0);
    end_world(&w);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char path[64];
    (void)state;
    for (int i = 1; i <= 16; i++) {
        snprintf(path, sizeof path, "%s/%d.trace", folder, i);
        unlink(path);
    }
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_becomes_a_file),
        cmocka_unit_test(the_newer_format_has_the_time_of_day),
        cmocka_unit_test(samples_fall_into_their_generation),
        cmocka_unit_test(a_killed_target_leaves_a_valid_trace),
        cmocka_unit_test(a_living_target_is_cut_in_time),
        cmocka_unit_test(a_cut_session_goes_on_in_the_next_file),
        cmocka_unit_test(what_makes_no_sense_is_left_out),
        cmocka_unit_test(a_killed_trace_that_makes_no_sense_ends_before),
        cmocka_unit_test(a_flight_recorder_gives_snapshots),
        cmocka_unit_test(a_full_disk_costs_the_rest_of_the_file),
    };
    (void)argc;
    (void)argv;
    return skip_status(cmocka_run_group_tests(tests, make_folder, remove_folder));
}
