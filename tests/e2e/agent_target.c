// SPDX-License-Identifier: MIT
//
// Programs that in-process CPU profilers have been known to crash, hang or change: one per mode.
// Each prints "ok" when everything it looked at went as it does without a profiler; `cpu TID NS`
// lines tell the CPU time that its threads used.

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);              \
            _exit(3);                                                                              \
        }                                                                                          \
    } while (0)

static volatile unsigned long sink;

static double clock_of(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void burn(double seconds)
{
    double until = clock_of(CLOCK_THREAD_CPUTIME_ID) + seconds;
    do
        for (int i = 0; i < 20000; i++)
            sink += (unsigned long)i;
    while (clock_of(CLOCK_THREAD_CPUTIME_ID) < until);
}

// What the main thread had used when main began: fork, exec and the loader, which on a busy machine
// take tens of milliseconds, some of them before there is an agent.
static struct {
    long tid;
    double seconds;
} start_up;

static void report_cpu(void)
{
    long tid = syscall(SYS_gettid);
    printf("cpu %ld %.0f %.0f\n", tid, clock_of(CLOCK_THREAD_CPUTIME_ID) * 1e9,
           tid == start_up.tid ? start_up.seconds * 1e9 : 0.0);
    fflush(stdout);
}

static int count_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(int *)arg += info->dlpi_phnum;
    return 0;
}

static void *loader_thread(void *arg)
{
    (void)arg;
    double until = clock_of(CLOCK_MONOTONIC) + 1.0;
    while (clock_of(CLOCK_MONOTONIC) < until) {
        void *h = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        void *again = dlopen("libz.so.1", RTLD_NOW);
        int n = 0;
        CHECK(h);
        dl_iterate_phdr(count_module, &n);
        if (again)
            dlclose(again);
        dlclose(h);
    }
    return NULL;
}

static void *malloc_thread(void *arg)
{
    double until = clock_of(CLOCK_MONOTONIC) + 1.0;
    while (clock_of(CLOCK_MONOTONIC) < until)
        for (size_t n = 1; n < 300; n++) {
            void *p = malloc(n * n), *q = strdup("a string of some length");
            CHECK(p && q);
            free(p);
            free(q);
        }
    return arg;
}

static void run_two(void *(*fn)(void *))
{
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&t[i], NULL, fn, NULL));
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_join(t[i], NULL));
}

static void mode_loader(void)
{
    run_two(loader_thread);
}

static void mode_malloc(void)
{
    run_two(malloc_thread);
}

