// SPDX-License-Identifier: MIT
//
// What must hold of the sampling BPF programs: every configuration loads; no sample is lost or counted twice, whatever is
// full; each sum's key has been told of; forks, execs and exits are told, and children take their parent's slot.
// That stacks are right is tests/conformance/bpf_walks.py.

#include "tests/conformance/bpf_fill.h"
#include "tests/unit/skip.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { HZ = 1999, SLOT = 1, KEYS_MAX = 100000, EVENTS_MAX = 64, BURN_MS = 250, PAGE = 4096 };

static uint64_t keys[KEYS_MAX];
static size_t key_count;

struct seen {
    uint64_t copies, alone, summed; // samples
    uint64_t unknown;               // keys of which no record told
    struct {
        uint32_t type, pid, parent;
    } events[EVENTS_MAX];
    uint32_t event_count;
};

static struct bpf_programs *load(const struct bpf_programs_options *opts)
{
    struct bpf_programs *p = NULL;
    struct fscope_error err = {0};
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    if (bpf_programs_new(&p, opts, &err))
        fail_msg("%s", err.text);
    return p;
}

static void start(struct bpf_programs *p)
{
    struct fscope_error err;
    if (bpf_programs_start(p, &err))
        fail_msg("%s", err.text);
}

// A child that waits for a byte, and then does fn; go is what to write it to.
static pid_t make_child(void (*fn)(void), int *go)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(fds[1]);
        if (read(fds[0], &c, 1) == 1)
            fn();
        _exit(0);
    }
    close(fds[0]);
    *go = fds[1];
    return pid;
}

static void let_go(int go)
{
    assert_int_equal(write(go, "g", 1), 1);
    close(go);
}

static volatile uint64_t sink;

__attribute__((noinline)) static void burn(unsigned depth)
{
    if (depth)
        burn(depth - 1);
    else
        for (int i = 0; i < 20000; i++)
            sink = sink * 31 + 1;
    sink++;
}

// Burns BURN_MS of CPU time, at many depths.
static void burn_child(void)
{
    struct rusage u;
    unsigned depth = 0;
    do {
        for (int i = 0; i < 50; i++)
            burn(depth++ % 40);
        getrusage(RUSAGE_SELF, &u);
    } while (u.ru_utime.tv_sec * 1000 + u.ru_utime.tv_usec / 1000 < BURN_MS);
}

static int on_record(void *arg, const struct bpf_head *head)
{
    struct seen *s = arg;
    const struct bpf_stack *stack = (const struct bpf_stack *)head;
    const struct bpf_task_event *e = (const struct bpf_task_event *)head;
    if (head->type == BPF_RECORD_COPY) {
        s->copies += ((const struct bpf_copy *)head)->sum.count;
    } else if (head->type == BPF_RECORD_STACK && !stack->key) {
        s->alone += stack->sum.count;
    } else if (head->type == BPF_RECORD_STACK) {
        assert_true(key_count < KEYS_MAX);
        keys[key_count++] = stack->key;
    } else if (s->event_count < EVENTS_MAX) {
        s->events[s->event_count].type = head->type;
        s->events[s->event_count].pid = head->pid;
        s->events[s->event_count++].parent = head->type == BPF_RECORD_FORK ? e->parent : 0;
    }
    return 0;
}

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct seen *s = arg;
    size_t i = 0;
    while (i < key_count && keys[i] != key)
        i++;
    s->unknown += i == key_count;
    s->summed += sum->count;
    assert_int_equal(sum->ns, sum->count * (UINT64_C(1000000000) / HZ));
    return 0;
}

static void fill_for(struct bpf_programs *p, pid_t pid)
{
    static struct fill fill;
    struct builder *b;
    struct perf_code *code;
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CPU, .period_ns = 1};
    assert_int_equal(builder_new(&b, &bo), 0);
    assert_int_equal(perf_code_new(&code, b), 0);
    fill_init(&fill, p);
    fill_slot(&fill, SLOT, perf_code_process(code, (uint32_t)pid, 0));
    fill_finish(&fill);
    perf_code_free(code);
    builder_free(b);
}

