// SPDX-License-Identifier: MIT
//
// What the walker asks of the processor and the kernel's x86-64 ABI.

#ifndef FIBERSCOPE_UNWIND_ARCH_X86_64_H
#define FIBERSCOPE_UNWIND_ARCH_X86_64_H

#include <emmintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

// Whether 8 bytes at address can be read, without a fault and without touching errno: the kernel
// copies the new mask before it looks at `how`, so this fails with EFAULT or with EINVAL.
static inline bool arch_is_readable(uint64_t address)
{
    long result;
    register long r10 __asm__("r10") = 8;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_rt_sigprocmask), "D"(-1L), "S"(address), "d"(0L), "r"(r10)
                     : "rcx", "r11", "memory");
    return result != -14; // EFAULT
}

static inline bool arch_is_zero(__m128i v)
{
    return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff;
}

#endif
