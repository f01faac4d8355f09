// SPDX-License-Identifier: MIT
//
// What tools that follow stacks are told: the address and the thread sanitizer, when the runtime is compiled under
// them (else nothing is left of it), and valgrind, when the program runs under it.
//
// gcc's thread sanitizer is left out: it dies at 8,128 fibers.

#ifndef FIBERSCOPE_RUNTIME_TOOLS_H
#define FIBERSCOPE_RUNTIME_TOOLS_H

#include "runtime/arch/arch.h"
#include "runtime/types.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define FIB_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIB_TSAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FIB_ASAN 1
#endif

// Warns of a program under clang's or gcc's thread sanitizer when the runtime is not.
void tools_warn(void);

// A stack is there from now on, for ever. [once for each]
void tools_stack_made(const uint8_t *low, const uint8_t *high);

#if defined(FIB_ASAN) || defined(FIB_TSAN)
void tools_thread_begins(struct live *g0);             // the calling thread becomes an M
void tools_fiber_begins(struct live *l);               // l has been given a stack
void tools_fiber_ended(struct live *l);                // and has left it
void tools_switched(struct live *to);                  // first on the new stack
void tools_switch(struct live *from, struct live *to); // arch_switch
#else
static inline void tools_thread_begins(struct live *g0)
{
    (void)g0;
}
static inline void tools_fiber_begins(struct live *l)
{
    (void)l;
}
static inline void tools_fiber_ended(struct live *l)
{
    (void)l;
}
static inline void tools_switched(struct live *to)
{
    (void)to;
}
static inline void tools_switch(struct live *from, struct live *to)
{
    arch_switch(&from->sp, to->sp);
}
#endif

#endif
