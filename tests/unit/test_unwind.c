// SPDX-License-Identifier: MIT
//
// What must hold: a walk of the own stack shows exactly the frames that were built, with and without
// frame pointers, through qsort, strdup, operator new, signal frames, the vdso, PLT stubs and thread
// starts; at any interrupted pc it equals libgcc's; and no stack, however broken, makes it crash.

#include "unwind/unwind.h"
#include "tests/unit/unwind_chains.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

#include <cmocka.h>

enum { DEPTH = 256 };

static struct unwind_thread *kept;     // sees all walks: cached rows, previous stacks
static struct unwind_thread *fresh;    // forgets before each walk
static const uint64_t *walked, *again; // kept's and fresh's
static uint32_t walked_depth;
static enum unwind_end walked_end;
static struct truth truth;
extern int main(int argc, char **argv);

static void stack_bounds(uint64_t *low, uint64_t *high)
{
    pthread_attr_t attr;
    void *base;
    size_t size;
    assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
    assert_int_equal(pthread_attr_getstack(&attr, &base, &size), 0);
    *low = (uintptr_t)base;
    *high = *low + size;
    pthread_attr_destroy(&attr);
}

static struct unwind_thread *make_thread(void)
{
    uint64_t low, high;
    struct unwind_thread *t = calloc(1, unwind_thread_size());
    assert_non_null(t);
    stack_bounds(&low, &high);
    unwind_thread_init(t, low, high);
    return t;
}

// Walks twice, from the same registers: with what was kept, and afresh; they must agree.
__attribute__((noinline)) static int walk_leaf(struct truth *t)
{
    struct unwind_registers regs = {0};
    enum unwind_end end;
    t->pcs[t->depth++] = (uint64_t)(uintptr_t)__builtin_return_address(0);
    unwind_here(&regs);
    walked_depth = unwind_walk(kept, &regs, &walked, DEPTH, &walked_end);
    unwind_thread_forget(fresh);
    uint32_t n = unwind_walk(fresh, &regs, &again, DEPTH, &end);
    assert_int_equal(n, walked_depth);
    assert_int_equal(end, walked_end);
    assert_memory_equal(again, walked, n * sizeof walked[0]);
    return 1;
}

#ifdef FSCOPE_TEST_MALLOC // the sanitizers have their own malloc
extern void *__libc_malloc(size_t size);
static struct truth *in_malloc; // the next malloc walks

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    struct truth *t = in_malloc;
    if (t) {
        in_malloc = NULL;
        t->pcs[t->depth++] = (uint64_t)(uintptr_t)__builtin_return_address(0);
        t->leaf(t);
    }
    return __libc_malloc(size);
}
#endif

// The walk has the true return addresses in their order, `libraries` frames between them at most
// that are not ours, and reaches the root.
static void check_truth(unsigned libraries)
{
    unsigned i = truth.depth, foreign = 0;
    assert_int_equal(walked_end, UNWIND_END_ROOT);
    assert_true(walked_depth > truth.depth);
    uint32_t k = 1;
    for (; k < walked_depth && i > 0; k++) {
        if (walked[k] == truth.pcs[i - 1])
            i--;
        else
            foreign++;
    }
    assert_int_equal(i, 0);
    assert_int_equal(foreign, libraries);
    // and libgcc, which shares no code, sees the same from the test function outwards
    void *theirs[DEPTH];
    int n = backtrace(theirs, DEPTH);
    for (uint32_t a = walked_depth; a > k && n > 0; a--)
        assert_int_equal(walked[a - 1], (uintptr_t)theirs[--n]);
}

static void begin(void)
{
    truth = (struct truth){.leaf = walk_leaf};
}

static void nested_calls_are_all_there(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth < 60; depth += 7) {
        begin();
        fp_nest(&truth, depth);
        assert_int_equal(truth.depth, depth + 2);
        check_truth(0);
        begin();
        nofp_nest(&truth, depth);
        assert_int_equal(truth.depth, depth + 2);
        check_truth(0);
    }
}

static void realigned_frames_are_left_by_their_expression(void **state)
{
    (void)state;
    begin();
    fp_through_realigned(&truth, 100);
    check_truth(0);
    begin();
    nofp_through_realigned(&truth, 100);
    check_truth(0);
}

