// SPDX-License-Identifier: MIT
//
// System calls without libc between: no errno (whose address a compiler keeps over a switch of stacks),
// and no cancellation points (which cost as much as a short call). Results are the kernel's: -errno.

#ifndef FIBERSCOPE_RUNTIME_ARCH_SYSCALL_H
#define FIBERSCOPE_RUNTIME_ARCH_SYSCALL_H

#include <stdint.h>
#include <sys/syscall.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARCH_SYSCALL_BY_LIBC 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define ARCH_SYSCALL_BY_LIBC 1
#endif

static inline long arch_syscall(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                                uintptr_t e, uintptr_t f)
{
    register uintptr_t r10 __asm__("r10") = d;
    register uintptr_t r8 __asm__("r8") = e;
    register uintptr_t r9 __asm__("r9") = f;
    long rc;
    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return rc;
}

#endif