// The CPU time of parent and child must each show in its own recording.
static void mode_fork(void)
{
    burn(0.3);
    pid_t pid = fork();
    CHECK(pid >= 0);
    burn(pid ? 0.1 : 0.5);
    report_cpu();
    if (!pid)
        exit(0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void mode_vfork(void)
{
    for (int i = 0; i < 100; i++) {
        pid_t pid = vfork();
        if (!pid) {
            if (i % 2)
                execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
        burn(0.003);
    }
    report_cpu();
}

// SIGPROFs while in the kernel must not show as EINTR where SA_RESTART restarts, and a thread that
// only sleeps uses no CPU time and so gets none.
static void *pipe_writer(void *arg)
{
    int fd = *(int *)arg;
    for (int i = 0; i < 20; i++) {
        burn(0.005);
        CHECK(write(fd, "x", 1) == 1);
    }
    close(fd);
    return NULL;
}

static void mode_eintr(void)
{
    int fds[2];
    char c;
    pthread_t t;
    CHECK(!pipe(fds));
    CHECK(!pthread_create(&t, NULL, pipe_writer, &fds[1]));
    for (int i = 0; i < 20; i++)
        CHECK(read(fds[0], &c, 1) == 1);
    CHECK(!pthread_join(t, NULL));
    // A signal due at the moment the sleep begins does show, as with any profiler by signal: the
    // rest is slept when asked for again, and it is rare.
    int interrupted = 0;
    for (int i = 0; i < 200; i++) {
        struct timespec ms = {0, 1000000};
        while (nanosleep(&ms, &ms)) {
            CHECK(errno == EINTR);
            interrupted++;
        }
    }
    CHECK(interrupted < 20);
}

// A signal that is pending while the image changes must not kill it: exec with the CPU busy.
static void mode_exec(void)
{
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        if (!pid) {
            burn(0.012); // long enough to have been given its own sampling
            char *const argv[] = {"true", NULL};
            execvp("true", argv);
            _exit(9);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(status == 0);
    }
    CHECK(execl("/nonexistent/program", "x", (char *)NULL) == -1 && errno == ENOENT);
    burn(0.2); // sampling goes on after an exec that failed
    report_cpu();
}

static volatile sig_atomic_t own_signals, own_info;

static void own_handler(int signal)
{
    (void)signal;
    own_signals++;
}

static void own_info_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    own_info += info->si_code == SI_QUEUE && info->si_value.sival_int == 42;
}

// A target with its own SIGPROF timer gets its own signals and none of ours. A standard signal is not
// queued: one of ours that is pending at the moment swallows the target's, which a tick in the 1 us
// between raise and delivery can do.
static void mode_sigprof(void)
{
    struct sigaction mine = {0}, old;
    CHECK(!sigaction(SIGPROF, NULL, &old) && old.sa_handler == SIG_DFL);
    CHECK(signal(SIGPROF, own_handler) == SIG_DFL);
    burn(0.2);
    CHECK(own_signals == 0);
    for (int i = 0; i < 50; i++)
        CHECK(!raise(SIGPROF));
    CHECK(own_signals >= 46 && own_signals <= 50);
    struct itimerval each = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}};
    CHECK(!setitimer(ITIMER_PROF, &each, NULL));
    burn(0.3);
    CHECK(!setitimer(ITIMER_PROF, &off, NULL));
    CHECK(own_signals >= 56 && own_signals <= 90);
    mine.sa_sigaction = own_info_handler;
    mine.sa_flags = SA_SIGINFO;
    CHECK(!sigaction(SIGPROF, &mine, &old) && old.sa_handler == own_handler);
    for (int i = 0; i < 20; i++)
        CHECK(!sigqueue(getpid(), SIGPROF, (union sigval){.sival_int = 42}));
    CHECK(own_info >= 17 && own_info <= 20);
    mine.sa_handler = SIG_IGN;
    mine.sa_flags = 0;
    CHECK(!sigaction(SIGPROF, &mine, NULL) && !raise(SIGPROF));
    report_cpu();
}

// Without a handler a SIGPROF from outside ends the program, as it always did.
static void mode_sigprof_default(void)
{
    burn(0.1);
    raise(SIGPROF);
}

// Time spent with everything blocked is charged to the first sample after.
static void mode_blocked(void)
{
    sigset_t all, old;
    sigfillset(&all);
    for (int i = 0; i < 10; i++) {
        CHECK(!pthread_sigmask(SIG_BLOCK, &all, &old));
        burn(0.05);
        CHECK(!pthread_sigmask(SIG_SETMASK, &old, NULL));
        burn(0.005);
    }
    report_cpu();
}

static void *burn_and_report(void *arg)
{
    burn(*(double *)arg);
    report_cpu();
    return NULL;
}

// Daemons block all signals before they make threads, and one thread waits for all of them.
static void mode_born_blocked(void)
{
    sigset_t all;
    pthread_t t;
    double seconds = 0.5;
    int got = 0;
    sigfillset(&all);
    CHECK(!pthread_sigmask(SIG_BLOCK, &all, NULL));
    CHECK(!pthread_create(&t, NULL, burn_and_report, &seconds));
    burn(0.2);
    CHECK(!kill(getpid(), SIGUSR1));
    CHECK(!sigwait(&all, &got) && got == SIGUSR1);
    CHECK(!pthread_join(t, NULL));
}

static void mode_small_stack(void)
{
    pthread_attr_t attr;
    pthread_t t;
    double seconds = 0.3;
    CHECK(!pthread_attr_init(&attr));
    CHECK(!pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN)));
    CHECK(!pthread_create(&t, &attr, burn_and_report, &seconds));
    CHECK(!pthread_join(t, NULL));
}

static void *storm_thread(void *arg)
{
    burn(0.002);
    if ((long)arg % 3 == 0)
        pthread_exit(NULL);
    return NULL;
}

static void mode_storm(void)
{
    for (int round = 0; round < 20; round++) {
        pthread_t t[64];
        for (long i = 0; i < 64; i++)
            CHECK(!pthread_create(&t[i], NULL, storm_thread, (void *)i));
        for (int i = 0; i < 64; i++)
            CHECK(!pthread_join(t[i], NULL));
    }
}