// How many frames of libc lie between qsort's caller and the callback is libc's own affair, so
// libgcc is asked.
static unsigned qsort_frames;

static int count_qsort_frames(struct truth *t)
{
    void *theirs[DEPTH];
    int n = backtrace(theirs, DEPTH), to_compare = 0, to_caller = 0;
    walk_leaf(t);
    // truth: ..., qsort's caller returns, compare returns, this returns, walk_leaf returns
    for (int i = 0; i < n; i++) {
        if ((uintptr_t)theirs[i] == t->pcs[t->depth - 2])
            to_compare = i;
        if ((uintptr_t)theirs[i] == t->pcs[0])
            to_caller = i;
    }
    assert_true(to_caller > to_compare);
    qsort_frames = (unsigned)(to_caller - to_compare - 1);
    return 1;
}

static void callbacks_from_qsort_show_their_caller(void **state)
{
    (void)state;
    for (int fp = 0; fp < 2; fp++) {
        begin();
        truth.leaf = count_qsort_frames;
        (fp ? fp_through_qsort : nofp_through_qsort)(&truth);
        // compare and the caller's frame in qsort's caller: the two that no function noted are
        // count_qsort_frames' return into compare and qsort's into its caller
        check_truth(qsort_frames + 1);
    }
}

#ifdef FSCOPE_TEST_MALLOC
static void check_malloc_caller(const char *symbol)
{
    Dl_info info;
    bool seen = false;
    for (uint32_t i = 1; i < walked_depth; i++)
        if (dladdr((void *)(uintptr_t)(walked[i] - 1), &info) && info.dli_sname)
            seen = seen || strstr(info.dli_sname, symbol);
    assert_true(seen);
}

static void strdup_and_new_show_who_called_them(void **state)
{
    (void)state;
    void *cxx = dlopen("libstdc++.so.6", RTLD_NOW);
    assert_non_null(cxx);
    void *(*new_)(size_t) = (void *(*)(size_t))(uintptr_t)dlsym(cxx, "_Znwm");
    void (*delete_)(void *) = (void (*)(void *))(uintptr_t)dlsym(cxx, "_ZdlPv");
    for (int fp = 0; fp < 2; fp++) {
        begin();
        in_malloc = &truth;
        (fp ? fp_through_strdup : nofp_through_strdup)(&truth);
        check_truth(1); // strdup returns into its caller: noted by nobody
        check_malloc_caller("strdup");
        begin();
        in_malloc = &truth;
        (fp ? fp_through_new : nofp_through_new)(&truth, new_, delete_);
        check_truth(1);
        check_malloc_caller("_Znwm");
    }
}

#endif

// Random depths, so that walks meet the previous stack in all ways; walk_leaf compares each with a
// fresh walk, check_truth with the truth.
static void previous_stacks_never_lend_a_wrong_frame(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int i = 0; i < 3000; i++) {
        seed = seed * 1103515245 + 12345;
        begin();
        ((seed >> 16 & 1) ? fp_nest : nofp_nest)(&truth, seed >> 18 & 31);
        check_truth(0);
    }
}

static unsigned walks_that_differ;

// The kept walk of this stack as it is now must be what a fresh one is.
static void compare_with_fresh(const struct unwind_registers *regs)
{
    enum unwind_end kept_end, end;
    uint32_t depth = unwind_walk(kept, regs, &walked, DEPTH, &kept_end);
    unwind_thread_forget(fresh);
    uint32_t n = unwind_walk(fresh, regs, &again, DEPTH, &end);
    walks_that_differ +=
        n != depth || end != kept_end || memcmp(again, walked, n * sizeof walked[0]) != 0;
}

