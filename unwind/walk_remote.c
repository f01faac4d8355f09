// SPDX-License-Identifier: MIT
//
// Walking a stack that was copied out of another process.

#include "unwind/step.h"

static int find_remote_row(const struct unwind_remote *w, uint64_t pc, struct unwind_row *row)
{
    struct unwind_tables tables;
    if (w->row)
        return w->row(w->arg, pc, row);
    if (w->tables(w->arg, pc, &tables))
        return UNWIND_NOT_COVERED;
    return unwind_find_row(&tables, pc, row);
}

// Whether there is code at a would-be return address, also code whose rows are not known.
static bool is_code(const struct unwind_remote *w, uint64_t ra)
{
    struct unwind_row row;
    int rc = find_remote_row(w, ra - 1, &row);
    return rc == UNWIND_OK || rc == UNWIND_DECLINED;
}

// Code without a row (JIT, hand-written): by frame pointer, if what it points at looks like a frame.
// A leaf that jumped to nowhere has its caller on top of the stack.
static int guess(const struct unwind_remote *w, struct unwind_registers *r, bool is_leaf)
{
    uint64_t rbp, ra;
    if (is_leaf && w->is_entry && !w->read(w->arg, r->rsp, &ra) && ra && is_code(w, ra)) {
        *r = (struct unwind_registers){.rip = ra, .rbp = r->rbp, .rsp = r->rsp + 8};
        return 0;
    }
    if (r->rbp > r->rsp - 8 && r->rbp % 8 == 0 && r->rbp - r->rsp < (1u << 20) &&
        !w->read(w->arg, r->rbp, &rbp) && !w->read(w->arg, r->rbp + 8, &ra) && ra &&
        (rbp == 0 || rbp > r->rbp) && is_code(w, ra)) {
        *r = (struct unwind_registers){.rip = ra, .rbp = rbp, .rsp = r->rbp + 16};
        return 0;
    }
    if (is_leaf && !w->read(w->arg, r->rsp, &ra) && ra && is_code(w, ra)) {
        *r = (struct unwind_registers){.rip = ra, .rbp = r->rbp, .rsp = r->rsp + 8};
        return 0;
    }
    return -1;
}

uint32_t unwind_walk_from(const struct unwind_remote *w, struct unwind_registers *r, bool is_exact,
                          uint64_t *pcs, uint32_t n, uint32_t max, enum unwind_end *end)
{
    *end = UNWIND_END_DEPTH;
    while (n < max) {
        struct unwind_row row;
        // See unwind.h: a caller's pc that is exact is handed out one higher.
        pcs[n] = r->rip + (is_exact && n > 0);
        n++;
        uint64_t old_rsp = r->rsp;
        int rc = find_remote_row(w, r->rip - !is_exact, &row);
        if (rc != UNWIND_OK) {
            if (guess(w, r, n == 1)) {
                *end = UNWIND_END_NO_ROW;
                return n;
            }
            is_exact = false;
            continue;
        }
        if (row.cfa == UNWIND_CFA_END) {
            *end = UNWIND_END_ROOT;
            return n;
        }
        if (unwind_step(&row, r, w->read, w->arg)) {
            *end = UNWIND_END_BAD_MEMORY;
            return n;
        }
        if (r->rip == 0) {
            *end = UNWIND_END_ROOT;
            return n;
        }
        is_exact = row.is_signal_frame;
        // A signal frame may lead to another stack; all others must climb.
        if (!is_exact && (r->rsp <= old_rsp || r->rsp % 8)) {
            *end = UNWIND_END_LOOP;
            return n;
        }
    }
    return n;
}

uint32_t unwind_walk_remote(const struct unwind_remote *w, const struct unwind_registers *regs,
                            uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct unwind_registers r = *regs;
    return unwind_walk_from(w, &r, true, pcs, 0, max, end);
}