// Samples a child that burns; drains sums `often` or only at the end. CPU seconds of the child.
static double sample_child(struct bpf_programs *p, bool filled, bool often, struct seen *s)
{
    int go, status;
    struct rusage u;
    pid_t pid = make_child(burn_child, &go), done = 0;
    key_count = 0;
    if (filled)
        fill_for(p, pid);
    assert_int_equal(bpf_programs_target(p, pid, filled ? SLOT : 0), 0);
    start(p);
    let_go(go);
    while (!done) {
        if (often) {
            assert_true(bpf_programs_poll(p, 5, -1, on_record, s) >= 0);
            assert_int_equal(bpf_programs_sums(p, on_record, on_sum, s), 0);
        }
        done = wait4(pid, &status, often ? WNOHANG : 0, &u);
    }
    bpf_programs_stop(p);
    for (int i = 0; i < 2; i++)
        assert_int_equal(bpf_programs_sums(p, on_record, on_sum, s), 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// The clock's samples are as many as its periods of CPU time: the truth that no part of ours has a hand in.
static void assert_counted(uint64_t samples, double cpu_seconds)
{
    double ratio = (double)samples / (cpu_seconds * HZ);
    if (ratio < 0.9 || ratio > 1.1)
        fail_msg("%llu samples in %.3f s", (unsigned long long)samples, cpu_seconds);
}

static struct bpf_programs_options options(void)
{
    return (struct bpf_programs_options){
        .size = sizeof(struct bpf_programs_options),
        .cpu_hz = HZ,
        .ring_bytes = 1 << 20,
        .sums_max = 1024,
        .config = {.filter = BPF_FILTER_TARGETS, .inherit = 1, .stack_copy = 4096},
    };
}

static void every_configuration_loads(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 9; i++) {
        struct bpf_programs_options o = {
            .size = sizeof o,
            .ring_bytes = PAGE,
            .sums_max = 16,
            .offcpu = i & 1,
            .config = {.filter = i % 3,
                       .inherit = i & 1,
                       .kernel_stacks = i >> 1 & 1,
                       .compare = i >> 2 & 1,
                       .stack_copy = i % 4 ? BPF_STACK_COPY_MAX : 0,
                       .cgroup_level = 1},
        };
        bpf_programs_free(load(&o));
    }
}

static void known_code_is_counted_by_key(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct seen s = {0};
    struct bpf_programs *p = load(&o);
    double seconds = sample_child(p, true, true, &s);
    assert_counted(s.summed + s.copies, seconds);
    assert_true(s.summed > 9 * s.copies);
    assert_int_equal(s.unknown, 0);
    assert_int_equal(s.alone, 0);
    bpf_programs_free(p);
}

static void unknown_code_is_sent_as_copies(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct seen s = {0};
    struct bpf_losses l;
    struct bpf_programs *p = load(&o);
    double seconds = sample_child(p, false, true, &s);
    bpf_programs_losses(p, &l);
    assert_counted(s.copies, seconds);
    assert_int_equal(s.summed, 0);
    assert_int_equal(l.copies, s.copies);
    bpf_programs_free(p);
}

static void a_full_ring_is_told(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct seen s = {0};
    struct bpf_losses l;
    o.ring_bytes = 4 * PAGE;
    struct bpf_programs *p = load(&o);
    double seconds = sample_child(p, false, false, &s);
    bpf_programs_losses(p, &l);
    assert_true(l.ring > 0);
    assert_counted(s.copies + l.ring, seconds);
    bpf_programs_free(p);
}

enum { SLOW_US = 4000 };

static int on_record_slowly(void *arg, const struct bpf_head *head)
{
    uint64_t *bytes = arg;
    usleep(SLOW_US); // the child fills the ring faster
    *bytes += head->size;
    return 0;
}

static int ignore_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    (void)arg, (void)key, (void)sum;
    return 0;
}

