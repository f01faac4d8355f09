// SPDX-License-Identifier: MIT
//
// What a stack of 36 frames costs to walk: ours against a bare frame-pointer walk and against
// libunwind's cached unw_backtrace, alternately in one run.
//
//   fp        code with frame pointers, no frame in common with the previous walk
//   no fp     the same code without them; the peer is libunwind
//   no change the same stack again below the leaf, with frame pointers
//
// libunwind is opened at run time with RTLD_LOCAL, so it does not replace this process' unwinder.
//
// Fresh walks alternate between two stacks: two parked threads', each 36 frames deep. So nothing that is
// kept from the previous walk fits, as when a thread does something else at each sample.
//
// The ratio is the median of the rounds' ratios: a round's two measurements are taken one after the
// other, so both meet the machine as it is then (its other hyperthread busy or not).

#include "unwind/unwind.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES = 36, WALKS = 2000, ROUNDS = 101, STACK = 1 << 16 };

struct bench_stack {
    struct unwind_registers regs;
    uint64_t low;
    pthread_t thread;
    sem_t parked, leave;
    int (*nest)(unsigned, int (*)(void *), void *);
};

int bench_nest_fp(unsigned depth, int (*leaf)(void *), void *arg);
int bench_nest_nofp(unsigned depth, int (*leaf)(void *), void *arg);

static struct unwind_thread *thread;
static uint64_t pcs[128];
static const uint64_t *walked;
static volatile uint64_t sink;
static int (*cached_backtrace)(void **, int);

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// The bare walk: what everybody writes first, with the check that it needs to end.
__attribute__((noinline)) static uint32_t bare_walk(const struct unwind_registers *regs,
                                                    uint64_t *out, uint32_t max, uint64_t high)
{
    uint64_t rbp = regs->rbp, low = regs->rsp;
    uint32_t n = 0;
    out[n++] = regs->rip;
    while (n < max && rbp >= low && rbp < high - 16 && rbp % 8 == 0) {
        const uint64_t *frame = (const uint64_t *)(uintptr_t)rbp;
        if (!frame[1])
            break;
        out[n++] = frame[1];
        low = rbp + 16;
        rbp = frame[0];
    }
    return n;
}

enum walker { OURS_FRESH, OURS_AGAIN, BARE, LIBUNWIND };

