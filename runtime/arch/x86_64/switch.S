// SPDX-License-Identifier: MIT
//
// Switching stacks. One routine, one caller (switch_to), ending in ret, so that the processor's return
// prediction stays right through the frames above it. CFI is exact at every instruction: debuggers and
// profilers unwind from inside.
//
// What a parked stack holds at its sp, upwards: r15 r14 r13 r12 rbx rbp, return address. arch.h lays a new
// one out in the same way.

#define PUSH(reg)                                                                                  \
    pushq %reg;                                                                                    \
    .cfi_adjust_cfa_offset 8;                                                                      \
    .cfi_rel_offset reg, 0
#define POP(reg)                                                                                   \
    popq %reg;                                                                                     \
    .cfi_adjust_cfa_offset -8;                                                                     \
    .cfi_restore reg

    .section .text.fibrt, "ax", @progbits

// void arch_switch(uint64_t *save_sp, uint64_t load_sp)
    .globl arch_switch
    .hidden arch_switch
    .type arch_switch, @function
    .p2align 5
arch_switch:
    .cfi_startproc
    endbr64
    PUSH(rbp)
    PUSH(rbx)
    PUSH(r12)
    PUSH(r13)
    PUSH(r14)
    PUSH(r15)
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    POP(r15)
    POP(r14)
    POP(r13)
    POP(r12)
    POP(rbx)
    POP(rbp)
    ret
    .cfi_endproc
    .size arch_switch, . - arch_switch

// The root of every fiber: r12 the function, r13 its argument. A new stack's return address is that behind the
// nop: unwinders look return addresses up at pc - 1, which must lie in here.
    .globl fib_root_
    .hidden fib_root_
    .type fib_root_, @function
    .p2align 5
fib_root_:
    .cfi_startproc
    .cfi_undefined rip
    .cfi_undefined rbp
    nop
    endbr64
    xorl %ebp, %ebp
    call fiber_begin
    movq %r13, %rdi
    call *%r12
    call fib_exit@PLT
    ud2
    .cfi_endproc
    .globl fib_root_end_
    .hidden fib_root_end_
fib_root_end_:
    .size fib_root_, . - fib_root_

    .section .note.GNU-stack, "", @progbits
