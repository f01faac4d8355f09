// SPDX-License-Identifier: MIT
//
// A program that knows what it allocates. Each function site_* allocates in its own name and counts, in
// plain variables, what it was given and what was given back; at the end the program says so:
// "truth site_NAME objects bytes freed-objects freed-bytes temporary". Usage: heap_target MODE [N].

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// clang-format off
#define SITES(X) \
    X(malloc) X(zero) X(calloc) X(realloc) X(memalign) \
    X(aligned_alloc) X(posix_memalign) X(valloc) X(pvalloc) X(reallocarray) \
    X(strdup) X(strndup) X(asprintf) X(getline) X(failing) \
    X(leak) X(temporary) X(thread) X(child) X(handler) \
    X(key) X(atexit) X(atfork) X(vfork) X(peak) \
    X(random) X(big)
// clang-format on

enum site {
#define X(name) SITE_##name,
    SITES(X)
#undef X
        SITE_COUNT
};

static const char *const names[] = {
#define X(name) #name,
    SITES(X)
#undef X
};

struct truth {
    _Atomic uint64_t objects, bytes, freed_objects, freed_bytes, temporary;
};
static struct truth truth[SITE_COUNT];

static void *got(enum site s, void *p, uint64_t size)
{
    if (p) {
        truth[s].objects++;
        truth[s].bytes += size;
    }
    return p;
}

static void gone(enum site s, uint64_t size)
{
    truth[s].freed_objects++;
    truth[s].freed_bytes += size;
}

// The allocating call stands in site_* itself, so that this is the stack's first frame here.
#define SITE(name, ...) __attribute__((noinline)) static void *site_##name(__VA_ARGS__)
#define KEEP(p)         __asm__ volatile("" : "+r"(p))

#define PLAIN(name)                                                                                \
    SITE(name, size_t n)                                                                           \
    {                                                                                              \
        void *p = malloc(n);                                                                       \
        KEEP(p);                                                                                   \
        return got(SITE_##name, p, n);                                                             \
    }
PLAIN(malloc)
PLAIN(zero)
PLAIN(leak)
PLAIN(temporary)
PLAIN(thread)
PLAIN(child)
PLAIN(handler)
PLAIN(key)
PLAIN(atexit)
PLAIN(atfork)
PLAIN(vfork)
PLAIN(peak)
PLAIN(random)
PLAIN(big)
PLAIN(failing)

SITE(calloc, size_t n)
{
    void *p = calloc(n, 8);
    KEEP(p);
    return got(SITE_calloc, p, n * 8);
}
SITE(realloc, void *old, size_t n)
{
    void *p = realloc(old, n);
    KEEP(p);
    return got(SITE_realloc, p, n);
}
SITE(memalign, size_t n)
{
    void *p = memalign(256, n);
    KEEP(p);
    return got(SITE_memalign, p, n);
}
SITE(aligned_alloc, size_t n)
{
    void *p = aligned_alloc(64, n);
    KEEP(p);
    return got(SITE_aligned_alloc, p, n);
}
SITE(posix_memalign, size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, n))
        p = NULL;
    KEEP(p);
    return got(SITE_posix_memalign, p, n);
}
SITE(valloc, size_t n)
{
    void *p = valloc(n);
    KEEP(p);
    return got(SITE_valloc, p, n);
}
SITE(pvalloc, size_t n)
{
    void *p = pvalloc(n);
    KEEP(p);
    return got(SITE_pvalloc, p, n);
}
SITE(reallocarray, void *old, size_t n)
{
    void *p = reallocarray(old, n, 24);
    KEEP(p);
    return got(SITE_reallocarray, p, n * 24);
}
SITE(strdup, const char *s)
{
    char *p = strdup(s);
    KEEP(p);
    return got(SITE_strdup, p, strlen(s) + 1);
}
SITE(strndup, const char *s, size_t n)
{
    char *p = strndup(s, n);
    KEEP(p);
    return got(SITE_strndup, p, strnlen(s, n) + 1);
}
// What libc asks for on the way is its own affair: objects alone are known of these two.
SITE(asprintf, int n)
{
    char *p = NULL;
    if (asprintf(&p, "%d", n) < 0)
        return NULL;
    KEEP(p);
    return p;
}
SITE(getline, FILE *f)
{
    char *p = NULL;
    size_t n = 0;
    if (getline(&p, &n, f) < 0)
        n = 0;
    KEEP(p);
    return got(SITE_getline, p, 120); // glibc's first size; the lines are shorter
}