static void *cancelled_thread(void *arg)
{
    for (;;) {
        burn(0.001);
        pthread_testcancel();
    }
    return arg;
}

static void mode_cancel(void)
{
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        void *result;
        CHECK(!pthread_create(&t, NULL, cancelled_thread, NULL));
        burn(0.01);
        CHECK(!pthread_cancel(t));
        CHECK(!pthread_join(t, &result) && result == PTHREAD_CANCELED);
    }
}

static int c11_thread(void *arg)
{
    burn_and_report(arg);
    return 42;
}

static void mode_c11(void)
{
    thrd_t t;
    int result = 0;
    double seconds = 0.4;
    CHECK(thrd_create(&t, c11_thread, &seconds) == thrd_success);
    CHECK(thrd_join(t, &result) == thrd_success && result == 42);
}

static ucontext_t main_context, coroutine;

static void coroutine_body(void)
{
    for (;;) {
        burn(0.01);
        swapcontext(&coroutine, &main_context);
    }
}

// Stacks that libc does not know, with nothing mapped around them.
static void mode_coroutine(void)
{
    size_t size = 65536;
    char *area = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED && !mprotect(area + size, size, PROT_READ | PROT_WRITE));
    CHECK(!getcontext(&coroutine));
    coroutine.uc_stack.ss_sp = area + size;
    coroutine.uc_stack.ss_size = size;
    makecontext(&coroutine, coroutine_body, 0);
    for (int i = 0; i < 30; i++)
        swapcontext(&main_context, &coroutine);
    report_cpu();
}

static void on_usr1(int signal)
{
    (void)signal;
    burn(0.2);
}

static void mode_alt_stack(void)
{
    static char stack[65536];
    stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction a = {0};
    a.sa_handler = on_usr1;
    a.sa_flags = SA_ONSTACK;
    CHECK(!sigaltstack(&s, NULL) && !sigaction(SIGUSR1, &a, NULL));
    CHECK(!raise(SIGUSR1));
    report_cpu();
}

static void mode_burn(void)
{
    pthread_t t;
    double seconds = 1.0;
    CHECK(!pthread_create(&t, NULL, burn_and_report, &seconds));
    burn(1.0);
    report_cpu();
    CHECK(!pthread_join(t, NULL));
}

static void mode_syscalls(void)
{
    double until = clock_of(CLOCK_THREAD_CPUTIME_ID) + 1.0;
    while (clock_of(CLOCK_THREAD_CPUTIME_ID) < until)
        for (int i = 0; i < 1000; i++)
            syscall(SYS_getppid);
    report_cpu();
}

static void *sleeper(void *arg)
{
    struct timespec t = {1, 0};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        ;
    return arg;
}

static void mode_wall(void)
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, sleeper, NULL));
    burn(0.5);
    CHECK(!pthread_join(t, NULL));
}

static void mode__exit(void)
{
    burn(0.2);
    report_cpu();
    printf("ok\n");
    fflush(stdout);
    _exit(7);
}

static void mode_quick_exit(void)
{
    burn(0.2);
    report_cpu();
    printf("ok\n");
    fflush(stdout);
    quick_exit(7);
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"loader", mode_loader},
    {"malloc", mode_malloc},
    {"fork", mode_fork},
    {"vfork", mode_vfork},
    {"eintr", mode_eintr},
    {"exec", mode_exec},
    {"sigprof", mode_sigprof},
    {"sigprof-default", mode_sigprof_default},
    {"blocked", mode_blocked},
    {"born-blocked", mode_born_blocked},
    {"small-stack", mode_small_stack},
    {"storm", mode_storm},
    {"cancel", mode_cancel},
    {"c11", mode_c11},
    {"coroutine", mode_coroutine},
    {"alt-stack", mode_alt_stack},
    {"burn", mode_burn},
    {"syscalls", mode_syscalls},
    {"wall", mode_wall},
    {"_exit", mode__exit},
    {"quick_exit", mode_quick_exit},
};

int main(int argc, char **argv)
{
    start_up.tid = syscall(SYS_gettid);
    start_up.seconds = clock_of(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(argv[1], modes[i].name)) {
            modes[i].run();
            printf("ok\n");
            return 0;
        }
    return 2;
}
