// SPDX-License-Identifier: MIT
//
// An allocator's own names, and the truth of what they did. OWN is JEMALLOC, TCMALLOC or MIMALLOC. It prints
// what heap_target does.

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned long long truth[5][4];
static const char *const names[] = {"make", "zero", "aligned", "move", "place"};
enum site { MAKE, ZERO, ALIGNED, MOVE, PLACE };

#ifdef JEMALLOC
extern void *mallocx(size_t, int), *rallocx(void *, size_t, int);
extern size_t xallocx(void *, size_t, size_t, int);
extern void dallocx(void *, int), sdallocx(void *, size_t, int);
#define make(n)    mallocx(n, 0)
#define zero(n)    mallocx(n, 0x40)
#define aligned(n) mallocx(n, 6) // to 64
#define move(p, n) rallocx(p, n, 0)
#define give(p, n) ((n) % 2 ? dallocx(p, 0) : sdallocx(p, n, 0))
#elif defined TCMALLOC
extern void *tc_malloc(size_t), *tc_calloc(size_t, size_t), *tc_memalign(size_t, size_t);
extern void *tc_realloc(void *, size_t);
extern void tc_free(void *), tc_free_sized(void *, size_t);
#define make(n)    tc_malloc(n)
#define zero(n)    tc_calloc(1, n)
#define aligned(n) tc_memalign(64, n)
#define move(p, n) tc_realloc(p, n)
#define give(p, n) ((n) % 2 ? tc_free(p) : tc_free_sized(p, n))
#else
extern void *mi_malloc(size_t), *mi_zalloc(size_t), *mi_malloc_aligned(size_t, size_t);
extern void *mi_realloc(void *, size_t);
extern void mi_free(void *), mi_free_size(void *, size_t);
#define make(n)    mi_malloc(n)
#define zero(n)    mi_zalloc(n)
#define aligned(n) mi_malloc_aligned(n, 64)
#define move(p, n) mi_realloc(p, n)
#define give(p, n) ((n) % 2 ? mi_free(p) : mi_free_size(p, n))
#endif

static void *got(enum site s, void *p, size_t n)
{
    if (!p)
        abort();
    truth[s][0]++;
    truth[s][1] += n;
    return p;
}

static void gone(enum site s, size_t n)
{
    truth[s][2]++;
    truth[s][3] += n;
}

__attribute__((noinline)) static void *site_make(size_t n)
{
    return got(MAKE, make(n), n);
}
__attribute__((noinline)) static void *site_zero(size_t n)
{
    return got(ZERO, zero(n), n);
}
__attribute__((noinline)) static void *site_aligned(size_t n)
{
    return got(ALIGNED, aligned(n), n);
}
__attribute__((noinline)) static void *site_move(void *p, size_t n)
{
    return got(MOVE, move(p, n), n);
}

#ifdef JEMALLOC
__attribute__((noinline)) static size_t site_place(void *p, size_t n)
{
    size_t now = xallocx(p, n, 0, 0);
    if (now >= n)
        got(PLACE, p, n);
    return now;
}

static void in_place(void)
{
    void *p = site_make(1000); // of the class up to 1024
    if (site_place(p, 1010) < 1010)
        abort();
    gone(MAKE, 1000);
    if (site_place(p, 100000) >= 100000) // a small one cannot grow: nothing happens
        abort();
    dallocx(p, 0);
    gone(PLACE, 1010);
}
#else
static void in_place(void)
{
}
#endif

int main(void)
{
    for (size_t i = 1; i <= 100; i++) {
        void *a = site_make(i), *b = site_zero(i + 1), *c = site_aligned(i + 2);
        give(a, i), gone(MAKE, i);
        give(c, i + 2), gone(ALIGNED, i + 2);
        b = site_move(b, i * 100), gone(ZERO, i + 1);
        give(b, i * 100), gone(MOVE, i * 100);
        free(site_make(7)), gone(MAKE, 7); // what one name makes another frees
        void *d = malloc(9);
        __asm__ volatile("" : "+r"(d));
        give(d, 9);
    }
    site_make(77); // leaks
    in_place();
    for (int s = 0; s < 5; s++)
        if (truth[s][0])
            printf("truth %d site_%s %llu %llu %llu %llu 0\n", (int)getpid(), names[s], truth[s][0],
                   truth[s][1], truth[s][2], truth[s][3]);
    return 0;
}