static void drop(enum site s, void *p, uint64_t size)
{
    free(p);
    gone(s, size);
}

// --- Modes.

// Portable: what other allocators have too, and do alike.
static void every_function(int is_portable)
{
    static const char text[] = "a string of some length";
    for (unsigned i = 0; i < 100; i++) {
        drop(SITE_malloc, site_malloc(i * 10 + 1), i * 10 + 1);
        truth[SITE_malloc].temporary++;
        drop(SITE_zero, site_zero(0), 0);
        truth[SITE_zero].temporary++;
        void *a = site_calloc(i + 1), *b = site_memalign(100 + i),
             *c = site_aligned_alloc(64 * (i + 1)), *d = site_posix_memalign(i + 1),
             *e = site_valloc(i + 1), *f = is_portable ? NULL : site_pvalloc(i + 1),
             *g = site_strdup(text + i % 20), *h = site_strndup(text, i % 20);
        drop(SITE_calloc, a, 8 * (i + 1));
        drop(SITE_memalign, b, 100 + i);
        drop(SITE_aligned_alloc, c, 64 * (i + 1));
        drop(SITE_posix_memalign, d, i + 1);
        drop(SITE_valloc, e, i + 1);
        if (!is_portable)
            drop(SITE_pvalloc, f, i + 1);
        drop(SITE_strdup, g, strlen(text + i % 20) + 1);
        drop(SITE_strndup, h, i % 20 + 1);
        free(site_asprintf((int)i));
    }
    free(NULL);
    // realloc: of nothing, grown, shrunk, refused, to nothing.
    char *p = site_realloc(NULL, 100), *q = site_realloc(p, 200000);
    gone(SITE_realloc, 100);
    p = site_realloc(q, 50);
    gone(SITE_realloc, 200000);
    truth[SITE_realloc].temporary += 2; // 100 and 200000: given back by the very next operation
    q = site_realloc(p, PTRDIFF_MAX);
    if (q)
        abort();
    drop(SITE_realloc, p, 50);
    truth[SITE_realloc].temporary++;
    if (!is_portable) {
        p = site_realloc(NULL, 10);
        q = site_realloc(p, 0); // gives it back
        gone(SITE_realloc, 10);
        truth[SITE_realloc].temporary++;
        if (q)
            abort();
    }
    p = site_reallocarray(NULL, 3);
    p = site_reallocarray(p, 30);
    gone(SITE_reallocarray, 72);
    volatile size_t too_many = SIZE_MAX / 2;
    if (reallocarray(p, too_many, 3))
        abort();
    drop(SITE_reallocarray, p, 720);
    truth[SITE_reallocarray].temporary += 2;
    if (site_failing(PTRDIFF_MAX) || errno != ENOMEM)
        abort();
    errno = 77; // kept by hooks
    drop(SITE_malloc, site_malloc(1), 1);
    truth[SITE_malloc].temporary++;
    if (errno != 77)
        abort();
    for (unsigned i = 1; i <= 50; i++)
        site_leak(i);
}

// C23's, as a program finds them that runs with an older libc: by name.
static void sized_frees(void)
{
    void (*sized)(void *, size_t);
    void (*aligned)(void *, size_t, size_t);
    void *found = dlsym(RTLD_DEFAULT, "free_sized"),
         *other = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (!found || !other)
        abort();
    memcpy(&sized, &found, sizeof sized);
    memcpy(&aligned, &other, sizeof aligned);
    for (unsigned i = 1; i <= 100; i++) {
        sized(site_malloc(i), i);
        gone(SITE_malloc, i);
        aligned(site_aligned_alloc(64 * i), 64, 64 * i);
        gone(SITE_aligned_alloc, 64 * i);
    }
    sized(NULL, 0);
    aligned(NULL, 64, 0);
    site_leak(9);
}

static void peak(void)
{
    void *blocks[64];
    for (int round = 0; round < 3; round++) { // the middle one is the highest
        unsigned n = round == 1 ? 64 : 20;
        for (unsigned i = 0; i < n; i++)
            blocks[i] = site_peak(100000);
        for (unsigned i = 0; i < n; i++)
            drop(SITE_peak, blocks[i], 100000);
    }
}

