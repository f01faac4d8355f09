// SPDX-License-Identifier: MIT
//
// See tools.h.

#include "runtime/tools.h"
#include "runtime/core.h"
#include "runtime/print.h"

#include <pthread.h>

#ifdef __has_include
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif

#ifndef FIB_TSAN
extern void __tsan_init(void) __attribute__((weak)); // NOLINT: the sanitizer's
#endif

void tools_warn(void)
{
#ifndef FIB_TSAN
    if (!__tsan_init)
        return;
    struct print p = {.fd = 2};
    print_text(&p,
               "fiberscope-rt: the program is built with the thread sanitizer and this runtime is "
               "not: it will report races that are none, or crash; see \"Debuggers and other "
               "tools\" in fiberscope-runtime(7)\n");
    print_flush(&p);
#endif
}

void tools_stack_made(const uint8_t *low, const uint8_t *high)
{
    (void)low, (void)high;
#ifdef VALGRIND_STACK_REGISTER
    if (RUNNING_ON_VALGRIND) // some instructions without effect elsewhere
        (void)VALGRIND_STACK_REGISTER(low, high - 1);
#endif
}

#ifdef FIB_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

void tools_thread_begins(struct live *g0)
{
    pthread_attr_t attr;
    void *low = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attr))
        return;
    pthread_attr_getstack(&attr, &low, &bytes);
    pthread_attr_destroy(&attr);
    g0->low = (uintptr_t)low;
    g0->high = g0->low + bytes;
}

// What the last owner left marked: fib_exit leaves frames that never return.
void tools_fiber_begins(struct live *l)
{
    const uint64_t low = l->low + LINE; // the guard's shadow does not matter
    __asan_unpoison_memory_region((void *)(uintptr_t)low, l->high - low);
}

void tools_fiber_ended(struct live *l)
{
    (void)l;
}

void tools_switched(struct live *to)
{
    __sanitizer_finish_switch_fiber(to->asan_fake_stack, NULL, NULL);
}

void tools_switch(struct live *from, struct live *to)
{
    // One that has ended will not be back: its fake stack goes.
    bool ends = atomic_load_explicit(&from->g->status, memory_order_relaxed) == G_DEAD;
    __sanitizer_start_switch_fiber(ends ? NULL : &from->asan_fake_stack, (void *)(uintptr_t)to->low,
                                   to->high - to->low);
    arch_switch(&from->sp, to->sp);
}
#endif

#ifdef FIB_TSAN
#include <sanitizer/tsan_interface.h>

void tools_thread_begins(struct live *g0)
{
    g0->tsan_fiber = __tsan_get_current_fiber();
}

void tools_fiber_begins(struct live *l)
{
    l->tsan_fiber = __tsan_create_fiber(0);
}

void tools_fiber_ended(struct live *l)
{
    __tsan_destroy_fiber(l->tsan_fiber);
    l->tsan_fiber = NULL;
}

void tools_switched(struct live *to)
{
    (void)to;
}

// Its entry and exit must not be recorded: they would be on two fibers' lists. Flags 0: what ran before on this
// thread happened before.
__attribute__((disable_sanitizer_instrumentation)) void tools_switch(struct live *from,
                                                                     struct live *to)
{
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
    arch_switch(&from->sp, to->sp);
}
#endif
