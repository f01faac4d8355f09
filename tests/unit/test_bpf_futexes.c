// SPDX-License-Identifier: MIT
//
// What must hold of futexes seen by BPF, by a program that makes the system calls itself and knows how long each wait took: a
// wait counts once and as long as it lasted, at the stack that waited; a wake is charged with what the others had waited; what
// is no lock is charged to nobody; what finds no room is counted; who is killed has waited until then.

#include "tests/conformance/bpf_fill.h"
#include "tests/unit/skip.h"

#include <errno.h>
#include <linux/futex.h>
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

enum { SLOT = 1, WAITERS = 3, TIMEOUTS = 5, MANY = 20, STACKS_MAX = 1000, FUNCTION_BYTES = 512 };
enum { MS = 1000000 };

struct truth { // shared with the child
    _Atomic uint32_t may_go, is_ready, is_done, asleep;
    _Atomic uint64_t start_sum, held_ns, again_ns, timed_ns, stopped_ns; // as the waiters measured
    uint64_t owed_ns;                                                    // as who woke did
    uint32_t held, again, timed, sem, stopped, many[MANY], forever;      // the words
    uint64_t forever_since;
};

struct stack {
    uint64_t key, object;
    uint32_t kind, hint, kernel_depth;
    bool is_whole;
};

struct sum {
    uint64_t count, ns;
};

static struct truth *truth;
static struct stack stacks[STACKS_MAX];
static size_t stack_count;
static void (*expected_in)(void); // where the waits for truth->held are
static struct {
    struct sum held, held_wakes, again, again_wakes, timed, timed_wakes, sem, sem_wakes, stopped,
        many, forever, other;
    uint64_t unknown, copies;
} seen;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * MS};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

// --- The child.

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

__attribute__((noinline)) static void wait_held(void)
{
    uint64_t began = now_ns();
    truth->start_sum += began;
    truth->asleep++;
    futex(&truth->held, FUTEX_WAIT, 2, NULL);
    truth->held_ns += now_ns() - began;
}

static void *waiter(void *arg)
{
    wait_held();
    return arg;
}

// Woken, and taken by another: so it waits once more, for the same lock.
static void *waiter_again(void *arg)
{
    uint64_t began = now_ns();
    while (__atomic_load_n(&truth->again, __ATOMIC_ACQUIRE) == 2)
        futex(&truth->again, FUTEX_WAIT, 2, NULL);
    truth->again_ns += now_ns() - began;
    return arg;
}

static void *waiter_of_semaphore(void *arg)
{
    futex(&truth->sem, FUTEX_WAIT, 0, NULL);
    return arg;
}

static void *waiter_stopped(void *arg)
{
    struct timespec t = {.tv_nsec = 400 * MS};
    uint64_t began = now_ns();
    futex(&truth->stopped, FUTEX_WAIT, 2, &t);
    truth->stopped_ns = now_ns() - began;
    return arg;
}

static void hold_and_release(void)
{
    pthread_t t[WAITERS];
    truth->held = 2;
    for (int i = 0; i < WAITERS; i++)
        pthread_create(&t[i], NULL, waiter, NULL);
    while (truth->asleep < WAITERS)
        sleep_ms(1);
    sleep_ms(60);
    truth->owed_ns = WAITERS * now_ns() - truth->start_sum;
    truth->held = 0;
    futex(&truth->held, FUTEX_WAKE, WAITERS, NULL);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(t[i], NULL);
}

static void wake_twice(void)
{
    pthread_t t;
    truth->again = 2;
    pthread_create(&t, NULL, waiter_again, NULL);
    sleep_ms(20);
    futex(&truth->again, FUTEX_WAKE, 1, NULL);
    sleep_ms(20);
    __atomic_store_n(&truth->again, 0, __ATOMIC_RELEASE);
    futex(&truth->again, FUTEX_WAKE, 1, NULL);
    pthread_join(t, NULL);
}

static void post(void)
{
    pthread_t t;
    pthread_create(&t, NULL, waiter_of_semaphore, NULL);
    sleep_ms(10);
    truth->sem = 1;
    futex(&truth->sem, FUTEX_WAKE, 1, NULL);
    pthread_join(t, NULL);
}