// Changes each word of the callers' frames for the time of a walk, on a stack that was found unchanged
// before. Nobody returns through them, and nothing is asserted, while they are wrong.
__attribute__((noinline, no_sanitize("address"))) static int spoil_leaf(struct truth *t)
{
    struct unwind_registers regs = {0};
    volatile uint64_t *word = (volatile uint64_t *)__builtin_frame_address(0);
    (void)t;
    unwind_here(&regs);
    uint64_t low, high;
    stack_bounds(&low, &high);
    for (int i = 0; i < 1500 && (uintptr_t)word < high; i++, word++) {
        static const uint64_t changes[] = {8, UINT64_C(1) << 40, 1};
        for (int k = 0; k < 3; k++) {
            for (int again_and_again = 0; again_and_again < 3; again_and_again++)
                compare_with_fresh(&regs);
            const uint64_t was = *word;
            *word = was ^ changes[k];
            compare_with_fresh(&regs);
            compare_with_fresh(&regs);
            *word = was;
        }
    }
    return 1;
}

static void every_changed_word_is_seen(void **state)
{
    (void)state;
    for (int depth = 0; depth < 24; depth += 11) {
        truth = (struct truth){.leaf = spoil_leaf};
        (void)fp_nest(&truth, (unsigned)depth);
        truth = (struct truth){.leaf = spoil_leaf};
        (void)nofp_nest(&truth, (unsigned)depth);
        assert_int_equal(walks_that_differ, 0);
    }
}

// --- Signals.

static void on_raise(int sig)
{
    (void)sig;
    walk_leaf(&truth);
}

static int raise_in_leaf(struct truth *t)
{
    t->pcs[t->depth++] = (uint64_t)(uintptr_t)__builtin_return_address(0);
    raise(SIGUSR1);
    return 1;
}

static void handlers_are_left_through_the_signal_frame(void **state)
{
    (void)state;
    static char alternate[65536];
    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
    assert_int_equal(sigaltstack(&ss, NULL), 0);
    for (int flags = 0; flags < 2; flags++) {
        struct sigaction sa = {.sa_handler = on_raise, .sa_flags = flags ? SA_ONSTACK : 0};
        sigaction(SIGUSR1, &sa, NULL);
        begin();
        truth.leaf = raise_in_leaf;
        nofp_nest(&truth, 5);
        // The last thing noted is walk_leaf's return into on_raise, the one before it raise_in_leaf's.
        void *theirs[DEPTH];
        int n = backtrace(theirs, DEPTH), tail = 0;
        assert_true(n > 2);
        for (uint32_t a = walked_depth; tail < n - 1 && a > 0; a--, tail++)
            if (walked[a - 1] != (uintptr_t)theirs[n - 1 - tail])
                break;
        assert_true(tail >= n - 2);
        assert_int_equal(walked_end, UNWIND_END_ROOT);
        unsigned i = truth.depth - 1, between = 0;
        for (uint32_t k = 2; k < walked_depth && i > 0; k++)
            walked[k] == truth.pcs[i - 1] ? i-- : between++;
        assert_int_equal(i, 0);
        assert_true(between >= 3); // __restore_rt, raise and what it is made of
    }
    ss.ss_flags = SS_DISABLE;
    sigaltstack(&ss, NULL);
}

static volatile sig_atomic_t stops, different, incomplete;

static void on_timer(int sig, siginfo_t *info, void *ucontext)
{
    (void)sig, (void)info;
    const uint64_t *pcs;
    static void *theirs[DEPTH];
    struct unwind_registers regs;
    enum unwind_end end;
    unwind_registers_from_context(&regs, ucontext);
    uint32_t n = unwind_walk(kept, &regs, &pcs, DEPTH, &end);
    int m = backtrace(theirs, DEPTH), from = 0;
    while (from < m && (uintptr_t)theirs[from] != regs.rip)
        from++;
    bool same = (uint32_t)(m - from) == n;
    for (uint32_t i = 0; same && i < n; i++)
        same = pcs[i] == (uintptr_t)theirs[(uint32_t)from + i];
    stops++;
    different += !same;
    incomplete += end != UNWIND_END_ROOT;
    if (!same && different < 4) {
        for (uint32_t i = 0; i < n || (int)i < m - from; i++)
            fprintf(stderr, "%u: %#lx %p\n", i, i < n ? pcs[i] : 0,
                    (int)i < m - from ? theirs[from + (int)i] : NULL);
    }
}

