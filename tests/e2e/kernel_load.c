// SPDX-License-Identifier: MIT
//
// Threads that do what a kernel trace tells, and say what the kernel counted for each:
//
//     kernel_load SECONDS [LOAD...]
//
//     STAT tid name run_ns wait_ns slices voluntary involuntary
//
//     HANDLED ns
//
// just before the thread ends, of /proc/self/task/TID/schedstat and status. Threads "cruncher" compute (no program
// that another test runs meanwhile has that name: a kernel trace has its threads as well), "sleeper" sleeps,
// "faulter" touches fresh memory, "ping" and "pong" pass a byte to and fro, "caller" makes CALLS system
// calls getppid. All of them without LOAD, else those that are named. "catcher", where it is named, writes where it may
// not; its signal handler computes, for as long as HANDLED says. "hearer" reads from a TCP connection of its own process,
// a byte each 2 ms; "disk" reads a file past the page cache.

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 5000, THREADS = 7, FAULT_BYTES = 1 << 20, PAGE_BYTES = 4096 };

static double until;
static int to_pong[2], to_ping[2];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void say(const char *name)
{
    char path[64], text[128] = "", line[256];
    long tid = syscall(SYS_gettid), voluntary = 0, involuntary = 0;
    snprintf(path, sizeof path, "/proc/self/task/%ld/status", tid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "voluntary_ctxt_switches: %ld", &voluntary);
        sscanf(line, "nonvoluntary_ctxt_switches: %ld", &involuntary);
    }
    if (f)
        fclose(f);
    snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", tid);
    f = fopen(path, "r");
    if (f && !fgets(text, sizeof text, f))
        text[0] = 0;
    if (f)
        fclose(f);
    text[strcspn(text, "\n")] = 0;
    printf("STAT %ld %s %s %ld %ld\n", tid, name, text, voluntary, involuntary);
}

static void pass(int fd, char c)
{
    if (write(fd, &c, 1) != 1)
        abort();
}

static char get(int fd)
{
    char c = 0;
    if (read(fd, &c, 1) != 1)
        abort();
    return c;
}

static void *cruncher(void *arg)
{
    while (now() < until)
        ;
    say("cruncher");
    return arg;
}

static void *sleeper(void *arg)
{
    while (now() < until)
        usleep(500);
    say("sleeper");
    return arg;
}

static void *faulter(void *arg)
{
    while (now() < until) {
        char *p =
            mmap(NULL, FAULT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; p != MAP_FAILED && i < FAULT_BYTES; i += PAGE_BYTES)
            p[i] = 1;
        munmap(p, FAULT_BYTES);
        usleep(4000);
    }
    say("faulter");
    return arg;
}

static void *ping(void *arg)
{
    while (now() < until) {
        pass(to_pong[1], 'x');
        get(to_ping[0]);
        usleep(20);
    }
    pass(to_pong[1], 'q');
    say("ping");
    return arg;
}

static void *pong(void *arg)
{
    while (get(to_pong[0]) != 'q')
        pass(to_ping[1], 'y');
    say("pong");
    return arg;
}

static void *caller(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getppid);
    say("caller");
    return arg;
}

static sigjmp_buf behind;
static double handled;

static void on_signal(int number)
{
    double begin = now();
    (void)number;
    while (now() < begin + 0.01)
        ;
    handled += now() - begin;
    siglongjmp(behind, 1); // by no system call
}

static void *catcher(void *arg)
{
    char *volatile p = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &a, NULL);
    sigsetjmp(behind, 0);
    if (now() < until)
        *p = 1;
    printf("HANDLED %.0f\n", handled * 1e9);
    say("catcher");
    return arg;
}

static void *talker(void *arg)
{
    while (now() < until) {
        usleep(2000);
        pass((int)(intptr_t)arg, 'x');
    }
    pass((int)(intptr_t)arg, 'q');
    return NULL;
}

static void *hearer(void *arg)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    pthread_t other;
    int listening = socket(AF_INET, SOCK_STREAM, 0), to = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listening, (struct sockaddr *)&a, sizeof a) || listen(listening, 1) ||
        getsockname(listening, (struct sockaddr *)&a, &size) ||
        connect(to, (struct sockaddr *)&a, sizeof a))
        abort();
    int from = accept(listening, NULL, NULL);
    pthread_create(&other, NULL, talker, (void *)(intptr_t)to);
    while (get(from) != 'q')
        ;
    pthread_join(other, NULL);
    say("hearer");
    return arg;
}

static void *disk(void *arg)
{
    static char text[16 * PAGE_BYTES];
    void *block = NULL;
    int fd = open("kernel_load.data", O_RDWR | O_CREAT, 0600);
    if (write(fd, text, sizeof text) != sizeof text || fsync(fd) || close(fd) ||
        posix_memalign(&block, PAGE_BYTES, PAGE_BYTES))
        abort();
    fd = open("kernel_load.data", O_RDONLY | O_DIRECT);
    for (off_t at = 0; fd >= 0 && now() < until; at = (at + PAGE_BYTES) % (off_t)sizeof text)
        if (pread(fd, block, PAGE_BYTES, at) != PAGE_BYTES)
            break;
    say("disk");
    return arg;
}

static const struct {
    const char *name;
    void *(*run)(void *);
} loads[] = {{"cruncher", cruncher}, {"cruncher", cruncher}, {"sleeper", sleeper},
             {"faulter", faulter},   {"ping", ping},         {"pong", pong},
             {"caller", caller},     {"catcher", catcher},   {"hearer", hearer},
             {"disk", disk}};

static pthread_t start(const char *name)
{
    pthread_t t;
    int i = 0;
    while (strcmp(loads[i].name, name) != 0)
        i++;
    pthread_create(&t, NULL, loads[i].run, NULL);
    pthread_setname_np(t, name);
    return t;
}

int main(int argc, char **argv)
{
    pthread_t threads[32];
    int n = 0;
    until = now() + (argc > 1 ? atof(argv[1]) : 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pipe(to_pong) || pipe(to_ping))
        return 1;
    for (int i = 2; i < argc && n < 32; i++)
        threads[n++] = start(argv[i]);
    for (int i = 0; argc <= 2 && i < THREADS; i++)
        threads[n++] = start(loads[i].name);
    while (n)
        pthread_join(threads[--n], NULL);
    return 0;
}
