// SPDX-License-Identifier: MIT
//
// What the viewer makes of a kernel trace beside a trace of fibers says what `trace lost` says of the same two, whose code reads
// events: for any records, any files that come of them, any range.

#include "tests/unit/written_trace.h"

#include "analysis/trace/lost.h"
#include "collector/bpf/kernel_build.h"
#include "viewer/kernel_model.h"
#include "viewer/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CPUS = 3,
    THREADS = 13,
    RECORDS = 6000,
    SEEDS = 12,
    FILES_MAX = 16,
    RANGES = 6
}; // threads 10 and 11 are those of the fibers
#define MS       UINT64_C(1000000)
#define FIRST_NS 8

static int fds[FILES_MAX], name_count = 5;
static uint32_t fd_count, gap_ms; // gaps: records are lost

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    (void)arg, (void)err;
    assert_in_range(number, 1, FILES_MAX);
    return fds[fd_count++] = memfd_create("trace", MFD_CLOEXEC);
}

static void close_file(void *arg, const struct kernel_build_file *f, int rc)
{
    (void)arg, (void)f;
    assert_int_equal(rc, 0);
}

static uint32_t process_of(uint32_t tid) // those of the fibers' threads are 2 and 3
{
    return 1 + tid % 3;
}

static void add_all(struct kernel_build *b)
{
    for (uint32_t tid = 1; tid < THREADS; tid++) {
        const struct kernel_build_thread t = {tid, process_of(tid), 0, 'S', "thread"};
        assert_int_equal(kernel_build_add(b, &t), 0);
    }
}

// Any records, as test_kernel_build.c has them.
static void make_kernel(unsigned seed)
{
    const struct kernel_build_options o = {
        .size = sizeof o, .cpu_count = CPUS, .open_file = open_file, .close_file = close_file};
    struct kernel_build *b;
    uint64_t now = 1000 * MS;
    fd_count = 0;
    assert_int_equal(kernel_build_new(&b, &o), 0);
    srand(seed);
    add_all(b);
    for (int i = 0; i < RECORDS; i++) {
        // No deaths: of a number that two threads have, one after the other, trace lost has both until the end.
        static const uint8_t types[] = {KERNEL_SWITCH,   KERNEL_IN_VIEW,     KERNEL_WAKE,
                                        KERNEL_SYSCALL,  KERNEL_SYSCALL_END, KERNEL_FAULT,
                                        KERNEL_FAULT_END};
        struct kernel_record r = {.type = types[rand() % 7],
                                  .flags = (uint16_t)(rand() % 64 & ~KERNEL_DEAD),
                                  .cpu = (uint32_t)(rand() % CPUS),
                                  .tid = (uint32_t)(rand() % THREADS),
                                  .pid = 1,
                                  .other = (uint32_t)(rand() % THREADS),
                                  .other_pid = 1,
                                  .value = (uint64_t)(rand() % 400)};
        now += (uint64_t)(rand() % 2000) * 100;
        r.time_ns = now - (uint64_t)(rand() % 3000);
        r.pid = process_of(r.tid);
        r.other_pid = process_of(r.other);
        snprintf(r.comm, sizeof r.comm, "name%d", rand() % name_count);
        assert_int_equal(kernel_build_push(b, &r), 0);
        if (gap_ms && i % 2500 == 2499) {
            assert_int_equal(kernel_build_cut(b, now - 50000, now + gap_ms * MS, 3), 0);
            add_all(b);
        }
    }
    assert_int_equal(kernel_build_finish(b, now + MS), 0);
    kernel_build_free(b);
}

// Main and worker take turns, in calls and regions.
static void make_fibers(struct written *m)
{
    written_begin(m);
    uint64_t where = written_stack(m, "wait", "worker"), at = 950 * MS,
             region = written_text(m, "work"), calls = 0;
    for (int i = 0; i < 300; i++) {
        at += (uint64_t)(rand() % 1000) * 1000 + 10;
        written_wake(m, 0, at, 2, where);
        written_start(m, 1, at + 5, 2);
        at += (uint64_t)(rand() % 1000) * 1000 + 10;
        if (rand() % 2) {
            written_say(m, 1, TRACE_EV_REGION_BEGIN, at, 0, region, where, 0);
            written_say(m, 1, TRACE_EV_REGION_END, at + 9000, 0, region, where, 0);
            at += 10000;
        }
        if (rand() % 2) {
            written_say(m, 1, TRACE_EV_GO_SYSCALL_BEGIN, at, ++calls, where, 0, 0);
            at += (uint64_t)(rand() % 1000) * 1000 + 10;
            written_say(m, 1, TRACE_EV_GO_SYSCALL_END, at, 0, 0, 0, 0);
            at += 10;
        }
        written_block(m, 1, at, "sync", where);
    }
}

