// SPDX-License-Identifier: MIT
//
// What the cases of test_trace_build.c work with: a target that is made up, the files that become of it, and readers of
// these. Included there alone.

#ifndef FIBERSCOPE_TESTS_UNIT_TEST_TRACE_BUILD_H
#define FIBERSCOPE_TESTS_UNIT_TEST_TRACE_BUILD_H

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
#include <limits.h>
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
    uint64_t events; // all
    int64_t first_ns, last_ns;
    struct trace_reader *r;
    uint64_t transitions, samples, syncs, generations, worker_samples;
    char worker_name[256];            // the outermost frame of G_WORKER's first stack
    char block_names[8][256];         // of its first block
    uint32_t block_depth, main_depth; // frames
    char main_outermost[256];
    uint64_t block_pcs[8];
    uint32_t version;
    char missing[128]; // kinds of notes: "gap full"
    struct trace_note notes[TRACE_NOTES_MAX];
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
    bool has_event = true; // of the generation; readers before Go 1.25 refuse one that has none
    *c = (struct read){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    if (trace_reader_open_fd(&c->r, fd, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    c->version = trace_reader_version(c->r);
    while ((rc = trace_reader_next(c->r, &e)) > 0) {
        c->first_ns = c->events++ ? c->first_ns : e->time_ns;
        c->last_ns = e->time_ns;
        if (e->kind == TRACE_SYNC && !has_event)
            fail_msg("%s: a generation has no event", path);
        has_event = e->kind != TRACE_SYNC;
        c->syncs += e->kind == TRACE_SYNC;
        c->generations += e->kind == TRACE_SYNC && e->sync.generation != 0;
        c->samples += e->kind == TRACE_STACK_SAMPLE;
        c->worker_samples += e->kind == TRACE_STACK_SAMPLE && e->goroutine == G_WORKER;
        if (e->kind == TRACE_TRANSITION)
            see_transition(c, e);
    }
    if (rc)
        fail_msg("%s: %s", path, trace_reader_error(c->r)->text);
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(c->r, &count);
    for (uint32_t i = 0; i < count; i++) {
        size_t n = strlen(c->missing);
        snprintf(c->missing + n, sizeof c->missing - n, "%s%s", i ? " " : "", notes[i].kind);
        c->notes[i] = notes[i];
    }
    trace_reader_close(c->r);
    close(fd);
}

// Where `go tool trace` is, which takes its time to find it; "": there is no Go.
static const char *go_trace(void)
{
    static char path[PATH_MAX];
    static bool is_known;
    FILE *f = is_known
                  ? NULL
                  : popen("go tool trace -h >/dev/null 2>&1; go tool -n trace 2>/dev/null", "re");
    is_known = true;
    if (f && fgets(path, sizeof path, f))
        path[strcspn(path, "\n")] = 0;
    if (f && pclose(f))
        path[0] = 0;
    return path;
}

// Go's own parser, which prints the events; how many lines have each of the texts (NULL: none).
static void read_with_go(const char *path, const char *const texts[2], uint64_t found[2])
{
    char command[PATH_MAX + 256], line[8192] = ""; // at the end the last line stays in it
    if (!*go_trace())
        SKIP_CASE("there is no Go here");
    snprintf(command, sizeof command, "%s -d=parsed %s 2>&1", go_trace(), path);
    FILE *f = popen(command, "re");
    found[0] = found[1] = 0;
    while (f && fgets(line, sizeof line, f))
        for (int i = 0; i < 2; i++)
            found[i] += texts[i] && strstr(line, texts[i]);
    int status = f ? pclose(f) : -1;
    if (status)
        fail_msg("%s: Go's parser refuses it: %.255s", path, line);
}

static uint64_t lines_of_go(const char *path, const char *text)
{
    uint64_t found[2];
    read_with_go(path, (const char *const[]){text, NULL}, found);
    return found[0];
}

#endif
