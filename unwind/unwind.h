// SPDX-License-Identifier: MIT
//
// Stack walking by call frame information (CFI). One interpreter, three users: inside a target
// (agent, runtime), outside on copied stacks (collector), and table building for BPF (symbols).
//
// Sources: System V psABI for x86-64 section 3.7, DWARF 5 section 6.4, LSB 5.0 (.eh_frame_hdr).
//
// Everything here is async-signal-safe: no allocation, no locks, no libc beyond memcpy, and no
// memory is read that the caller has not vouched for.
//
// Glossary
//   row    the unwind rules at one pc: how to find the CFA, rbp's and the return address' slots
//   CFA    canonical frame address: rsp of the caller just after its call returns
//   leaf   the innermost frame; its pc is exact, all other pcs are return addresses
//   root   the outermost frame: rip undefined, a thread's or fiber's start
//
// What a walk hands out: pcs leaf first; the leaf's pc is exact, all others are looked up at pc - 1, as
// return addresses are. A pc that a signal interrupted is exact too, so it is handed out one higher.

#ifndef FIBERSCOPE_UNWIND_UNWIND_H
#define FIBERSCOPE_UNWIND_UNWIND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// --- Rows.

enum unwind_cfa {         // how to get the CFA
    UNWIND_CFA_NONE,      // no row: pc not covered, or the rule is one we decline
    UNWIND_CFA_RSP,       // rsp + cfa_offset
    UNWIND_CFA_RBP,       // rbp + cfa_offset
    UNWIND_CFA_REG,       // register cfa_register + cfa_offset (leaf frames only)
    UNWIND_CFA_PLT,       // rsp + 8 + ((rip & 15) >= cfa_offset) * 8, binutils' PLT expression
    UNWIND_CFA_SIGNAL,    // DW_OP_breg of a signal frame: the CFA is *(rsp + cfa_offset)
    UNWIND_CFA_RSP_DEREF, // *(rsp + cfa_offset) + cfa_add, realigned frames
    UNWIND_CFA_RBP_DEREF, // *(rbp + cfa_offset) + cfa_add
    UNWIND_CFA_END,       // rip is undefined here: the root
};

enum unwind_rule { // where a caller's register is
    UNWIND_SAME,   // unchanged
    UNWIND_AT_CFA, // *(CFA + offset)
    UNWIND_AT_RSP, // *(rsp + offset): signal frames
    UNWIND_AT_RBP, // *(rbp + offset): realigned frames (DW_OP_breg6)
    UNWIND_UNDEFINED,
    UNWIND_UNSUPPORTED, // declined and counted
    UNWIND_IN_REGISTER, // DWARF register number offset: vfork keeps its return address in rdi
};

struct unwind_row {
    uint8_t cfa;          // enum unwind_cfa
    uint8_t cfa_register; // DWARF number, for UNWIND_CFA_REG
    uint8_t rbp;          // enum unwind_rule
    uint8_t ra;           // enum unwind_rule
    uint8_t rbx;          // enum unwind_rule; ld.so's resolver has CFA = rbx + n and calls on
    bool is_signal_frame; // the caller's pc is exact: look it up without - 1
    int32_t cfa_offset;
    int32_t rbp_offset;
    int32_t ra_offset;
    int32_t rbx_offset;
    int32_t cfa_add; // for the *_DEREF forms
};

// Unwind sections of one module as mapped or as bytes of a file. address is the run-time address
// of data[0] (or the link-time one: then pcs are link-time too).
struct unwind_section {
    const uint8_t *data;
    size_t size;
    uint64_t address;
};

struct unwind_tables {
    struct unwind_section eh_frame_hdr; // size 0: linear search of eh_frame
    struct unwind_section eh_frame;     // size may reach to the end of the readable segment
};

enum unwind_status {
    UNWIND_OK = 0,
    UNWIND_NOT_COVERED = -1, // no FDE covers pc
    UNWIND_DECLINED = -2,    // valid CFI of a form that is not supported
    UNWIND_MALFORMED = -3,   // hostile or broken tables
};

// The row in force at pc. [async-signal-safe]
int unwind_find_row(const struct unwind_tables *t, uint64_t pc, struct unwind_row *row);

// Calls fn for each FDE's rows in pc order; [start, end) is the row's range. For table builders
// and tests. Returns UNWIND_OK, fn's nonzero value, or UNWIND_MALFORMED.
typedef int unwind_row_fn(void *arg, uint64_t start, uint64_t end, int status,
                          const struct unwind_row *row);
int unwind_each_row(const struct unwind_tables *t, unwind_row_fn *fn, void *arg);

// --- Registers. DWARF numbering: 6 rbp, 7 rsp, 16 return address.

struct unwind_registers {
    uint64_t rip, rbp, rsp;
    uint64_t other[17]; // by DWARF number, for UNWIND_CFA_REG; only those with a bit in valid
    uint32_t valid;
};

enum unwind_end {          // why a walk ended
    UNWIND_END_ROOT,       // reached a root: complete
    UNWIND_END_DEPTH,      // max frames
    UNWIND_END_NO_ROW,     // a pc without CFI, and no frame pointer to go by
    UNWIND_END_BAD_MEMORY, // a slot outside the memory vouched for
    UNWIND_END_LOOP,       // the CFA did not move towards the stack's base
};

// --- Outside: a walk over copied memory.