// --- What trace lost says.

static void read_events(struct trace_reader *r, struct trace_kernel *k, struct trace_lost *l)
{
    const struct trace_event *ev;
    while (trace_reader_next(r, &ev) > 0)
        assert_int_equal(k ? trace_kernel_event(k, r, ev) : trace_lost_event(l, r, ev), 0);
    if (k)
        assert_int_equal(trace_kernel_file_end(k), 0);
    trace_reader_close(r);
}

static struct trace_reader *reader_of(int fd)
{
    struct trace_reader *r;
    struct fscope_error err = {0};
    lseek(fd, 0, SEEK_SET);
    if (trace_reader_open_fd(&r, fd, NULL, &err))
        fail_msg("%s", err.text);
    return r;
}

static void compare(struct written *m, const struct kernel_model *k, int64_t from_ns, int64_t to_ns)
{
    static const uint8_t classes[TRACE_PIECE_KINDS] = {[TRACE_PIECE_DESCHEDULED] = KERNEL_DELAYED,
                                                       [TRACE_PIECE_FAULT] = KERNEL_IN_FAULT,
                                                       [TRACE_PIECE_SYSCALL] = KERNEL_IN_CALL,
                                                       [TRACE_PIECE_WAIT] = KERNEL_ASLEEP};
    struct trace_kernel *kernel;
    struct trace_lost *lost;
    struct kernel_times t = {0};
    assert_int_equal(trace_kernel_new(&kernel), 0);
    for (uint32_t i = 0; i < fd_count; i++)
        read_events(reader_of(fds[i]), kernel, NULL);
    assert_int_equal(trace_lost_new(&lost, kernel, from_ns, to_ns), 0);
    read_events(written_end(m), NULL, lost);
    trace_lost_finish(lost);
    kernel_times_all(&t, k, from_ns, to_ns);
    kernel_times_finish(&t);
    assert_true(t.had_ns > 0);
    // A fiber that is first heard of by its status has been there since the trace began, by its spans.
    assert_in_range(t.had_ns - lost->whole.had_ns, 0, FIRST_NS);
    assert_int_equal(t.told_ns, lost->whole.told_ns);
    assert_int_equal(t.unknown_ns - lost->whole.unknown_ns, t.had_ns - lost->whole.had_ns);
    assert_int_equal(t.threads_unknown, lost->threads_unknown);
    assert_int_equal(kernel_times_lost(&t), trace_lost_sum(&lost->whole));
    for (int i = 0; i < TRACE_PIECE_KINDS; i++) {
        assert_int_equal(t.ns[classes[i]], lost->whole.ns[i]);
        assert_int_equal(t.count[classes[i]], lost->whole.count[i]);
    }
    for (size_t i = 0, n = 0; i < lost->by_count[TRACE_PIECE_DESCHEDULED]; i++) {
        const struct trace_lost_by *by = &lost->by[TRACE_PIECE_DESCHEDULED][i];
        if (!by->name) // nobody
            continue;
        assert_in_range(n, 0, t.by_count - 1);
        assert_int_equal(t.by[n].ns, by->ns);
        assert_string_equal(t.by[n++].name, trace_kernel_name(kernel, by->name));
    }
    trace_lost_free(lost);
    trace_kernel_free(kernel);
}

// --- The model.

static struct trace_model *model_of(struct trace_reader *r)
{
    struct trace_model *m;
    struct fscope_error err = {0};
    if (trace_model_read(&m, r, &err))
        fail_msg("%s", err.text);
    trace_reader_close(r);
    return m;
}

