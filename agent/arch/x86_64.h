// SPDX-License-Identifier: MIT
//
// System calls without libc's wrappers. In a target these are not ours to use: many are
// cancellation points (a deferred pthread_cancel would then act in the middle of our handler), the
// program or another preload may have replaced them, and they write errno.
//
// Returns what the kernel returns: -errno on failure. [async-signal-safe]

#ifndef FIBERSCOPE_AGENT_ARCH_X86_64_H
#define FIBERSCOPE_AGENT_ARCH_X86_64_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long sys6(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                        uint64_t f)
{
    long result;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// Two words that change together. The compiler's own 16-byte atomics are calls into libatomic, which a
// target need not have. at is 16-byte aligned; sequentially consistent; *expected is what was there.
static inline bool compare_exchange_pair(uint64_t at[2], uint64_t expected[2], uint64_t low,
                                         uint64_t high)
{
    bool done;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(*(uint64_t(*)[2])(void *)at), "+a"(expected[0]),
                       "+d"(expected[1])
                     : "b"(low), "c"(high)
                     : "memory");
    return done;
}

// Arguments are integers or pointers.
#define SYS_ARG(x)          ((uint64_t)(x))
#define sys0(n)             sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a)          sys6(n, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b)       sys6(n, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys3(n, a, b, c)    sys6(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys5(n, a, b, c, d, e)                                                                     \
    sys6(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)

// The processor's time stamp counter.
static inline uint64_t arch_ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

// Adds where no other thread does: one instruction, so that a signal handler cannot come between.
static inline void arch_add_alone(_Atomic uint64_t *at, uint64_t n)
{
    __asm__ volatile("addq %1, %0" : "+m"(*at) : "er"(n) : "cc");
}

// Where the stack is after a jump: of glibc's jmp_buf, which has it garbled.
static inline uint64_t arch_jump_stack(const uint64_t *where)
{
    enum { RSP = 6 };
    uint64_t at = where[RSP];
    __asm__("ror $17, %0\n\txor %%fs:0x30, %0" : "+r"(at) : : "cc");
    return at;
}

#endif