// Sizes of all kinds, for estimates: many small, few large.
static void random_sizes(uint64_t count)
{
    uint64_t r = 12345;
    for (uint64_t i = 0; i < count; i++) {
        r = r * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t size = 16 + (r >> 40) % (i % 50 == 0 ? 40000 : 700);
        void *p = site_random(size);
        if (i % 4)
            drop(SITE_random, p, size);
        if (i % 5000 == 0)
            site_big(1 << 20);
    }
}

enum { BLOCKS = 512 };
static pthread_barrier_t all;
static void *blocks_of[64][BLOCKS];
static unsigned thread_count;

static void *thread_main(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < BLOCKS; i++)
            blocks_of[me][i] = site_thread(i + 1);
        pthread_barrier_wait(&all);
        unsigned other = (me + 1) % thread_count; // frees what another has allocated
        for (unsigned i = 0; i < BLOCKS; i++)
            drop(SITE_thread, blocks_of[other][i], i + 1);
        pthread_barrier_wait(&all);
    }
    return NULL;
}

static void threads(unsigned n)
{
    pthread_t ids[64];
    thread_count = n;
    pthread_barrier_init(&all, NULL, n);
    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&ids[i], NULL, thread_main, (void *)(uintptr_t)i))
            abort();
    thread_main(NULL);
    for (unsigned i = 1; i < n; i++)
        pthread_join(ids[i], NULL);
}

static pthread_key_t key;

static void key_gone(void *p)
{
    drop(SITE_key, p, 33);
    drop(SITE_key, site_key(44), 44);
}

static void *key_thread(void *arg)
{
    (void)arg;
    pthread_setspecific(key, site_key(33));
    return NULL;
}

static void keys(void)
{
    pthread_t id;
    pthread_key_create(&key, key_gone);
    for (int i = 0; i < 20; i++) {
        if (pthread_create(&id, NULL, key_thread, NULL))
            abort();
        pthread_join(id, NULL);
    }
}

static void say_truth(void)
{
    char line[200];
    for (int s = 0; s < SITE_COUNT; s++) {
        if (!truth[s].objects)
            continue;
        int n = snprintf(
            line, sizeof line, "truth %d site_%s %llu %llu %llu %llu %llu\n", (int)getpid(),
            names[s], (unsigned long long)truth[s].objects, (unsigned long long)truth[s].bytes,
            (unsigned long long)truth[s].freed_objects, (unsigned long long)truth[s].freed_bytes,
            (unsigned long long)truth[s].temporary);
        if (write(1, line, (size_t)n) != n)
            abort();
    }
}

static void forget_truth(void)
{
    memset((void *)truth, 0, sizeof truth);
}

static void in_atfork(void)
{
    drop(SITE_atfork, site_atfork(12), 12);
}