static struct kernel_model *pair(struct trace_model *m)
{
    struct trace_model *parts[FILES_MAX];
    struct kernel_model *k;
    struct fscope_error err = {0};
    for (uint32_t i = 0; i < fd_count; i++)
        parts[i] = model_of(reader_of(fds[i]));
    if (kernel_model_new(&k, m, parts, fd_count, NULL, &err))
        fail_msg("%s", err.text);
    return k;
}

static void close_files(void)
{
    for (uint32_t i = 0; i < fd_count; i++)
        close(fds[i]);
}

// Every moment of a CPU's lane is one at which the thread's own lane says that it was on that CPU, and the other way round.
static void compare_lanes(const struct kernel_model *k)
{
    for (uint32_t cpu = 0; cpu < k->cpu_count; cpu++) {
        const struct lod *l = &k->lanes[cpu].lod;
        for (uint32_t i = 0; i < l->count; i++) {
            struct kernel_piece p, its;
            kernel_piece_get(k, cpu, i, &p);
            if (p.end_ns == p.begin_ns)
                continue;
            assert_int_not_equal(p.thread, KERNEL_NO_LANE);
            for (int64_t at = p.begin_ns; at < p.end_ns; at = its.end_ns) {
                uint32_t index = kernel_piece_at(k, p.thread, at);
                assert_int_not_equal(index, UINT32_MAX);
                kernel_piece_get(k, p.thread, index, &its);
                assert_int_equal(its.cpu, k->lanes[cpu].id);
                assert_true(its.class == KERNEL_RUNNING || its.class == KERNEL_IN_CALL ||
                            its.class == KERNEL_IN_FAULT);
            }
        }
    }
}

static void compare_programs(const struct kernel_model *k)
{
    uint32_t programs = 0;
    for (uint32_t t = k->cpu_count; t < k->lane_count; t++) {
        uint32_t process = process_of((uint32_t)k->lanes[t].id);
        assert_int_equal(k->lanes[t].is_program, process == 2 || process == 3);
        programs += k->lanes[t].is_program;
    }
    assert_int_equal(programs, 8);
}

static void any_pair_loses_what_trace_lost_says(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        static struct written m;
        gap_ms = seed % 2 * 7;
        make_kernel(seed);
        make_fibers(&m);
        struct trace_model *model = model_of(written_end(&m));
        struct kernel_model *k = pair(model);
        assert_int_equal(k->part_count, fd_count);
        assert_true(!gap_ms || fd_count > 1);
        assert_int_equal(k->known, 2);
        compare(&m, k, model->begin_ns, model->end_ns);
        for (int i = 0; i < RANGES; i++) {
            int64_t from_ns =
                (int64_t)(960 * MS + (uint64_t)(rand() % 200) * MS + (uint64_t)(rand() % 1000));
            compare(&m, k, from_ns, from_ns + (1 + rand() % 100) * (int64_t)MS + rand() % 1000);
        }
        compare_lanes(k);
        compare_programs(k);
        kernel_model_free(k);
        trace_model_free(model);
        written_free(&m);
        close_files();
    }
}

static void what_does_not_belong_together_is_refused(void **state)
{
    (void)state;
    static struct written m, other;
    struct fscope_error err = {0};
    struct kernel_model *k;
    gap_ms = 0;
    make_kernel(1);
    written_begin(&m);
    written_begin(&other);
    written_relay(&m); // it is over before the kernel's begins
    written_relay(&other);
    struct trace_model *model = model_of(written_end(&m)), *part = model_of(reader_of(fds[0]));
    assert_true(kernel_trace_is(part->spans) && !kernel_trace_is(model->spans));
    assert_int_equal(kernel_model_new(&k, model, &part, 1, NULL, &err), -ENODATA);
    assert_non_null(strstr(err.text, "of another time: by the clock it begins "));
    part = model_of(written_end(&other));
    assert_int_equal(kernel_model_new(&k, model, &part, 1, NULL, &err), -ENODATA);
    assert_string_equal(err.text, "it is no kernel trace");
    trace_model_free(model);
    written_free(&m);
    written_free(&other);
    close_files();
}

static bool stop(void *context)
{
    return ++*(int *)context < 0;
}

