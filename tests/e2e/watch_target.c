// SPDX-License-Identifier: MIT
//
// A target whose stacks are known by construction, built with -O2 -fomit-frame-pointer: every sample's
// root is main's or a thread's start, and what may stand between is in its name.
//
// Usage: watch_target SECONDS THREADS [WHAT ...], WHAT of: deep qsort signal syscall spin fork exec
// churn idle jit rename leave (the first thread ends after 0.7 s), or map:FILE, which runs the code at byte 4096 of a file that it maps. Prints
// "ready PID" once all its threads run. Threads do the WHATs in turn. SECONDS 0: for ever; else the
// CPU seconds of all threads are printed at the end.

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __clang__
#define KEPT __attribute__((noinline))
#else
#define KEPT __attribute__((noinline, noclone))
#endif

enum { DEEP_FRAMES = 150, FRAME_BYTES = 200, SORTED = 2000, CHURNED = 20 };

static atomic_int ready;
static double end_seconds;
static volatile uint64_t sink;
static char **what;
static int what_count;
static char *self_path;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int is_over(void)
{
    return end_seconds > 0 && now() > end_seconds;
}

KEPT void work(void)
{
    uint64_t x = 1;
    for (int i = 0; i < 20000; i++) {
        x = x * 6364136223846793005u + 1;
        __asm__ volatile("" : "+r"(x));
    }
    sink += x;
}

KEPT void deep(int n) // about 36 KiB of stack
{
    volatile char frame[FRAME_BYTES];
    frame[0] = (char)n;
    if (n > 0)
        deep(n - 1);
    else
        work();
    sink += (uint64_t)frame[0]; // no tail call
}

KEPT int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    for (int i = 0; i < 20; i++) {
        x = x * 3 + 1;
        __asm__ volatile("" : "+r"(x));
    }
    sink += x;
    x = *(const uint64_t *)a;
    return x < y ? -1 : x > y;
}

KEPT void sort(void)
{
    static _Thread_local uint64_t values[SORTED];
    uint64_t x = 1;
    for (int i = 0; i < SORTED; i++)
        values[i] = x = x * 6364136223846793005u + 1;
    qsort(values, SORTED, sizeof *values, compare);
    sink += values[0];
}

KEPT void on_signal(int sig)
{
    (void)sig;
    int e = errno;
    for (int i = 0; i < 50; i++)
        work();
    errno = e;
}

KEPT void raise_signal(void)
{
    raise(SIGUSR1);
    sink++;
}

KEPT void call_kernel(void)
{
    for (int i = 0; i < 2000; i++)
        syscall(SYS_getppid);
    sink++;
}

// push rbp; mov rbp, rsp; mov rcx, rdi; 1: dec rcx; jnz 1b; pop rbp; ret
static const unsigned char jit_code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf9,
                                         0x48, 0xff, 0xc9, 0x75, 0xfb, 0x5d, 0xc3};
static void (*jit_function)(uint64_t);

static void make_jit(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(p, jit_code, sizeof jit_code);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
    memcpy(&jit_function, &p, sizeof p);
}

// The file's first page and its code, as the loader would map them.
KEPT void map_file(const char *path)
{
    static char *base;
    void (*function)(uint64_t);
    if (!base) {
        int fd = open(path, O_RDONLY);
        base = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED || mmap(base + 4096, 4096, PROT_READ | PROT_EXEC,
                                       MAP_PRIVATE | MAP_FIXED, fd, 4096) == MAP_FAILED)
            _exit(4);
        close(fd);
    }
    char *code = base + 4096;
    memcpy(&function, &code, sizeof function);
    function(1000000);
    sink++;
}

KEPT void call_jit(void)
{
    jit_function(1000000);
    sink++;
}

static void *short_thread(void *arg)
{
    for (int i = 0; i < 100; i++)
        work();
    return arg;
}

KEPT void churn(void)
{
    pthread_t t[CHURNED];
    for (int i = 0; i < CHURNED; i++)
        pthread_create(&t[i], NULL, short_thread, NULL);
    for (int i = 0; i < CHURNED; i++)
        pthread_join(t[i], NULL);
    sink++;
}

KEPT void child_work(void)
{
    for (int i = 0; i < 2000; i++)
        work();
    sink++;
}

KEPT void fork_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        child_work();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static int is_first(void)
{
    return syscall(SYS_gettid) == getpid();
}

static void do_one(const char *name)
{
    if (!strcmp(name, "deep")) {
        for (int i = 0; i < 100; i++)
            deep(DEEP_FRAMES);
    } else if (!strcmp(name, "qsort")) {
        sort();
    } else if (!strcmp(name, "signal")) {
        raise_signal();
    } else if (!strcmp(name, "syscall")) {
        call_kernel();
    } else if (!strcmp(name, "jit")) {
        call_jit();
    } else if (!strncmp(name, "map:", 4)) {
        map_file(name + 4);
    } else if (!strcmp(name, "churn")) {
        churn();
    } else if (!strcmp(name, "fork")) {
        fork_child();
    } else if (!strcmp(name, "idle")) {
        usleep(10000);
    } else if (!strcmp(name, "leave") && is_first()) {
        usleep(700000);
        pthread_exit(NULL);
    } else if (!strcmp(name, "rename")) {
        prctl(PR_SET_NAME, "renamed");
        work();
    } else if (!strcmp(name, "exec")) {
        char *argv[] = {self_path, "2", "1", "spin", NULL};
        for (int i = 0; i < 3000; i++)
            work();
        execv("/proc/self/exe", argv);
        _exit(3);
    } else {
        for (int i = 0; i < 100; i++)
            work();
    }
}

KEPT void rounds(void)
{
    while (!is_over())
        for (int i = 0; i < what_count; i++)
            do_one(what[i]);
    sink++;
}

static void *thread_start(void *arg)
{
    prctl(PR_SET_NAME, "worker");
    atomic_fetch_add(&ready, 1);
    rounds();
    return arg;
}

int main(int argc, char **argv)
{
    static char *spin[] = {"spin"};
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    struct sigaction act = {.sa_handler = on_signal};
    self_path = argv[0];
    what = argc > 3 ? argv + 3 : spin;
    what_count = argc > 3 ? argc - 3 : 1;
    end_seconds = seconds > 0 ? now() + seconds : 0;
    sigaction(SIGUSR1, &act, NULL);
    make_jit();
    pthread_t started[64];
    if (threads > 64)
        threads = 64;
    for (int i = 1; i < threads; i++)
        pthread_create(&started[i], NULL, thread_start, NULL);
    while (atomic_load(&ready) < threads - 1)
        usleep(1000);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    rounds();
    for (int i = 1; i < threads; i++)
        pthread_join(started[i], NULL);
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("cpu %.6f\n", (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                             (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    return 0;
}
