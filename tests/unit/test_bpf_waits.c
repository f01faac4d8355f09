// SPDX-License-Identifier: MIT
//
// What must hold of waits seen by BPF: a thread's waits last as long as it was not running, which is its own wall time less
// its own CPU time; they are of the stack that waited; one that has not ended is there, too.

#include "tests/conformance/bpf_fill.h"
#include "tests/unit/skip.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOT = 1, SLEEPS = 20, SLEEP_NS = 5000000, STACKS_MAX = 10000, FUNCTION_BYTES = 512 };

struct truth {                        // shared with the child
    _Atomic uint32_t sleeper, reader; // tids; 0: not yet
    _Atomic uint32_t may_go, is_done;
    uint64_t wall_ns, cpu_ns; // of the sleeper while it slept
    uint64_t reads_since;     // when the reader began to wait
};

struct stack {
    uint64_t key;
    uint32_t tid, kind, end, kernel_depth;
    bool is_of_sleeper; // goes through sleep_often
};

struct seen {
    struct stack stacks[STACKS_MAX];
    size_t count;
    uint64_t sleeper_ns, sleeper_waits, slept_in_function; // of kind OFFCPU
    uint64_t preempted_ns, reader_ns, unknown, copies;
};

static struct truth *truth;
static struct seen seen;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// --- The child.

__attribute__((noinline)) static void sleep_often(void)
{
    struct timespec t = {.tv_nsec = SLEEP_NS};
    for (int i = 0; i < SLEEPS; i++)
        nanosleep(&t, NULL);
}

static void wait_to_go(void)
{
    struct timespec t = {.tv_nsec = 1000000};
    while (!truth->may_go)
        nanosleep(&t, NULL);
}

static void *sleeper(void *arg)
{
    truth->sleeper = (uint32_t)syscall(SYS_gettid);
    wait_to_go();
    truth->wall_ns = now_ns(CLOCK_MONOTONIC);
    truth->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    sleep_often();
    truth->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - truth->cpu_ns;
    truth->wall_ns = now_ns(CLOCK_MONOTONIC) - truth->wall_ns;
    truth->is_done = 1;
    return arg;
}

static void *reader(void *arg)
{
    int fds[2];
    char c;
    truth->reader = (uint32_t)syscall(SYS_gettid);
    wait_to_go();
    if (pipe(fds))
        abort();
    truth->reads_since = now_ns(CLOCK_MONOTONIC);
    return read(fds[0], &c, 1) == 1 ? arg : NULL; // nobody writes
}

static pid_t start_child(void)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    pthread_t a, b;
    if (pthread_create(&a, NULL, sleeper, NULL) || pthread_create(&b, NULL, reader, NULL))
        _exit(1);
    pthread_join(b, NULL); // never
    _exit(0);
}

// --- What BPF saw.

static const struct stack *find(uint64_t key)
{
    for (size_t i = 0; i < seen.count; i++)
        if (seen.stacks[i].key == key)
            return &seen.stacks[i];
    return NULL;
}

static bool goes_through(const struct bpf_stack *s, void (*fn)(void))
{
    for (uint32_t i = 0; i < s->user_depth; i++)
        if (s->pcs[i] - (uintptr_t)fn < FUNCTION_BYTES)
            return true;
    return false;
}

static int on_record(void *arg, const struct bpf_head *head)
{
    const struct bpf_stack *s = (const struct bpf_stack *)head;
    (void)arg;
    seen.copies += head->type == BPF_RECORD_COPY;
    if (head->type != BPF_RECORD_STACK || find(s->key) || seen.count == STACKS_MAX)
        return 0;
    seen.stacks[seen.count++] = (struct stack){
        .key = s->key,
        .tid = head->tid,
        .kind = s->kind,
        .end = s->end,
        .kernel_depth = s->kernel_depth,
        .is_of_sleeper = goes_through(s, sleep_often),
    };
    return 0;
}

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    const struct stack *s = find(key);
    (void)arg;
    if (!s) {
        seen.unknown++;
        return 0;
    }
    seen.reader_ns += s->tid == truth->reader ? sum->ns : 0;
    if (s->tid != truth->sleeper || !s->is_of_sleeper)
        return 0;
    assert_int_equal(s->end, BPF_END_ROOT);
    assert_true(s->kernel_depth > 2);
    if (s->kind == BPF_SAMPLE_OFFCPU) {
        seen.sleeper_ns += sum->ns;
        seen.sleeper_waits += sum->count;
    } else {
        assert_int_equal(s->kind, BPF_SAMPLE_PREEMPTED);
        seen.preempted_ns += sum->ns;
    }
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

static struct bpf_programs *load(uint32_t waits_max)
{
    struct bpf_programs *p = NULL;
    struct fscope_error err = {0};
    struct bpf_programs_options o = {
        .size = sizeof o,
        .offcpu = 1,
        .sums_max = 4096,
        .waits_max = waits_max,
        .config = {.filter = BPF_FILTER_TARGETS,
                   .inherit = 1,
                   .stack_copy = 4096,
                   .kernel_stacks = 1},
    };
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    if (bpf_programs_new(&p, &o, &err))
        fail_msg("%s", err.text);
    return p;
}