static void nobody_waits_for_one_that_nobody_wants(void **state)
{
    (void)state;
    static struct written m;
    struct fscope_error err = {0};
    struct kernel_model *k;
    int asked = 0;
    const struct kernel_model_watch w = {stop, &asked};
    gap_ms = 0;
    make_kernel(1);
    make_fibers(&m);
    struct trace_model *model = model_of(written_end(&m)), *part = model_of(reader_of(fds[0]));
    assert_int_equal(kernel_model_new(&k, model, &part, 1, &w, &err), -ECANCELED);
    assert_int_equal(asked, 1);
    trace_model_free(model);
    written_free(&m);
    close_files();
}

// What the files lack is said by the clock of what is shown: the trace of fibers begins long before.
static void notes_have_the_times_of_what_is_shown(void **state)
{
    (void)state;
    static struct written m;
    char path[32], kernel[32];
    struct fscope_error err = {0};
    struct loaded l;
    double at = 0;
    gap_ms = 7;
    make_kernel(1);
    make_fibers(&m);
    trace_reader_close(written_end(&m));
    int fd = memfd_create("fibers", MFD_CLOEXEC);
    assert_int_equal(write(fd, m.bytes, m.size_bytes), m.size_bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    snprintf(kernel, sizeof kernel, "/proc/self/fd/%d", fds[0]);
    if (load_now(&(struct load_options){.path = path, .kernel = kernel}, &l, &err))
        fail_msg("%s", err.text);
    const char *from = strstr(l.missing, ": from ");
    assert_non_null(from);
    assert_int_equal(sscanf(from, ": from %lf", &at), 1);
    assert_true(at > 1.0 && at < 2.0); // the kernel's begins at 1 s, and has a gap after 0.25 s
    loaded_free(&l);
    written_free(&m);
    close(fd);
    close_files();
}

// Whatever many names there are, all of the time is somebody's.
static void who_has_no_room_is_among_others(void **state)
{
    (void)state;
    static struct written m;
    gap_ms = 0;
    name_count = 3 * KERNEL_BY;
    make_kernel(1);
    make_fibers(&m);
    name_count = 5;
    struct trace_model *model = model_of(written_end(&m));
    struct kernel_model *k = pair(model);
    struct kernel_times t = {0};
    int64_t sum_ns = 0, want_ns = 0;
    for (uint32_t lane = k->cpu_count; lane < k->lane_count; lane++)
        for (uint32_t i = 0; i < k->lanes[lane].lod.count; i++) {
            struct kernel_piece p;
            struct kernel_times one = {0};
            kernel_piece_get(k, lane, i, &p);
            if (p.class != KERNEL_DELAYED)
                continue;
            kernel_times_piece(&t, k, &p);
            kernel_times_piece(&one, k, &p);
            assert_in_range(one.by_count, 0, KERNEL_BY - 2);
            for (uint32_t b = 0; b < one.by_count; b++)
                want_ns += one.by[b].ns;
        }
    bool has_others = false;
    for (uint32_t b = 0; b < t.by_count; b++) {
        sum_ns += t.by[b].ns;
        has_others |= !strcmp(t.by[b].name, "others");
    }
    assert_int_equal(t.by_count, KERNEL_BY);
    assert_true(has_others && want_ns > 0);
    assert_int_equal(sum_ns, want_ns);
    kernel_model_free(k);
    trace_model_free(model);
    written_free(&m);
    close_files();
}

static void the_file_beside_a_trace_has_its_name(void **state)
{
    (void)state;
    char path[64], little[8];
    static const char *const names[][2] = {{"k.trace", "k.kernel.trace"},
                                           {"k.trace.2", "k.kernel.trace"},
                                           {"a.trace/k", "a.trace/k.kernel.trace"},
                                           {"/t/x.trace.trace", "/t/x.trace.kernel.trace"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(trace_kernel_path(path, sizeof path, names[i][0]), 0);
        assert_string_equal(path, names[i][1]);
    }
    assert_int_equal(trace_kernel_path(little, sizeof little, "k.trace"), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pair_loses_what_trace_lost_says),
        cmocka_unit_test(what_does_not_belong_together_is_refused),
        cmocka_unit_test(nobody_waits_for_one_that_nobody_wants),
        cmocka_unit_test(notes_have_the_times_of_what_is_shown),
        cmocka_unit_test(who_has_no_room_is_among_others),
        cmocka_unit_test(the_file_beside_a_trace_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
