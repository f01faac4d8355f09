// SPDX-License-Identifier: MIT
//
// One step from a frame to its caller by a row. Inlined into each walker with its own way to load.

#ifndef FIBERSCOPE_UNWIND_STEP_H
#define FIBERSCOPE_UNWIND_STEP_H

#include "unwind/unwind.h"

enum { UNWIND_RBX = 3 };

// Loads 8 bytes of the stack; 0, or nonzero if they are not to be had.
typedef int unwind_load_fn(void *arg, uint64_t address, uint64_t *value);

static inline int unwind_row_cfa(const struct unwind_row *row, const struct unwind_registers *r,
                                 unwind_load_fn *load, void *arg, uint64_t *cfa)
{
    uint64_t offset = (uint64_t)(int64_t)row->cfa_offset;
    switch (row->cfa) {
    case UNWIND_CFA_RSP: *cfa = r->rsp + offset; return 0;
    case UNWIND_CFA_RBP: *cfa = r->rbp + offset; return 0;
    case UNWIND_CFA_PLT: *cfa = r->rsp + 8 + ((r->rip & 15) >= offset ? 8 : 0); return 0;
    case UNWIND_CFA_SIGNAL:
    case UNWIND_CFA_RSP_DEREF:
    case UNWIND_CFA_RBP_DEREF:
        offset += row->cfa == UNWIND_CFA_RBP_DEREF ? r->rbp : r->rsp;
        if (load(arg, offset, cfa))
            return -1;
        *cfa += (uint64_t)(int64_t)row->cfa_add;
        return 0;
    case UNWIND_CFA_REG:
        if (row->cfa_register >= 17 || !(r->valid >> row->cfa_register & 1))
            return -1;
        *cfa = r->other[row->cfa_register] + offset;
        return 0;
    default: return -1;
    }
}

static inline int unwind_row_rule(uint8_t rule, int32_t offset, uint64_t cfa,
                                  const struct unwind_registers *r, unwind_load_fn *load, void *arg,
                                  uint64_t *value)
{
    uint64_t o = (uint64_t)(int64_t)offset;
    switch (rule) {
    case UNWIND_SAME: return 0;
    case UNWIND_AT_CFA: return load(arg, cfa + o, value);
    case UNWIND_AT_RSP: return load(arg, r->rsp + o, value);
    case UNWIND_AT_RBP: return load(arg, r->rbp + o, value);
    case UNWIND_IN_REGISTER:
        *value = r->other[offset & 15];
        return r->valid >> (offset & 15) & 1 ? 0 : -1;
    default: *value = 0; return 0; // undefined or unsupported: a 0 that no later frame accepts
    }
}

// The interrupted code's registers, for a leaf whose CFA hangs on one of them. The signal frame's CFI
// says where they are, and it says what the kernel's struct ucontext does: rsp points at it there.
static inline void unwind_signal_registers(struct unwind_registers *r, unwind_load_fn *load,
                                           void *arg)
{
    enum { GREGS = 40 };
    static const uint8_t dwarf_number[] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7};
    uint64_t context = r->rsp;
    r->valid = 0;
    for (unsigned i = 0; i < sizeof dwarf_number; i++)
        if (!load(arg, context + GREGS + 8 * i, &r->other[dwarf_number[i]]))
            r->valid |= 1u << dwarf_number[i];
}

// Moves *r to the caller. 0, or nonzero if a slot could not be loaded.
static inline int unwind_step(const struct unwind_row *row, struct unwind_registers *r,
                              unwind_load_fn *load, void *arg)
{
    uint64_t cfa, ra = 0, rbp = r->rbp;
    if (unwind_row_cfa(row, r, load, arg, &cfa) ||
        unwind_row_rule(row->ra, row->ra_offset, cfa, r, load, arg, &ra) ||
        unwind_row_rule(row->rbp, row->rbp_offset, cfa, r, load, arg, &rbp))
        return -1;
    // Only a leaf's other registers are known; rbx is followed, because ld.so's resolver has its CFA
    // there and calls on.
    bool knows_rbx = row->rbx != UNWIND_SAME || r->valid >> UNWIND_RBX & 1;
    if (row->is_signal_frame && row->cfa == UNWIND_CFA_SIGNAL) {
        unwind_signal_registers(r, load, arg);
    } else {
        knows_rbx =
            knows_rbx && row->rbx < UNWIND_UNDEFINED &&
            !unwind_row_rule(row->rbx, row->rbx_offset, cfa, r, load, arg, &r->other[UNWIND_RBX]);
        r->valid = knows_rbx ? 1u << UNWIND_RBX : 0;
    }
    r->rip = ra;
    r->rbp = rbp;
    r->rsp = cfa;
    return 0;
}

// The walk of walk_remote.c from any frame: pcs[0..n) are taken already, is_exact says whether r's pc is
// where execution stands. Returns the new depth.
uint32_t unwind_walk_from(const struct unwind_remote *w, struct unwind_registers *r, bool is_exact,
                          uint64_t *pcs, uint32_t n, uint32_t max, enum unwind_end *end);

#endif