static void waits_last_as_long_as_a_thread_does_not_run(void **state)
{
    (void)state;
    struct fscope_error err;
    struct timespec t = {.tv_nsec = 10000000};
    struct bpf_programs *p = load(0);
    truth = mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(truth, MAP_FAILED);
    pid_t pid = start_child();
    while (!truth->sleeper || !truth->reader)
        nanosleep(&t, NULL);
    fill_for(p, pid);
    assert_int_equal(bpf_programs_target(p, pid, SLOT), 0);
    if (bpf_programs_start(p, &err))
        fail_msg("%s", err.text);
    truth->may_go = 1;
    while (!truth->is_done) { // sums are emptied while waits last
        nanosleep(&t, NULL);
        assert_int_equal(bpf_programs_sums(p, on_record, on_sum, NULL), 0);
    }
    bpf_programs_stop(p);
    uint64_t stopped = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 2; i++)
        assert_int_equal(bpf_programs_sums(p, on_record, on_sum, NULL), 0);
    uint64_t reader_before = seen.reader_ns;
    assert_int_equal(bpf_programs_waits(p, on_sum, NULL), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);

    // What it did not run is what it waited, asleep or preempted; clocks are read around it.
    uint64_t waited = seen.sleeper_ns + seen.preempted_ns, away = truth->wall_ns - truth->cpu_ns;
    print_message("waited %.3f ms, away %.3f ms, preempted %.3f ms\n", (double)waited / 1e6,
                  (double)away / 1e6, (double)seen.preempted_ns / 1e6);
    assert_true(waited <= away + away / 50);
    assert_true(waited >= away - away / 20);
    // Whose processor is taken as it goes to sleep, and whose time is up before it has it again, never slept.
    assert_in_range(seen.sleeper_waits, SLEEPS - 3, SLEEPS);
    assert_true(waited >= (uint64_t)SLEEPS * SLEEP_NS);
    // The wait that nobody ended.
    uint64_t lasted = seen.reader_ns - reader_before;
    assert_true(lasted > 0 && lasted >= (stopped - truth->reads_since) * 9 / 10);
    assert_int_equal(seen.unknown, 0);
    assert_int_equal(seen.copies, 0);
    bpf_programs_free(p);
}

static void more_waits_than_room_are_counted(void **state)
{
    (void)state;
    struct fscope_error err;
    struct bpf_losses losses;
    struct timespec t = {.tv_nsec = 10000000};
    struct bpf_programs *p = load(1);
    memset(truth, 0, sizeof *truth);
    pid_t pid = start_child();
    while (!truth->sleeper || !truth->reader)
        nanosleep(&t, NULL);
    assert_int_equal(bpf_programs_target(p, pid, 0), 0);
    if (bpf_programs_start(p, &err))
        fail_msg("%s", err.text);
    truth->may_go = 1;
    while (!truth->is_done)
        nanosleep(&t, NULL);
    bpf_programs_stop(p);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    bpf_programs_losses(p, &losses);
    assert_true(losses.waits > 0 && losses.waits <= 3 * SLEEPS);
    bpf_programs_free(p);
}

static int on_early(void *arg, const struct bpf_head *head)
{
    const struct bpf_copy *c = (const struct bpf_copy *)head;
    uint32_t *tids = arg;
    assert_int_equal(head->type, BPF_RECORD_WAITING);
    assert_true(c->key && c->kernel_depth > 2 && c->stack_bytes > 0 && c->rsp);
    assert_true(sizeof *c + 8 * (size_t)c->kernel_depth + c->stack_bytes == head->size);
    for (int i = 0; i < 3; i++)
        tids[i] = tids[i] == head->tid ? 0 : tids[i];
    return 0;
}

static void threads_that_wait_already_are_told(void **state)
{
    (void)state;
    struct fscope_error err;
    struct timespec t = {.tv_nsec = 10000000};
    struct bpf_programs *p = load(0);
    memset(truth, 0, sizeof *truth);
    pid_t pid = start_child();
    while (!truth->sleeper || !truth->reader)
        nanosleep(&t, NULL);
    truth->may_go = 1; // the reader waits from then on, as the first thread does
    while (!truth->reads_since)
        nanosleep(&t, NULL);
    nanosleep(&t, NULL);
    assert_int_equal(bpf_programs_target(p, pid, 0), 0);
    if (bpf_programs_start(p, &err))
        fail_msg("%s", err.text);
    uint32_t missing[3] = {(uint32_t)pid, truth->reader, 0};
    assert_int_equal(bpf_programs_waiting(p, on_early, missing), 0);
    assert_true(!missing[0] && !missing[1]);
    bpf_programs_stop(p);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    bpf_programs_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_last_as_long_as_a_thread_does_not_run),
        cmocka_unit_test(more_waits_than_room_are_counted),
        cmocka_unit_test(threads_that_wait_already_are_told),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
