// SPDX-License-Identifier: MIT
//
// Mappings whose truth is known: whole, cut in parts, replaced, moved, refused. It prints what heap_target
// does.

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, ROUNDS = 20, THREADS = 4 };

enum site { MAP, MAP64, CUT, FIXED, REMAP, FILE_, LEAK, THREAD, SITES };
static const char *const names[] = {"map",   "map64", "cut",  "fixed",
                                    "remap", "file",  "leak", "thread"};
static _Atomic uint64_t truth[SITES][4];

static void got(enum site s, uint64_t objects, uint64_t bytes)
{
    truth[s][0] += objects;
    truth[s][1] += bytes;
}

static void gone(enum site s, uint64_t objects, uint64_t bytes)
{
    truth[s][2] += objects;
    truth[s][3] += bytes;
}

#define SITE __attribute__((noinline)) static
#define MAPS(name, call)                                                                           \
    SITE char *site_##name(size_t n)                                                               \
    {                                                                                              \
        char *p = call(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);       \
        __asm__ volatile("# " #name : "+r"(p)); /* not to be merged */                             \
        return p;                                                                                  \
    }
MAPS(map, mmap)
MAPS(map64, mmap64)
MAPS(leak, mmap)
MAPS(thread, mmap)

SITE char *site_fixed(char *at, size_t n)
{
    char *p = mmap(at, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    __asm__ volatile("" : "+r"(p));
    return p;
}
SITE char *site_file(int fd, size_t n)
{
    char *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    __asm__ volatile("" : "+r"(p));
    return p;
}
SITE char *site_remap(char *old, size_t old_bytes, size_t n, int flags)
{
    char *p = mremap(old, old_bytes, n, flags);
    __asm__ volatile("" : "+r"(p));
    return p;
}
SITE void site_cut(char *p, size_t n)
{
    if (munmap(p, n))
        abort();
    __asm__ volatile("");
}

static void whole(void)
{
    for (unsigned i = 1; i <= ROUNDS; i++) {
        size_t n = i * 3000; // what was asked for counts, not pages
        site_cut(site_map(n), n);
        got(MAP, 1, n), gone(MAP, 1, n);
        site_cut(site_map64(n), n);
        got(MAP64, 1, n), gone(MAP64, 1, n);
    }
    site_leak(12345);
    got(LEAK, 1, 12345);
    errno = 0;
    if (site_map(0) != MAP_FAILED || errno != EINVAL)
        abort();
    if (munmap((char *)1, PAGE) != -1 || errno != EINVAL)
        abort();
}

static void parts(void)
{
    char *p = site_map(10 * PAGE);
    got(MAP, 1, 10 * PAGE);
    site_cut(p, 2 * PAGE); // the head: 8 stay
    gone(MAP, 1, 10 * PAGE), got(CUT, 1, 8 * PAGE);
    site_cut(p + 7 * PAGE, 3 * PAGE); // the tail: 5 stay
    gone(CUT, 1, 8 * PAGE), got(CUT, 1, 5 * PAGE);
    site_cut(p + 4 * PAGE, PAGE); // of the middle: 2 and 2
    gone(CUT, 1, 5 * PAGE), got(CUT, 2, 4 * PAGE);
    site_cut(p, 10 * PAGE); // both at once, and holes
    gone(CUT, 2, 4 * PAGE);

    p = site_map(4 * PAGE);
    got(MAP, 1, 4 * PAGE);
    if (site_fixed(p + PAGE, 2 * PAGE) != p + PAGE)
        abort();
    gone(MAP, 1, 4 * PAGE), got(FIXED, 3, 4 * PAGE); // its own, and what stays around it
    site_cut(p, 4 * PAGE);
    gone(FIXED, 3, 4 * PAGE);
}

static void moved(void)
{
    char *p = site_map(2 * PAGE), *q = site_map(PAGE);
    got(MAP, 2, 3 * PAGE);
    p[0] = 7;
    p = site_remap(p, 2 * PAGE, 800 * PAGE, MREMAP_MAYMOVE);
    if (p == MAP_FAILED || p[0] != 7)
        abort();
    gone(MAP, 1, 2 * PAGE), got(REMAP, 1, 800 * PAGE);
    errno = 0;
    if (site_remap(p, 800 * PAGE, (size_t)1 << 46, 0) != MAP_FAILED || errno != ENOMEM)
        abort(); // nothing has changed
    if (site_remap(p, 800 * PAGE, PAGE, 0) != p)
        abort();
    gone(REMAP, 1, 800 * PAGE), got(REMAP, 1, PAGE);
    if (mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) != p) // replaces it, from main's
        abort();
    gone(REMAP, 1, PAGE), gone(MAP, 1, PAGE);
}

static void files(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    char *p = site_file(fd, 100);
    if (p == MAP_FAILED)
        abort();
    site_cut(p, 100);
    got(FILE_, 1, 100), gone(FILE_, 1, 100);
}

static void *thread_main(void *unused)
{
    for (int i = 0; i < 500; i++) {
        char *p = site_thread(2 * PAGE);
        site_cut(p, 2 * PAGE);
        got(THREAD, 1, 2 * PAGE), gone(THREAD, 1, 2 * PAGE);
    }
    return unused;
}

int main(void)
{
    pthread_t ids[THREADS];
    whole();
    parts();
    moved();
    files();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, thread_main, NULL))
            abort();
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    for (int s = 0; s < SITES; s++)
        printf("truth %d site_%s %llu %llu %llu %llu 0\n", (int)getpid(), names[s],
               (unsigned long long)truth[s][0], (unsigned long long)truth[s][1],
               (unsigned long long)truth[s][2], (unsigned long long)truth[s][3]);
    return 0;
}
