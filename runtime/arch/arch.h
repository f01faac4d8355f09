// SPDX-License-Identifier: MIT
//
// What depends on the processor: switching stacks, the time stamp counter, a pause.

#ifndef FIBERSCOPE_RUNTIME_ARCH_H
#define FIBERSCOPE_RUNTIME_ARCH_H

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// Saves the callee-saved registers on this stack and its pointer in *save_sp; goes on where load_sp was
// saved. The control words of x87 and SSE stay as they are.
void arch_switch(uint64_t *save_sp, uint64_t load_sp);
void fib_root_(void);

// The sp of a new stack below `top` (aligned to 16): the first switch to it calls fn(arg) from the root.
static inline uint64_t arch_new_stack(uint64_t top, void (*fn)(void *), void *arg)
{
    uint64_t *sp = (uint64_t *)(top - 9 * 8);   // the root runs at top - 16: aligned at its calls
    sp[0] = 0;                                  // r15
    sp[1] = 0;                                  // r14
    sp[2] = (uint64_t)(uintptr_t)arg;           // r13
    sp[3] = (uint64_t)(uintptr_t)fn;            // r12
    sp[4] = 0;                                  // rbx
    sp[5] = 0;                                  // rbp
    sp[6] = (uint64_t)(uintptr_t)fib_root_ + 1; // see switch.S
    sp[7] = 0;                                  // where a caller's return address would be
    sp[8] = 0;
    return (uint64_t)(uintptr_t)sp;
}

static inline uint64_t arch_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

// Whether the counter runs at one rate on all processors and in all their states.
static inline bool arch_tsc_is_invariant(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

static inline void arch_pause(void)
{
    __builtin_ia32_pause();
}

#endif