static void time_out(void)
{
    struct timespec t = {.tv_nsec = 5 * MS};
    uint64_t began = now_ns();
    truth->timed = 2;
    for (int i = 0; i < TIMEOUTS; i++)
        futex(&truth->timed, FUTEX_WAIT, 2, &t);
    truth->timed_ns = now_ns() - began;
    for (int i = 0; i < 10; i++) // the value is another: no waits
        futex(&truth->timed, FUTEX_WAIT, 3, NULL);
    futex(&truth->timed, FUTEX_WAKE, 1, NULL); // nobody is there
}

static void be_stopped(void)
{
    pthread_t t;
    truth->stopped = 2;
    pthread_create(&t, NULL, waiter_stopped, NULL);
    sleep_ms(50);
    truth->is_ready = 2; // to be stopped
    pthread_join(t, NULL);
}

static void *waiter_of_many(void *word)
{
    struct timespec t = {.tv_nsec = 30 * MS};
    *(uint32_t *)word = 2;
    futex(word, FUTEX_WAIT, 2, &t);
    return word;
}

static void wait_for_many(void)
{
    pthread_t t[MANY];
    for (int i = 0; i < MANY; i++)
        pthread_create(&t[i], NULL, waiter_of_many, &truth->many[i]);
    for (int i = 0; i < MANY; i++)
        pthread_join(t[i], NULL);
}

static void wait_forever(void)
{
    truth->forever = 2;
    truth->forever_since = now_ns();
    truth->is_done = 1;
    for (;;)
        futex(&truth->forever, FUTEX_WAIT, 2, NULL);
}

static void all(void)
{
    hold_and_release();
    wake_twice();
    post();
    time_out();
    be_stopped();
}

static pid_t start_child(void (*fn)(void))
{
    memset(truth, 0, sizeof *truth);
    pid_t pid = fork();
    if (pid)
        return pid;
    truth->is_ready = 1;
    while (!truth->may_go)
        sleep_ms(1);
    fn();
    truth->is_done = 1;
    _exit(0);
}

// --- What BPF saw.

static const struct stack *find(uint64_t key)
{
    for (size_t i = 0; i < stack_count; i++)
        if (stacks[i].key == key)
            return &stacks[i];
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
    if (head->type != BPF_RECORD_STACK || find(s->key) || stack_count == STACKS_MAX)
        return 0;
    bool is_held = s->object == (uintptr_t)&truth->held && s->kind == BPF_SAMPLE_BLOCK;
    stacks[stack_count++] = (struct stack){
        .key = s->key,
        .object = s->object,
        .kind = s->kind,
        .hint = s->hint,
        .kernel_depth = s->kernel_depth,
        .is_whole = s->end == BPF_END_ROOT && (!is_held || goes_through(s, expected_in)),
    };
    return 0;
}

static struct sum *sum_of(const struct stack *s)
{
    bool is_block = s->kind == BPF_SAMPLE_BLOCK;
    uintptr_t many = (uintptr_t)truth->many;
    if (s->object == (uintptr_t)&truth->held)
        return is_block ? &seen.held : &seen.held_wakes;
    if (s->object == (uintptr_t)&truth->again)
        return is_block ? &seen.again : &seen.again_wakes;
    if (s->object == (uintptr_t)&truth->timed)
        return is_block ? &seen.timed : &seen.timed_wakes;
    if (s->object == (uintptr_t)&truth->sem)
        return is_block ? &seen.sem : &seen.sem_wakes;
    if (s->object == (uintptr_t)&truth->stopped)
        return &seen.stopped;
    if (s->object == (uintptr_t)&truth->forever)
        return &seen.forever;
    return s->object - many < sizeof truth->many ? &seen.many : &seen.other;
}

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    const struct stack *s = find(key);
    (void)arg;
    if (!s) {
        seen.unknown++;
        return 0;
    }
    struct sum *to = sum_of(s);
    if (to != &seen.other) {
        assert_true(s->is_whole);
        assert_int_equal(s->kernel_depth, 0);
        assert_int_equal(s->hint, to == &seen.sem ? 0 : BPF_FUTEX_IS_LOCK);
    }
    to->count += sum->count;
    to->ns += sum->ns;
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

static struct bpf_programs *start(pid_t pid, uint32_t locks, uint32_t threads)
{
    struct bpf_programs *p = NULL;
    struct fscope_error err = {0};
    struct bpf_programs_options o = {
        .size = sizeof o,
        .sums_max = 4096,
        .config = {.filter = BPF_FILTER_TARGETS,
                   .inherit = 1,
                   .kernel_stacks = 1,
                   .block_ns = 1,
                   .mutex_fraction = 1,
                   .futex_locks = locks,
                   .futex_threads = threads},
    };
    stack_count = 0;
    memset(&seen, 0, sizeof seen);
    if (bpf_programs_new(&p, &o, &err))
        fail_msg("%s", err.text);
    while (!truth->is_ready)
        sleep_ms(1);
    fill_for(p, pid);
    assert_int_equal(bpf_programs_target(p, pid, SLOT), 0);
    if (bpf_programs_start(p, &err))
        fail_msg("%s", err.text);
    truth->may_go = 1;
    return p;
}

