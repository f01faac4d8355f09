// SPDX-License-Identifier: MIT
//
// Call chains of known shape for test_unwind.c. Built twice, with and without frame pointers; CHAIN
// gives the names. Each function notes its return address before it calls on, so the true chain
// is known without any unwinder.

#include "tests/unit/unwind_chains.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOTE() (truth->pcs[truth->depth++] = (uint64_t)(uintptr_t)__builtin_return_address(0))
#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif

// Locals of several sizes keep the frames unlike each other; the volatile store keeps them.
NOINLINE int CHAIN(nest)(struct truth *truth, unsigned depth)
{
    volatile char pad[48];
    NOTE();
    pad[depth % sizeof pad] = 1;
    int got = depth ? CHAIN(nest)(truth, depth - 1) : truth->leaf(truth);
    return got + pad[depth % sizeof pad];
}

static struct truth *sorting;

NOINLINE static int compare(const void *a, const void *b)
{
    struct truth *truth = sorting;
    int order = *(const int *)a - *(const int *)b;
    if (truth) {
        NOTE();
        sorting = NULL;
        order += truth->leaf(truth) * 0;
    }
    return order;
}

NOINLINE int CHAIN(through_qsort)(struct truth *truth)
{
    int values[16];
    NOTE();
    for (int i = 0; i < 16; i++)
        values[i] = i * 7 % 16;
    sorting = truth;
    qsort(values, 16, sizeof values[0], compare);
    return values[3];
}

NOINLINE int CHAIN(through_strdup)(struct truth *truth)
{
    NOTE();
    char *copy = strdup("a chain");
    int got = copy ? copy[0] : 0;
    free(copy);
    return got;
}

NOINLINE int CHAIN(through_new)(struct truth *truth, void *(*new_)(size_t), void (*delete_)(void *))
{
    NOTE();
    char *p = new_(40);
    *(volatile char *)p = 1;
    int got = p[0];
    delete_(p);
    return got;
}

// A frame whose CFA is an expression of rbp, because its stack is realigned.
NOINLINE int CHAIN(through_realigned)(struct truth *truth, unsigned n)
{
    _Alignas(128) volatile char wide[128];
    volatile char *sized = __builtin_alloca(n + 1);
    NOTE();
    wide[n % 128] = sized[0] = 1;
    int got = CHAIN(nest)(truth, 2);
    return got + wide[n % 128] + sized[0];
}

NOINLINE unsigned CHAIN(work)(unsigned rounds)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < rounds; i++) {
        int values[32];
        char text[64];
        struct timespec now;
        for (int k = 0; k < 32; k++)
            values[k] = (int)(i * 31 + (unsigned)k * 17) % 64;
        qsort(values, 32, sizeof values[0], compare);
        clock_gettime(CLOCK_MONOTONIC, &now); // the vdso
        memset(text, (int)i, sizeof text);
        char *copy = strndup(text, 63);
        sum += (unsigned)values[i % 32] + (copy ? (unsigned)copy[0] : 0);
        free(copy);
    }
    return sum;
}
