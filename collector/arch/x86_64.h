// SPDX-License-Identifier: MIT
//
// What looking at processes and core files asks of x86-64.

#ifndef FIBERSCOPE_COLLECTOR_ARCH_X86_64_H
#define FIBERSCOPE_COLLECTOR_ARCH_X86_64_H

#include "unwind/unwind.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>
#include <sys/user.h>

enum { ARCH_REGISTERS = 23 }; // of a ucontext's gregs

// The time-stamp counter, one for all processes of this machine.
static inline uint64_t arch_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

// From the registers of a core file's NT_PRSTATUS, or of ptrace.
static inline void arch_from_user(struct unwind_registers *r, const struct user_regs_struct *u)
{
    const uint64_t other[16] = {u->rax, u->rdx, u->rcx, u->rbx, u->rsi, u->rdi, u->rbp, u->rsp,
                                u->r8,  u->r9,  u->r10, u->r11, u->r12, u->r13, u->r14, u->r15};
    *r = (struct unwind_registers){.rip = u->rip, .rbp = u->rbp, .rsp = u->rsp, .valid = 0xffff};
    memcpy(r->other, other, sizeof other);
}

// The negative results by which the kernel knows how a call is to be restarted (its linux/errno.h).
enum {
    ARCH_RESTARTSYS = -512,
    ARCH_RESTARTNOINTR = -513,
    ARCH_RESTARTNOHAND = -514, // unless a handler runs: then EINTR
    ARCH_RESTARTBLOCK = -516,
};

// Whether a stopped thread is in a system call that it will restart or that was cut: its number and arguments.
static inline bool arch_call(const struct user_regs_struct *u, int64_t *number, uint64_t args[6])
{
    const uint64_t its[6] = {u->rdi, u->rsi, u->rdx, u->r10, u->r8, u->r9};
    int64_t result = (int64_t)u->rax;
    if ((int64_t)u->orig_rax < 0 ||
        (result != ARCH_RESTARTSYS && result != ARCH_RESTARTNOINTR &&
         result != ARCH_RESTARTNOHAND && result != ARCH_RESTARTBLOCK && result != -EINTR))
        return false;
    *number = (int64_t)u->orig_rax;
    memcpy(args, its, sizeof its);
    return true;
}

// What is known of a thread that is blocked in a call, though it was not stopped: rbp and what callees save is not.
static inline void arch_from_call(struct unwind_registers *r, uint64_t pc, uint64_t sp,
                                  const uint64_t args[6])
{
    static const uint8_t argument[6] = {5, 4, 1, 10, 8, 9};
    *r = (struct unwind_registers){.rip = pc, .rsp = sp, .valid = 1u << 7};
    r->other[7] = sp;
    for (int i = 0; i < 6; i++) {
        r->other[argument[i]] = args[i];
        r->valid |= 1u << argument[i];
    }
}

// From a ucontext's gregs.
static inline void arch_from_context(struct unwind_registers *r, const uint64_t *gregs)
{
    static const uint8_t by_dwarf_number[16] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    *r = (struct unwind_registers){
        .rip = gregs[REG_RIP], .rbp = gregs[REG_RBP], .rsp = gregs[REG_RSP], .valid = 0xffff};
    for (int i = 0; i < 16; i++)
        r->other[i] = gregs[by_dwarf_number[i]];
}

#endif