static void forks(void)
{
    void *mine[10];
    pthread_atfork(in_atfork, in_atfork, in_atfork);
    for (int i = 0; i < 10; i++)
        mine[i] = site_malloc(500);
    pid_t pid = fork();
    if (pid == 0) {
        forget_truth(); // what the child does in its own name, but for its atfork handler
        drop(SITE_atfork, site_atfork(12), 12);
        truth[SITE_atfork].objects = 2;
        truth[SITE_atfork].bytes = truth[SITE_atfork].freed_bytes = 24;
        truth[SITE_atfork].freed_objects = 2;
        for (int i = 0; i < 10; i++)
            free(mine[i]); // the parent's: unknown here
        for (int i = 0; i < 30; i++)
            site_child(77);
        drop(SITE_child, site_child(3), 3);
        say_truth();
        exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    for (int i = 0; i < 10; i++)
        drop(SITE_malloc, mine[i], 500);
    pid = vfork(); // shares our memory: what it allocates is ours
    if (pid == 0) {
        site_vfork(99);
        _exit(0);
    }
    waitpid(pid, &status, 0);
}

static volatile sig_atomic_t handled;

static void on_signal(int n)
{
    (void)n;
    void *p = site_handler(40);
    drop(SITE_handler, p, 40);
    site_handler(8);
    handled++;
}

// With an allocator that permits it (heap_bump), handlers allocate in the middle of our hooks.
static void signals(void)
{
    struct itimerval often = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (handled < 500)
        for (int i = 0; i < 100; i++)
            drop(SITE_malloc, site_malloc(16), 16);
    setitimer(ITIMER_REAL, &off, NULL);
}

static volatile sig_atomic_t is_forked;

static void set_alarm(int us)
{
    struct itimerval once = {{0, 0}, {0, us}};
    setitimer(ITIMER_REAL, &once, NULL);
}

static void fork_in_handler(int n)
{
    int status;
    (void)n;
    pid_t pid = fork();
    if (pid == 0) {
        is_forked = 1;
        return; // into the midst of a hook
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        abort();
    handled++;
    set_alarm(300 + handled * 7);
}

// With an allocator that permits it (heap_bump). The child returns from the handler, allocates and leaves.
static void signals_that_fork(int count)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    set_alarm(300);
    while (handled < count && !is_forked)
        drop(SITE_malloc, site_malloc(16), 16);
    set_alarm(0);
    if (!is_forked)
        return;
    forget_truth();
    for (int i = 0; i < 30; i++)
        drop(SITE_child, site_child(77), 77);
    site_child(5);
    say_truth();
    exit(0);
}

static void at_exit(void)
{
    site_atexit(61);
    drop(SITE_atexit, site_atexit(62), 62);
    say_truth();
}

typedef void plugin_fn(void **, int);

static void plugins(const char *path, int flags)
{
    void *p[10], *q[10];
    for (int i = 0; i < 3; i++) {
        void *handle = dlopen(path, RTLD_NOW | flags);
        plugin_fn *allocate =
            handle ? (plugin_fn *)(uintptr_t)dlsym(handle, "plugin_allocate") : NULL;
        if (!allocate) {
            fprintf(stderr, "%s\n", dlerror());
            abort();
        }
        allocate(p, 10);
        memcpy(q, p, sizeof q);
        dlclose(handle);
        for (int k = 0; k < 5; k++) // after its code is gone
            free(q[k]);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    int say = 1;
    if (!strcmp(mode, "functions")) {
        every_function(argc > 2);
    } else if (!strcmp(mode, "getline")) {
        static char buffer[BUFSIZ];
        FILE *f = tmpfile();
        if (!f || setvbuf(f, buffer, _IOFBF, sizeof buffer))
            abort();
        for (int i = 0; i < 100; i++)
            fprintf(f, "line %d\n", i);
        rewind(f);
        for (int i = 0; i < 101; i++) // the last at the end of the file
            drop(SITE_getline, site_getline(f), 120);
        fclose(f);
    } else if (!strcmp(mode, "sized")) {
        sized_frees();
    } else if (!strcmp(mode, "peak")) {
        peak();
    } else if (!strcmp(mode, "random")) {
        random_sizes(n);
    } else if (!strcmp(mode, "threads")) {
        threads(n);
    } else if (!strcmp(mode, "keys")) {
        keys();
    } else if (!strcmp(mode, "fork")) {
        forks();
    } else if (!strcmp(mode, "signals")) {
        signals();
    } else if (!strcmp(mode, "forksignals")) {
        signals_that_fork((int)n);
    } else if (!strcmp(mode, "raise")) {
        signal(SIGUSR1, on_signal);
        for (int i = 0; i < 20; i++)
            raise(SIGUSR1);
    } else if (!strcmp(mode, "atexit")) {
        atexit(at_exit);
        say = 0;
    } else if (!strcmp(mode, "exec")) {
        for (unsigned i = 0; i < 10; i++)
            site_leak(i);
        say_truth();
        execl(argv[0], argv[0], "functions", (char *)NULL);
        abort();
    } else if (!strcmp(mode, "kill")) {
        threads(n);
        for (unsigned i = 0; i < 100; i++)
            site_leak(i);
        say_truth();
        raise(SIGKILL);
    } else if (!strcmp(mode, "plugin") && argc > 2) {
        plugins(argv[2], RTLD_LOCAL);
    } else if (!strcmp(mode, "deepbind") && argc > 2) {
        plugins(argv[2], RTLD_LOCAL | RTLD_DEEPBIND);
    } else {
        return 2;
    }
    if (say)
        say_truth();
    return 0;
}