static void any_interrupted_pc_walks_as_libgcc_does(void **state)
{
    (void)state;
    struct sigaction sa = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGPROF, &sa, NULL);
    timer_t timer;
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF};
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &how, &timer), 0);
    struct itimerspec every = {{0, 317000}, {0, 317000}};
    timer_settime(timer, 0, &every, NULL);
    while (stops < 2000)
        (void)(fp_work(50) + nofp_work(50));
    timer_delete(timer);
    print_message("%d stops, %d differ, %d incomplete\n", (int)stops, (int)different,
                  (int)incomplete);
    assert_int_equal(different, 0);
    assert_int_equal(incomplete, 0);
}

// --- Threads, broken stacks.

static void *in_thread(void *arg)
{
    bool bounded = arg != NULL;
    struct unwind_thread *t = make_thread();
    const uint64_t *pcs;
    void *theirs[DEPTH];
    struct unwind_registers regs = {0};
    enum unwind_end end;
    if (!bounded)
        unwind_thread_init(t, 0, 0);
    unwind_here(&regs);
    uint32_t n = unwind_walk(t, &regs, &pcs, DEPTH, &end);
    int m = backtrace(theirs, DEPTH);
#ifdef __SANITIZE_ADDRESS__
    const int skip = 1; // ASan stands between us and backtrace, and is in its list
#else
    const int skip = 0;
#endif
    // Outwards of this function: start_thread and clone.
    bool ok = end == UNWIND_END_ROOT && (int)n == m - skip && n >= 3;
    for (uint32_t i = 1; ok && i < n; i++)
        ok = pcs[i] == (uintptr_t)theirs[(int)i + skip];
    free(t);
    return ok ? NULL : (void *)1;
}

static void threads_walk_to_their_start(void **state)
{
    (void)state;
    for (uintptr_t bounded = 0; bounded < 2; bounded++) {
        pthread_t thread;
        void *failed;
        assert_int_equal(pthread_create(&thread, NULL, in_thread, (void *)bounded), 0);
        pthread_join(thread, &failed);
        assert_null(failed);
    }
}

static void broken_stacks_never_crash(void **state)
{
    (void)state;
    enum { WORDS = 512 };
    static uint64_t stack[WORDS];
    struct unwind_thread *t = calloc(1, unwind_thread_size());
    uint64_t seed = 1;
    const uint64_t *pcs;
    enum unwind_end end;
    for (int round = 0; round < 20000; round++) {
        for (int i = 0; i < WORDS; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint64_t pick = seed >> 33;
            const uint64_t code[] = {(uintptr_t)&main, (uintptr_t)&qsort, (uintptr_t)&fp_work};
            stack[i] = pick % 4 == 0   ? (uintptr_t)&stack[pick / 4 % WORDS]
                       : pick % 4 == 1 ? seed
                                       : code[pick % 3] + pick / 16 % 512;
        }
        uint64_t at = (uintptr_t)&stack[seed >> 40 & 255];
        struct unwind_registers regs = {stack[1], stack[2], round % 3 ? at : stack[3], {0}, 0};
        bool bounded = round % 2;
        unwind_thread_init(t, bounded ? (uintptr_t)stack : 0,
                           bounded ? (uintptr_t)(stack + WORDS) : 0);
        assert_true(unwind_walk(t, &regs, &pcs, 64, &end) <= 64);
    }
    free(t);
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    void *warm[2];
    backtrace(warm, 2); // loads libgcc_s now, not in a handler
    if (unwind_init())
        return 1;
    kept = make_thread();
    fresh = make_thread();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nested_calls_are_all_there),
        cmocka_unit_test(realigned_frames_are_left_by_their_expression),
        cmocka_unit_test(callbacks_from_qsort_show_their_caller),
#ifdef FSCOPE_TEST_MALLOC
        cmocka_unit_test(strdup_and_new_show_who_called_them),
#endif
        cmocka_unit_test(previous_stacks_never_lend_a_wrong_frame),
        cmocka_unit_test(every_changed_word_is_seen),
        cmocka_unit_test(handlers_are_left_through_the_signal_frame),
        cmocka_unit_test(any_interrupted_pc_walks_as_libgcc_does),
        cmocka_unit_test(threads_walk_to_their_start),
        cmocka_unit_test(broken_stacks_never_crash),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(kept);
    free(fresh);
    return failed;
}
