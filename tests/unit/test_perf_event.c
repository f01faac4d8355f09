// SPDX-License-Identifier: MIT
//
// A clock opened from outside signals exactly its thread, at the asked rate and until it is stopped;
// and a refusal is told by its cause.

#include "collector/perf_event.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

struct shared { // with the child
    _Atomic int ready, stop;
    _Atomic int tids[2];
    _Atomic uint64_t signals[2], elsewhere, cpu_ns[2];
};

static struct shared *shared;
static _Thread_local int self = -1;

static void on_prof(int sig)
{
    (void)sig;
    if (self < 0)
        atomic_fetch_add(&shared->elsewhere, 1);
    else
        atomic_fetch_add(&shared->signals[self], 1);
}

static void *spinner(void *arg)
{
    self = (int)(intptr_t)arg;
    atomic_store(&shared->tids[self], (int)syscall(SYS_gettid));
    atomic_fetch_add(&shared->ready, 1);
    struct timespec t;
    while (!atomic_load(&shared->stop)) {
        for (volatile int i = 0; i < 100000; i++)
            ;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        atomic_store(&shared->cpu_ns[self], (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
    }
    return NULL;
}

static pid_t start_child(void)
{
    memset(shared, 0, sizeof *shared);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction act = {.sa_handler = on_prof, .sa_flags = SA_RESTART};
        pthread_t t[2];
        sigaction(SIGPROF, &act, NULL);
        for (intptr_t i = 0; i < 2; i++)
            pthread_create(&t[i], NULL, spinner, (void *)i);
        for (int i = 0; i < 2; i++)
            pthread_join(t[i], NULL);
        _exit(0);
    }
    while (atomic_load(&shared->ready) < 2)
        usleep(1000);
    return pid;
}

static void end_child(pid_t pid)
{
    int status;
    atomic_store(&shared->stop, 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static uint64_t child_cpu(void)
{
    return atomic_load(&shared->cpu_ns[0]) + atomic_load(&shared->cpu_ns[1]);
}

static void wait_cpu(uint64_t more_ns)
{
    uint64_t from = child_cpu();
    while (child_cpu() - from < more_ns)
        usleep(5000);
}

static int need_events(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

// Why perf_event_open is refused here; 0 where it is not.
static int events_error(void)
{
    struct perf_rights r;
    perf_rights_probe(&r);
    return r.user ? 0 : r.user_error ? r.user_error : EPERM;
}

#define NEED_EVENTS()                                                                              \
    do {                                                                                           \
        int refused = events_error();                                                              \
        if (refused)                                                                               \
            SKIP_CASE("perf_event_open is refused here (%s)", strerror(refused));                  \
    } while (0)

static uint64_t signals_so_far(void)
{
    return atomic_load(&shared->signals[0]) + atomic_load(&shared->signals[1]);
}

// A host that takes the processor away merges the ticks that fell due meanwhile into one signal, so
// one window of several has to reach the rate. None may have more than was asked for.
static bool delivers_once(struct perf_clocks *c, double least, double most)
{
    for (int window = 0; window < 8; window++) {
        uint64_t cpu_ns = perf_clocks_cpu_ns(c), got = signals_so_far();
        wait_cpu(300000000);
        got = signals_so_far() - got;
        cpu_ns = perf_clocks_cpu_ns(c) - cpu_ns;
        double rate = (double)got * 1e9 / (double)cpu_ns;
        print_message("%.0f signals per CPU second\n", rate);
        assert_true(rate < most);
        if (rate > least)
            return true;
    }
    return false;
}

static void every_thread_gets_its_own_signals(void **state)
{
    (void)state;
    NEED_EVENTS();
    pid_t pid = start_child();
    struct perf_clocks_options o = {.size = sizeof o, .pid = pid, .hz = 999};
    struct perf_clocks *c;
    struct fscope_error err = {0};
    assert_int_equal(perf_clocks_new(&c, &o), 0);
    for (int i = 0; i < 2; i++) {
        int rc = perf_clocks_add(c, atomic_load(&shared->tids[i]), &err);
        if (rc)
            fail_msg("%s", err.text);
    }
    assert_true(delivers_once(c, 950, 1050));
    assert_true(atomic_load(&shared->signals[0]) > 0 && atomic_load(&shared->signals[1]) > 0);
    assert_int_equal(atomic_load(&shared->elsewhere), 0);

    assert_int_equal(perf_clocks_set_rate(c, 0), 0);
    usleep(20000);
    uint64_t paused = signals_so_far();
    wait_cpu(100000000);
    assert_int_equal(signals_so_far(), paused);
    assert_int_equal(perf_clocks_set_rate(c, 99), 0);
    wait_cpu(300000000);
    assert_true(signals_so_far() > paused);

    perf_clocks_free(c);
    end_child(pid);
}

static void sync_finds_threads_and_forgets_dead_ones(void **state)
{
    (void)state;
    NEED_EVENTS();
    pid_t pid = start_child();
    struct perf_clocks_options o = {.size = sizeof o, .pid = pid, .hz = 99};
    struct perf_clocks *c;
    struct fscope_error err = {0};
    assert_int_equal(perf_clocks_new(&c, &o), 0);
    assert_int_equal(perf_clocks_sync(c, &err), 3); // main and the two
    assert_int_equal(perf_clocks_sync(c, &err), 3);
    perf_clocks_remove(c, atomic_load(&shared->tids[0]));
    perf_clocks_remove(c, 1); // not ours: nothing happens
    assert_int_equal(perf_clocks_count(c), 2);
    end_child(pid);
    assert_true(perf_clocks_sync(c, &err) <= 0);
    perf_clocks_free(c);
}

static void no_such_thread_is_said(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    struct perf_clocks_options o = {.size = sizeof o, .pid = pid, .hz = 99};
    struct perf_clocks *c;
    struct fscope_error err = {0};
    assert_int_equal(perf_clocks_new(&c, &o), 0);
    assert_int_equal(perf_clocks_sync(c, &err), -ESRCH);
    assert_non_null(strstr(err.text, "has ended"));
    perf_clocks_free(c);
    perf_clocks_free(NULL);
}

static void too_few_descriptors_is_said(void **state)
{
    (void)state;
    NEED_EVENTS();
    pid_t pid = fork();
    if (pid == 0) { // the limit must not stay with the other tests
        int lowest = dup(0);
        struct rlimit l = {.rlim_cur = (rlim_t)lowest, .rlim_max = (rlim_t)lowest};
        close(lowest);
        struct perf_clocks_options o = {.size = sizeof o, .pid = getpid(), .hz = 99};
        struct perf_clocks *c;
        struct fscope_error err = {0};
        if (setrlimit(RLIMIT_NOFILE, &l) || perf_clocks_new(&c, &o))
            _exit(2);
        int rc = perf_clocks_add(c, getpid(), &err);
        _exit(rc == -EMFILE && strstr(err.text, "ulimit -n") ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void every_refusal_has_a_remedy(void **state)
{
    (void)state;
    static const struct {
        int error;
        enum perf_refusal why;
        const char *says;
    } cases[] = {
        {EPERM, PERF_REFUSED_SECCOMP, "seccomp"},
        {ESRCH, PERF_REFUSED_NO_TARGET, "has ended"},
        {EMFILE, PERF_REFUSED_DESCRIPTORS, "ulimit -n"},
        {ENOMEM, PERF_REFUSED_MEMORY, "mlock_kb"},
        {ENOENT, PERF_REFUSED_NO_EVENT, "kernel"},
        {EBUSY, PERF_REFUSED_OTHER, "busy"},
    };
    char text[320];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(perf_event_classify(cases[i].error, 0), cases[i].why);
        perf_event_explain(cases[i].why, cases[i].error, 0x7ffffff0, text, sizeof text);
        assert_non_null(strstr(text, cases[i].says));
    }
    assert_int_equal(perf_event_classify(EACCES, 0), PERF_REFUSED_PARANOID);
    perf_event_explain(PERF_REFUSED_PARANOID, EACCES, 0, text, sizeof text);
    assert_non_null(strstr(text, "perf_event_paranoid"));
}

static void the_timer_is_capped_and_the_event_is_not(void **state)
{
    (void)state;
    double timer = perf_delivered_rate(false, 999, 200000000);
    assert_true(timer > 50 && timer < 1100); // CONFIG_HZ is 100..1000
    NEED_EVENTS();
    double event = 0;
    for (int window = 0; window < 8 && event < 900; window++) // see delivers_once
        event = perf_delivered_rate(true, 999, 200000000);
    print_message("timer %.0f, event %.0f per CPU second\n", timer, event);
    assert_true(event > 900 && event < 1100);
    assert_true(perf_delivered_rate(true, 0, 1) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_gets_its_own_signals),
        cmocka_unit_test(sync_finds_threads_and_forgets_dead_ones),
        cmocka_unit_test(no_such_thread_is_said),
        cmocka_unit_test(too_few_descriptors_is_said),
        cmocka_unit_test(every_refusal_has_a_remedy),
        cmocka_unit_test(the_timer_is_capped_and_the_event_is_not),
    };
    return skip_status(cmocka_run_group_tests(tests, need_events, NULL));
}