static void take_sums(struct bpf_programs *p)
{
    bpf_programs_stop(p);
    for (int i = 0; i < 2; i++)
        assert_int_equal(bpf_programs_sums(p, on_record, on_sum, NULL), 0);
    assert_int_equal(seen.unknown, 0);
    assert_int_equal(seen.copies, 0);
}

static void check(const char *what, const struct sum *s, uint64_t count, uint64_t ns)
{
    print_message("%s: %llu of %llu, %.3f of %.3f ms\n", what, (unsigned long long)s->count,
                  (unsigned long long)count, (double)s->ns / 1e6, (double)ns / 1e6);
    assert_int_equal(s->count, count);
    // 2 %, and what lies between the program's clock and the kernel's.
    assert_true(s->ns <= ns + ns / 50 + 1 * MS);
    assert_true(s->ns + ns / 50 + 3 * MS >= ns);
}

static void need_root(void)
{
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
}

// --- Tests.

static void waits_and_charges_are_what_the_program_measured(void **state)
{
    (void)state;
    need_root();
    expected_in = wait_held;
    pid_t pid = start_child(all);
    struct bpf_programs *p = start(pid, 0, 0);
    while (truth->is_ready != 2)
        sleep_ms(1);
    kill(pid, SIGSTOP);
    sleep_ms(100);
    kill(pid, SIGCONT);
    waitpid(pid, NULL, 0);
    take_sums(p);
    check("waits", &seen.held, WAITERS, truth->held_ns);
    check("charge", &seen.held_wakes, 1, truth->owed_ns);
    check("one wait in two parts", &seen.again, 1, truth->again_ns);
    // Who was woken first did not get it, so that was not the end of the contention.
    check("its two charges", &seen.again_wakes, 1, truth->again_ns);
    check("timeouts", &seen.timed, TIMEOUTS, truth->timed_ns);
    assert_int_equal(seen.timed_wakes.ns, 0); // who timed out has taken its part along
    assert_int_equal(seen.sem.count, 1);
    assert_int_equal(seen.sem_wakes.count, 0);
    // It waits on in another system call, less the time in which it was stopped.
    check("stopped", &seen.stopped, 1,
          truth->stopped_ns > 100 * MS ? truth->stopped_ns - 100 * MS : 0);
    bpf_programs_free(p);
}

static void what_finds_no_room_is_counted(void **state)
{
    (void)state;
    struct bpf_losses l;
    need_root();
    expected_in = wait_held;
    pid_t pid = start_child(wait_for_many);
    struct bpf_programs *p = start(pid, BPF_FUTEX_PROBES, 0);
    waitpid(pid, NULL, 0);
    take_sums(p);
    bpf_programs_losses(p, &l);
    assert_int_equal(seen.many.count, MANY); // the waits themselves are all there
    assert_in_range(l.locks, MANY - BPF_FUTEX_PROBES, MANY);
    bpf_programs_free(p);

    pid = start_child(wait_for_many);
    p = start(pid, 0, 4);
    waitpid(pid, NULL, 0);
    take_sums(p);
    bpf_programs_losses(p, &l);
    assert_true(l.waits > 0);
    assert_true(seen.many.count < MANY);
    bpf_programs_free(p);
}

static void who_is_killed_has_waited_until_then(void **state)
{
    (void)state;
    need_root();
    pid_t pid = start_child(wait_forever);
    struct bpf_programs *p = start(pid, 0, 0);
    while (!truth->is_done)
        sleep_ms(1);
    sleep_ms(100);
    uint64_t ns = now_ns() - truth->forever_since;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    take_sums(p);
    check("killed", &seen.forever, 1, ns);
    bpf_programs_free(p);
}

static int make_truth(void **state)
{
    (void)state;
    truth = mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return truth == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_and_charges_are_what_the_program_measured),
        cmocka_unit_test(what_finds_no_room_is_counted),
        cmocka_unit_test(who_is_killed_has_waited_until_then),
    };
    return skip_status(cmocka_run_group_tests(tests, make_truth, NULL));
}
