// SPDX-License-Identifier: MIT
//
// USDT sites: places in the code that a tracer (BPF, bpftrace, perf, gdb, SystemTap) finds by the notes of our files and
// may attach to. What each says is in docs/usdt.md.
//
// What always holds
//   - A site is a five-byte nop, which Linux 6.18 replaces by a call; before, and where it does not, a breakpoint is
//     put there. (<sys/sdt.h> has a nop of one byte.) A site of NOP1 has that, for kernels that single-step the longer
//     one. It never crosses a page, which could not be replaced.
//   - That call writes 32 bytes below rsp: files with sites are compiled with -mno-red-zone.
//   - A function with a site has a frame pointer, also where it leaves by a tail call: tracers walk the stack from there.
//   - Each probe has a semaphore, which counts who is attached: while it is 0 nothing is computed. It is read plainly,
//     as m_is_traced is; the kernel writes it.
//   - Arguments are unsigned words of 8 bytes, in registers or constants: "8@%rdi" or "8@$7".
//   - What the pointers among them point to has been written. A tracer's program can change nothing here.
//
// The note is version 3 of SystemTap's (sourceware.org/systemtap/wiki/UserSpaceProbeImplementation), its base that of
// prelink: .stapsdt.base, one byte in each file.
//
// A library defines the semaphores of its probes in one file, USDT_SEMAPHORES(X) with X(NAME) for each, and declares them
// where they are used.
//
// [any thread, any stack] [async-signal-safe]

#ifndef FIBERSCOPE_EMIT_USDT_H
#define FIBERSCOPE_EMIT_USDT_H

#include <stdint.h>

#ifdef FSCOPE_NO_USDT
#define USDT_DECLARE(name)
#define USDT_IS_ON(name) 0
#define USDT_ARG_(value) (void)(value)
#define USDT_SITE_(name, arguments, ...)                                                           \
    do {                                                                                           \
        __VA_ARGS__;                                                                               \
    } while (0)
#else

#define USDT_DECLARE(name)                                                                         \
    extern uint16_t fiberscope_##name##_semaphore __attribute__((visibility("hidden")));

// Whether somebody is attached: a site stands behind this.
#define USDT_IS_ON(name) __builtin_expect(fiberscope_##name##_semaphore != 0, 0)

#ifdef FSCOPE_USDT_NOP1
#define USDT_NOP_ "990: nop\n"
#else
#define USDT_NOP_                                                                                  \
    ".p2align 3\n"                                                                                 \
    "990: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
#endif

#define USDT_ARG_(value) "nr"((uint64_t)(value)) // %1 and so on: %0 is the frame
#define USDT_SITE_(name, arguments, ...)                                                           \
    __asm__ volatile(USDT_NOP_ ".pushsection .note.stapsdt, \"?\", \"note\"\n"                     \
                               ".balign 4\n"                                                       \
                               ".4byte 992f - 991f, 994f - 993f, 3\n"                              \
                               "991: .asciz \"stapsdt\"\n"                                         \
                               "992: .balign 4\n"                                                  \
                               "993: .8byte 990b, _.stapsdt.base\n"                                \
                               ".8byte fiberscope_" #name "_semaphore\n"                           \
                               ".asciz \"fiberscope\"\n"                                           \
                               ".asciz \"" #name "\"\n"                                            \
                               ".asciz \"" arguments "\"\n"                                        \
                               "994: .balign 4\n"                                                  \
                               ".popsection\n"                                                     \
                               ".ifndef _.stapsdt.base\n"                                          \
                               ".pushsection .stapsdt.base, \"aG\", \"progbits\", "                \
                               ".stapsdt.base, comdat\n"                                           \
                               ".weak _.stapsdt.base\n"                                            \
                               ".hidden _.stapsdt.base\n"                                          \
                               "_.stapsdt.base: .space 1\n"                                        \
                               ".size _.stapsdt.base, 1\n"                                         \
                               ".popsection\n"                                                     \
                               ".endif\n"                                                          \
                     :                                                                             \
                     : "r"(__builtin_frame_address(0)), __VA_ARGS__                                \
                     : "memory")
#endif

// Defines the semaphores of X(NAME)...: on a line of their own, which nothing else writes to.
#ifdef FSCOPE_NO_USDT
#define USDT_SEMAPHORES(list)
#else
#define USDT_SEMAPHORES(list)                                                                      \
    __asm__(".pushsection .probes, \"aw\", \"progbits\"\n.balign 64\n" list(                       \
        USDT_SEMAPHORE_) ".balign 64\n.popsection\n");
#endif
#define USDT_SEMAPHORE_(name)                                                                      \
    ".globl fiberscope_" #name "_semaphore\n"                                                      \
    ".hidden fiberscope_" #name "_semaphore\n"                                                     \
    ".type fiberscope_" #name "_semaphore, @object\n"                                              \
    ".size fiberscope_" #name "_semaphore, 2\n"                                                    \
    "fiberscope_" #name "_semaphore: .2byte 0\n"

#define USDT1(name, a)    USDT_SITE_(name, "8@%1", USDT_ARG_(a))
#define USDT2(name, a, b) USDT_SITE_(name, "8@%1 8@%2", USDT_ARG_(a), USDT_ARG_(b))
#define USDT3(name, a, b, c)                                                                       \
    USDT_SITE_(name, "8@%1 8@%2 8@%3", USDT_ARG_(a), USDT_ARG_(b), USDT_ARG_(c))
#define USDT4(name, a, b, c, d)                                                                    \
    USDT_SITE_(name, "8@%1 8@%2 8@%3 8@%4", USDT_ARG_(a), USDT_ARG_(b), USDT_ARG_(c), USDT_ARG_(d))
#define USDT5(name, a, b, c, d, e)                                                                 \
    USDT_SITE_(name, "8@%1 8@%2 8@%3 8@%4 8@%5", USDT_ARG_(a), USDT_ARG_(b), USDT_ARG_(c),         \
               USDT_ARG_(d), USDT_ARG_(e))

#endif