struct unwind_remote {
    // Reads 8 bytes at address into *value; 0, or nonzero if they are not to be had.
    int (*read)(void *arg, uint64_t address, uint64_t *value);
    // Tables that cover pc; 0 or nonzero. The tables stay valid until the walk returns.
    int (*tables)(void *arg, uint64_t pc, struct unwind_tables *out);
    // The row at pc, for a caller that caches rows: returns as unwind_find_row does
    // (UNWIND_NOT_COVERED also where nothing is mapped; UNWIND_DECLINED for code without tables, which
    // is walked by frame pointer). NULL: made from tables. Else tables is not
    // called.
    int (*row)(void *arg, uint64_t pc, struct unwind_row *row);
    void *arg;
    bool
        is_entry; // the leaf stands at a function's first instruction, where its caller's pc is on top of the stack
};

// Fills pcs leaf first; the depth. *end says why it stopped.
uint32_t unwind_walk_remote(const struct unwind_remote *r, const struct unwind_registers *regs,
                            uint64_t *pcs, uint32_t max, enum unwind_end *end);

// --- Inside: this thread's own stack.

// Makes the walker ready: finds _dl_find_object and the modules now mapped. Call once before any
// walk, outside of signal handlers. 0 or -errno.
int unwind_init(void);

// Forgets rows and stacks of modules that a dlclose may have unmapped; cheap, any time, any thread.
void unwind_invalidate(void);

enum { UNWIND_DEPTH_MAX = 512 }; // no walk of the own stack goes further

// What one thread keeps between walks: its row cache and its previous stack. The caller provides the
// memory (zeroed at first, aligned to 16) and uses one per thread and context; reentry of the same one
// is detected and ends the walk at once with depth 0.
struct unwind_thread;            // opaque
size_t unwind_thread_size(void); // bytes, a constant of the build
// [low, high) bounds the thread's stack: what lies above rsp in it is read without asking. Any other
// address (an alternate signal stack, a coroutine's, or high = 0: unknown) is probed with a system
// call first, about 100 ns for each page of each walk, so a walk never faults.
void unwind_thread_init(struct unwind_thread *t, uint64_t low, uint64_t high);

// Changes the bounds for the walks to come: the thread is on another stack now (a fiber's), or back on its own.
// Rows stay, the previous stack is forgotten; nothing happens if they are the same, or t is at work.
// Memory of stacks that were walked must stay mapped until then.
void unwind_thread_stack(struct unwind_thread *t, uint64_t low, uint64_t high);

// Forgets the previous stack, so that the next walk is a full one (for measuring).
void unwind_thread_forget(struct unwind_thread *t);

// Walks from these registers (of a signal handler's ucontext, or unwind_here's). *pcs, leaf first, are
// t's own and stay until its next walk, so that an unchanged stack is not written again.
uint32_t unwind_walk(struct unwind_thread *t, const struct unwind_registers *regs,
                     const uint64_t **pcs, uint32_t max, enum unwind_end *end);

// Counts t's walks that did not find all but the leaf's pc as the walk before had. Two walks between
// which it stays, from the same leaf pc and to the same depth, have the same pcs.
static inline uint64_t unwind_changes(const struct unwind_thread *t)
{
    return *(const uint64_t *)(const void *)t;
}

// The same walk in full, with the words of the stack that it was made from, told by their distance from its rsp: so it is
// known again on another stack (a fiber's) where the same functions have called each other. *count: of links at most, set
// to how many; the first *pairs of them have a saved rbp that led on. While these hold, the registers are the same (rsp
// and rbp: as far from each other and from the stack's end) and unwind_generation has not changed, another walk
// would give the same pcs. 0: there is not room, or the stack needs the general walk. t is not to be in use; what it
// keeps of a previous stack stays.
struct unwind_link {
    uint32_t rbp_at, ra_at; // from rsp
    uint64_t rbp, ra;       // rbp: less rsp
};
uint32_t unwind_walk_links(struct unwind_thread *t, const struct unwind_registers *regs,
                           uint64_t *pcs, uint32_t max, struct unwind_link *links, uint32_t *pairs,
                           uint32_t *count);
// Whether they do. The stack's end must be as far from rsp as it was in the walk. Inline: this is the whole of what a known
// stack costs.
__attribute__((no_sanitize("thread", "address"))) static inline bool unwind_links_hold(
    const struct unwind_link *links, uint32_t pairs, uint32_t count, uint64_t rsp)
{
    const struct unwind_link *l = links, *middle = links + pairs, *end = links + count;
    for (; l < middle; l++)
        if (*(const uint64_t *)(uintptr_t)(rsp + l->rbp_at) - rsp != l->rbp ||
            *(const uint64_t *)(uintptr_t)(rsp + l->ra_at) != l->ra)
            return false;
    for (; l < end; l++)
        if (*(const uint64_t *)(uintptr_t)(rsp + l->ra_at) != l->ra)
            return false;
    return true;
}
extern _Atomic uint32_t walk_generation;
static inline uint32_t unwind_generation(void) // changes with each unwind_invalidate
{
    return atomic_load_explicit(&walk_generation, memory_order_acquire);
}

// From a ucontext_t * of a signal handler.
void unwind_registers_from_context(struct unwind_registers *regs, const void *ucontext);

// The caller's own registers; always inlined so that the leaf frame is the caller.
#define unwind_here(regs)                                                                          \
    __asm__ volatile("leaq 0(%%rip), %%rax\n\tmovq %%rax, %0\n\tmovq %%rbp, %1\n\tmovq %%rsp, %2"  \
                     : "=m"((regs)->rip), "=m"((regs)->rbp), "=m"((regs)->rsp)                     \
                     :                                                                             \
                     : "rax", "memory")

#endif