static void a_ring_kept_full_is_left(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    int go;
    o.ring_bytes = 16 * PAGE;
    struct bpf_programs *p = load(&o);
    pid_t pid = make_child(burn_child, &go);
    assert_int_equal(bpf_programs_target(p, pid, 0), 0);
    start(p);
    let_go(go);
    uint64_t polled = 0, summed = 0;
    while (!polled)
        assert_true(bpf_programs_poll(p, 50, -1, on_record_slowly, &polled) >= 0);
    assert_int_equal(bpf_programs_sums(p, on_record_slowly, ignore_sum, &summed), 0);
    bpf_programs_free(p);
    assert_true(polled < 18 * PAGE && summed < 18 * PAGE);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void full_sums_send_samples_for_themselves(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct seen s = {0};
    struct bpf_losses l;
    o.sums_max = 4;
    o.ring_bytes = 16 << 20;
    struct bpf_programs *p = load(&o);
    double seconds = sample_child(p, true, false, &s);
    bpf_programs_losses(p, &l);
    assert_true(l.sums > 0);
    assert_int_equal(l.sums, s.alone);
    assert_counted(s.summed + s.alone + s.copies, seconds);
    assert_int_equal(s.unknown, 0);
    bpf_programs_free(p);
}

static void fork_and_exec(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        usleep(100000); // the test looks at its slot
        execl("/bin/sleep", "sleep", "0.1", (char *)NULL);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

static void wait_for_events(struct bpf_programs *p, struct seen *s, uint32_t count)
{
    for (int i = 0; i < 200 && s->event_count < count; i++)
        assert_true(bpf_programs_poll(p, 50, -1, on_record, s) >= 0);
    assert_int_equal(s->event_count, count);
}

static void assert_event(const struct seen *s, uint32_t index, uint32_t type, uint32_t pid)
{
    assert_int_equal(s->events[index].type, type);
    assert_int_equal(s->events[index].pid, pid);
}

static void children_take_the_slot_and_an_exec_empties_it(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct seen s = {0};
    uint32_t slot, child;
    int go;
    o.cpu_hz = 0;
    struct bpf_programs *p = load(&o);
    pid_t pid = make_child(fork_and_exec, &go);
    assert_int_equal(bpf_programs_target(p, pid, 7), 0);
    start(p);
    let_go(go);
    wait_for_events(p, &s, 1);
    child = s.events[0].pid;
    assert_event(&s, 0, BPF_RECORD_FORK, child);
    assert_int_equal(s.events[0].parent, pid);
    assert_int_equal(bpf_programs_slot_of(p, (pid_t)child, &slot), 0);
    assert_int_equal(slot, 7);
    wait_for_events(p, &s, 2);
    assert_event(&s, 1, BPF_RECORD_EXEC, child);
    assert_int_equal(bpf_programs_slot_of(p, (pid_t)child, &slot), 0);
    assert_int_equal(slot, 0);
    wait_for_events(p, &s, 4);
    assert_event(&s, 2, BPF_RECORD_EXIT, child);
    assert_event(&s, 3, BPF_RECORD_EXIT, (uint32_t)pid);
    assert_int_equal(bpf_programs_slot_of(p, (pid_t)child, &slot), -ENOENT);
    waitpid(pid, NULL, 0);
    bpf_programs_free(p);
}

static void without_privilege_it_says_what_is_missing(void **state)
{
    (void)state;
    struct bpf_programs_options o = options();
    struct bpf_programs *p = load(&o);
    bpf_programs_free(p);
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct fscope_error err = {0};
        if (setresuid(65534, 65534, 65534))
            _exit(3);
        int rc = bpf_programs_new(&p, &o, &err);
        _exit(rc != -EPERM ? 1 : strstr(err.text, "CAP_BPF") ? 0 : 2);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static void tables_fill_several_slabs_and_give_them_back(void **state)
{
    (void)state;
    enum { PAGES = 3 * BPF_SLAB_PAGES };
    struct bpf_programs_options o = options();
    struct bpf_programs *p = load(&o);
    uint32_t *words = calloc(PAGES, PAGE);
    assert_non_null(words);
    for (int round = 0; round < 2; round++) { // what is dropped can be had again
        for (uint32_t file = 1; file <= 3; file++)
            assert_int_equal(bpf_programs_table(p, file, words, PAGES - file), 0);
        assert_int_equal(bpf_programs_table(p, 3, words, 1), -EINVAL); // in use
        for (uint32_t file = 1; file <= 3; file++)
            bpf_programs_table_drop(p, file);
    }
    assert_int_equal(bpf_programs_table(p, 9, words, BPF_SLABS_MAX * BPF_SLAB_PAGES), -EINVAL);
    free(words);
    bpf_programs_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_configuration_loads),
        cmocka_unit_test(known_code_is_counted_by_key),
        cmocka_unit_test(unknown_code_is_sent_as_copies),
        cmocka_unit_test(a_full_ring_is_told),
        cmocka_unit_test(a_ring_kept_full_is_left),
        cmocka_unit_test(full_sums_send_samples_for_themselves),
        cmocka_unit_test(children_take_the_slot_and_an_exec_empties_it),
        cmocka_unit_test(without_privilege_it_says_what_is_missing),
        cmocka_unit_test(tables_fill_several_slabs_and_give_them_back),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
