// SPDX-License-Identifier: MIT
//
// Functions that make one known call each, so that a stack says by itself what its leaf has to be:
//
//   call_X     calls X
//   tail_X     leaves by X where compilers do that; from_X calls it
//   through_X  calls X through a register

#ifndef FIBERSCOPE_TESTS_TRACE_API_CALLS_H
#define FIBERSCOPE_TESTS_TRACE_API_CALLS_H

#ifdef __clang__ // which only has to compile it
#define NOIPA __attribute__((noinline))
#else
#define NOIPA __attribute__((noipa))
#endif

// What comes after a call keeps it from being the last.
static inline __attribute__((always_inline)) void keep(void)
{
    __asm__ volatile("" ::: "memory");
}

#define CALL(name, call)                                                                           \
    static NOIPA void call_##name(void)                                                            \
    {                                                                                              \
        (void)!(call);                                                                             \
        keep();                                                                                    \
    }

#define CALL_VOID(name, call)                                                                      \
    static NOIPA void call_##name(void)                                                            \
    {                                                                                              \
        call;                                                                                      \
        keep();                                                                                    \
    }

#define TAIL(type, name, call)                                                                     \
    static NOIPA type tail_##name(void)                                                            \
    {                                                                                              \
        return call;                                                                               \
    }                                                                                              \
    static NOIPA void from_##name(void)                                                            \
    {                                                                                              \
        (void)!tail_##name();                                                                      \
        keep();                                                                                    \
    }

#define TAIL_VOID(name, call)                                                                      \
    static NOIPA void tail_##name(void)                                                            \
    {                                                                                              \
        call;                                                                                      \
    }                                                                                              \
    static NOIPA void from_##name(void)                                                            \
    {                                                                                              \
        tail_##name();                                                                             \
        keep();                                                                                    \
    }

// A call through a register that the function's address is in, as compilers make for functions that are called several
// times, where they find it worth while.
#ifdef __OPTIMIZE__
#define IN_REGISTER(f) __asm__("" : "+r"(f))
#else
#define IN_REGISTER(f) (void)(f)
#endif

#define THROUGH(name, args)                                                                        \
    static NOIPA void through_##name(void)                                                         \
    {                                                                                              \
        __typeof__(&name) f = name;                                                                \
        IN_REGISTER(f);                                                                            \
        CALL_OF(f, name) args;                                                                     \
        keep();                                                                                    \
    }
#ifdef __OPTIMIZE__
#define CALL_OF(f, name) f
#else
#define CALL_OF(f, name) name
#endif

#endif
