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

// OR-ed difference between the two words at `at` and *value; the first word counts only where mask
// has bits.
static inline __m128i arch_difference(__m128i so_far, uint64_t at, const uint64_t *value,
                                      uint64_t mask)
{
    __m128i there = _mm_loadu_si128((const __m128i *)(uintptr_t)at);
    __m128i was = _mm_loadu_si128((const __m128i *)(const void *)value);
    __m128i care = _mm_unpacklo_epi64(_mm_cvtsi64_si128((long long)mask), _mm_set1_epi64x(-1));
    return _mm_or_si128(so_far, _mm_and_si128(_mm_xor_si128(there, was), care));
}

static inline bool arch_is_zero(__m128i v)
{
    return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff;
}

#endif
