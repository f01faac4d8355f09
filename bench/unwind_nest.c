// SPDX-License-Identifier: MIT
//
// A recursion for bench_unwind.c, built with frame pointers and without. Three functions in turn, so
// that return addresses differ as they do in programs.

#define JOIN(a, b)  a##b
#define JOIN2(a, b) JOIN(a, b)
#define NEST(n)     JOIN2(bench_nest_, JOIN2(SUFFIX, n))

int JOIN2(bench_nest_, SUFFIX)(unsigned depth, int (*leaf)(void *), void *arg);

static int NEST(_b)(unsigned depth, int (*leaf)(void *), void *arg);

__attribute__((noinline)) static int NEST(_c)(unsigned depth, int (*leaf)(void *), void *arg)
{
    volatile int local[12] = {(int)depth};
    int got = depth ? JOIN2(bench_nest_, SUFFIX)(depth - 1, leaf, arg) : leaf(arg);
    return got + local[0];
}

__attribute__((noinline)) static int NEST(_b)(unsigned depth, int (*leaf)(void *), void *arg)
{
    volatile int local[4] = {(int)depth};
    int got = depth ? NEST(_c)(depth - 1, leaf, arg) : leaf(arg);
    return got + local[0];
}

__attribute__((noinline)) int JOIN2(bench_nest_, SUFFIX)(unsigned depth, int (*leaf)(void *),
                                                         void *arg)
{
    int got = depth ? NEST(_b)(depth - 1, leaf, arg) : leaf(arg);
    return got + 1;
}