// Over one stack or two. What the loop itself does is kept small: it counts as walking on both sides.
static double measure_ns(enum walker walker, struct bench_stack *s, unsigned stacks)
{
    uint64_t start = now_ns();
    enum unwind_end end;
    for (unsigned i = 0; i < WALKS; i++) {
        struct bench_stack *at = &s[i & (stacks - 1)];
        const struct unwind_registers *r = &at->regs;
        uint64_t high = at->low + STACK;
        switch (walker) {
        case BARE: sink += bare_walk(r, pcs, 128, high); break;
        case LIBUNWIND: sink += (uint64_t)cached_backtrace((void **)pcs, 128); break;
        default: sink += unwind_walk(thread, r, &walked, 128, &end); break;
        }
    }
    return (double)(now_ns() - start) / WALKS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct series {
    double ns[ROUNDS];
};

static double median(struct series *s)
{
    qsort(s->ns, ROUNDS, sizeof s->ns[0], compare);
    return s->ns[ROUNDS / 2];
}

static void report(const char *what, struct series *ours, const char *peer, struct series *theirs,
                   uint32_t depth, double target)
{
    struct series ratios;
    for (int i = 0; i < ROUNDS; i++)
        ratios.ns[i] = ours->ns[i] / theirs->ns[i];
    double ratio = median(&ratios), a = median(ours), b = median(theirs);
    printf("%-10s %3u frames  ours %6.1f ns (%.1f..%.1f)  %-9s %6.1f ns (%.1f..%.1f)  ratio %.2f, "
           "target %.2f: %s\n",
           what, depth, a, ours->ns[0], ours->ns[ROUNDS - 1], peer, b, theirs->ns[0],
           theirs->ns[ROUNDS - 1], ratio, target, ratio <= target ? "met" : "MISSED");
}

// --- Two stacks, of threads that wait.

static int park(void *arg)
{
    struct bench_stack *s = arg;
    unwind_here(&s->regs);
    sem_post(&s->parked);
    sem_wait(&s->leave);
    return 1;
}

static void *hold_stack(void *arg)
{
    struct bench_stack *s = arg;
    s->nest(FRAMES - 5, park, s);
    return NULL;
}

static void make_stack(struct bench_stack *s, int (*nest)(unsigned, int (*)(void *), void *))
{
    pthread_attr_t attr;
    s->nest = nest;
    sem_init(&s->parked, 0, 0);
    sem_init(&s->leave, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    if (pthread_create(&s->thread, &attr, hold_stack, s))
        abort();
    pthread_attr_destroy(&attr);
    sem_wait(&s->parked);
    void *base;
    size_t size;
    pthread_getattr_np(s->thread, &attr);
    pthread_attr_getstack(&attr, &base, &size);
    pthread_attr_destroy(&attr);
    s->low = (uintptr_t)base;
}

static void free_stack(struct bench_stack *s)
{
    sem_post(&s->leave);
    pthread_join(s->thread, NULL);
}

static uint32_t depth_of(const struct unwind_registers *r)
{
    enum unwind_end end;
    unwind_thread_forget(thread);
    uint32_t n = unwind_walk(thread, r, &walked, 128, &end);
    if (end != UNWIND_END_ROOT)
        printf("the walk ended early: %d\n", (int)end);
    return n;
}

// Bounds that hold both stacks: the walker reads no more of what lies between than a bare one.
static void bound(struct bench_stack *s)
{
    uint64_t low = s[0].low < s[1].low ? s[0].low : s[1].low;
    uint64_t high = (s[0].low > s[1].low ? s[0].low : s[1].low) + STACK;
    unwind_thread_init(thread, low, high);
}

static void bench_fp(void)
{
    struct bench_stack s[2];
    struct series fresh, again, bare, bare_one;
    make_stack(&s[0], bench_nest_fp);
    make_stack(&s[1], bench_nest_fp);
    bound(s);
    uint32_t depth = depth_of(&s[0].regs);
    for (int i = 0; i < ROUNDS; i++) {
        bare.ns[i] = measure_ns(BARE, s, 2);
        fresh.ns[i] = measure_ns(OURS_FRESH, s, 2);
        bare_one.ns[i] = measure_ns(BARE, s, 1);
        again.ns[i] = measure_ns(OURS_AGAIN, s, 1);
    }
    report("fp", &fresh, "bare", &bare, depth, 1.5);
    report("no change", &again, "bare", &bare_one, depth, 0.5);
    free_stack(&s[0]);
    free_stack(&s[1]);
}

// libunwind walks from where it is called, so ours does too: on this stack, afresh each time.
struct nofp {
    struct series fresh, again, libunwind;
    uint32_t depth;
};

static double measure_forgetting_ns(const struct unwind_registers *r)
{
    uint64_t start = now_ns();
    enum unwind_end end;
    for (unsigned i = 0; i < WALKS; i++) {
        unwind_thread_forget(thread);
        sink += unwind_walk(thread, r, &walked, 128, &end);
    }
    return (double)(now_ns() - start) / WALKS;
}

static int nofp_leaf(void *arg)
{
    struct nofp *b = arg;
    struct bench_stack s = {0};
    unwind_here(&s.regs);
    uint64_t low = s.regs.rsp & ~UINT64_C(4095);
    extern void *__libc_stack_end;
    unwind_thread_init(thread, low - 4096, (uintptr_t)__libc_stack_end);
    b->depth = depth_of(&s.regs);
    for (int i = 0; i < ROUNDS; i++) {
        b->fresh.ns[i] = measure_forgetting_ns(&s.regs);
        b->again.ns[i] = measure_ns(OURS_AGAIN, &s, 1);
        if (cached_backtrace)
            b->libunwind.ns[i] = measure_ns(LIBUNWIND, &s, 1);
    }
    return 1;
}

static void bench_nofp(void)
{
    static struct nofp b;
    void *library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (library)
        cached_backtrace = (int (*)(void **, int))(uintptr_t)dlsym(library, "unw_backtrace");
    sink += (uint64_t)bench_nest_nofp(FRAMES - 6, nofp_leaf, &b);
    if (!cached_backtrace) {
        printf("no fp      ours %.1f ns; libunwind is not installed (package libunwind8)\n",
               median(&b.fresh));
        return;
    }
    struct series same = b.libunwind; // before report sorts it
    report("no fp", &b.fresh, "libunwind", &b.libunwind, b.depth, 1.0);
    report("no fp, =", &b.again, "libunwind", &same, b.depth, 1.0);
}

int main(void)
{
    thread = calloc(1, unwind_thread_size());
    if (!thread || unwind_init())
        return 1;
    bench_fp();
    bench_nofp();
    free(thread);
    return 0;
}
