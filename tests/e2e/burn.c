// SPDX-License-Identifier: MIT
//
// A target whose profile is known by construction. Each function that burns has a name of its own
// and stops by the thread's CPU clock, so shares do not depend on the machine.
//
//   burn split MS             alpha 70 %, beta 30 % of MS of CPU time
//   burn threads N MS         N threads named "burner-I", each MS in alpha
//   burn syscalls N MS        the same in system calls
//   burn tree MS              a forked child (gamma) and an executed one (delta), MS each; self alpha
//   burn page FILE            for ever in two threads; pid and CPU time so far are kept in FILE
//   burn exit STATUS | burn signal SIGNO | burn interrupt
//   burn plugins DIR A B MS   dlopen, run and dlclose DIR/A and DIR/B in turns

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct page { // what the target says about itself, in a file that outlives it
    _Atomic uint64_t pid;
    _Atomic uint64_t cpu_ns[2];
};

static volatile uint64_t sink;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline __attribute__((always_inline)) void burn_until(uint64_t end, uint64_t salt)
{
    while (cpu_ns() < end)
        for (int i = 0; i < 20000; i++)
            sink = sink * 31 + (uint64_t)i + salt;
}

// The salt keeps the compiler from making one function of equal ones.
#define BURNER(name)                                                                               \
    __attribute__((noinline)) static void name(uint64_t ns)                                        \
    {                                                                                              \
        burn_until(cpu_ns() + ns, __LINE__);                                                       \
        sink++;                                                                                    \
    }
BURNER(alpha)
BURNER(beta)
BURNER(gamma_)
BURNER(delta)

// Nearly all of its time is the kernel's.
__attribute__((noinline)) static void call_kernel(uint64_t ns)
{
    uint64_t end = cpu_ns() + ns;
    while (cpu_ns() < end)
        for (int i = 0; i < 100; i++)
            sink += (uint64_t)syscall(SYS_getppid);
    sink++;
}

static uint64_t ms(const char *text)
{
    return strtoull(text, NULL, 10) * 1000000;
}

static void *thread_main(void *arg)
{
    const uint64_t *job = arg;
    char name[16];
    snprintf(name, sizeof name, "burner-%u", (unsigned)job[0]);
    pthread_setname_np(pthread_self(), name);
    if (job[2])
        call_kernel(job[1]);
    else
        alpha(job[1]);
    return NULL;
}

static int threads(unsigned n, uint64_t ns, bool calls)
{
    pthread_t ids[64];
    uint64_t jobs[64][3];
    if (n > 64)
        return 2;
    for (unsigned i = 0; i < n; i++) {
        jobs[i][0] = i;
        jobs[i][1] = ns;
        jobs[i][2] = calls;
        if (pthread_create(&ids[i], NULL, thread_main, jobs[i]))
            return 2;
    }
    for (unsigned i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
    return 0;
}

static int tree(const char *self, const char *text)
{
    pid_t forked = fork();
    if (forked == 0) {
        gamma_(ms(text));
        _exit(0);
    }
    pid_t executed = fork();
    if (executed == 0) {
        execl(self, self, "delta", text, NULL);
        _exit(126);
    }
    alpha(ms(text));
    while (wait(NULL) > 0) {
    }
    return 0;
}

struct pager {
    struct page *page;
    int index;
};

static void *pager_main(void *arg)
{
    struct pager *p = arg;
    uint64_t start = cpu_ns();
    for (;;) {
        alpha(500000);
        atomic_store_explicit(&p->page->cpu_ns[p->index], cpu_ns() - start, memory_order_relaxed);
    }
    return NULL;
}

static int page(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, sizeof(struct page)))
        return 2;
    struct page *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return 2;
    struct pager pagers[2] = {{p, 0}, {p, 1}};
    pthread_t id;
    if (pthread_create(&id, NULL, pager_main, &pagers[1]))
        return 2;
    atomic_store_explicit(&p->pid, (uint64_t)getpid(), memory_order_relaxed);
    pager_main(&pagers[0]);
    return 0;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    interrupted = signo;
}

// Burns until SIGINT, then a little more, and leaves with 7: what Ctrl-C must not cut off.
static int interrupt(void)
{
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    puts("ready");
    fflush(stdout);
    while (!interrupted)
        alpha(5000000);
    beta(100000000);
    return 7;
}

#ifndef BURN_STATIC // dlopen makes a static program depend on the libraries of its glibc
static int plugins(char **argv)
{
    char path[2][4096];
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", argv[2], argv[3 + i]);
    void *before = NULL;
    unsigned same = 0;
    for (int round = 0; round < 20; round++) {
        void *lib = dlopen(path[round % 2], RTLD_NOW);
        void (*run)(uint64_t) = NULL;
        if (lib)
            *(void **)&run = dlsym(lib, "run");
        if (!run) {
            fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
        same += (void *)run == before;
        before = (void *)run;
        run(ms(argv[5]));
        dlclose(lib);
    }
    printf("%u\n", same);
    return 0;
}
#endif

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "split") == 0 && argc == 3) {
        for (int i = 0; i < 10; i++) {
            alpha(ms(argv[2]) * 7 / 100);
            beta(ms(argv[2]) * 3 / 100);
        }
        return 0;
    }
    if (strcmp(verb, "delta") == 0 && argc == 3) {
        delta(ms(argv[2]));
        return 0;
    }
    if (strcmp(verb, "threads") == 0 && argc == 4)
        return threads((unsigned)atoi(argv[2]), ms(argv[3]), false);
    if (strcmp(verb, "syscalls") == 0 && argc == 4)
        return threads((unsigned)atoi(argv[2]), ms(argv[3]), true);
    if (strcmp(verb, "tree") == 0 && argc == 3)
        return tree(argv[0], argv[2]);
    if (strcmp(verb, "page") == 0 && argc == 3)
        return page(argv[2]);
    if (strcmp(verb, "exit") == 0 && argc == 3)
        return atoi(argv[2]);
    if (strcmp(verb, "signal") == 0 && argc == 3)
        return raise(atoi(argv[2]));
    if (strcmp(verb, "interrupt") == 0)
        return interrupt();
#ifndef BURN_STATIC
    if (strcmp(verb, "plugins") == 0 && argc == 6)
        return plugins(argv);
#endif
    fprintf(stderr, "burn: see burn.c\n");
    return 2;
}
