// SPDX-License-Identifier: MIT
//
// Walking this thread's own stack, fast.
//
// Three ideas make it cheap. Rows are cached by pc, so that a frame costs a look-up and two loads. A
// frame whose row says CFA = rbp + 16 is left through rbp alone, off the look-up's critical path. And
// the thread's previous stack is kept: as soon as a frame equals one of it, the words that the rest
// of that walk was made from are compared instead of unwound, and its pcs stay where they are. A walk
// is a function of those words and of the tables, so if none changed the rest of the stack is the
// same.
//
// The walk by cached rows is walk_fast.c. Rows of any other form (signal frames, PLT stubs, realigned
// frames, no row at all) hand over to the general walk of walk_remote.c, which probes before it reads.

#include "unwind/arch/x86_64.h"
#include "unwind/modules.h"
#include "unwind/step.h"
#include "unwind/walk.h"

#include <string.h>
#include <ucontext.h>

enum { PAGE = 4096 };

_Static_assert(offsetof(struct unwind_thread, changes) == 0, "unwind_changes reads it");

// The general walk's memory: [probed_low, probed_high) may be read.
struct careful {
    uint64_t probed_low, probed_high;
};

_Atomic uint32_t walk_generation = 1;

int unwind_init(void)
{
    return unwind_modules_init();
}

void unwind_invalidate(void)
{
    // release: pairs with the acquire in unwind_walk
    atomic_fetch_add_explicit(&walk_generation, 1, memory_order_release);
}

size_t unwind_thread_size(void)
{
    return sizeof(struct unwind_thread);
}

void unwind_thread_init(struct unwind_thread *t, uint64_t low, uint64_t high)
{
    t->changes++;
    t->low = low;
    t->high = high & ~UINT64_C(7);
    t->old = &t->stacks[0];
    forget_stack(t);
}

void unwind_thread_stack(struct unwind_thread *t, uint64_t low, uint64_t high)
{
    high &= ~UINT64_C(7);
    if ((t->low == low && t->high == high) || atomic_load_explicit(&t->busy, memory_order_relaxed))
        return;
    t->low = low;
    t->high = high;
    forget_stack(t);
}

void unwind_thread_forget(struct unwind_thread *t)
{
    forget_stack(t);
}

void unwind_registers_from_context(struct unwind_registers *regs, const void *ucontext)
{
    const greg_t *g = ((const ucontext_t *)ucontext)->uc_mcontext.gregs;
    static const uint8_t by_dwarf_number[16] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < 16; i++)
        regs->other[i] = (uint64_t)g[by_dwarf_number[i]];
    regs->valid = 0xffff;
    regs->rip = (uint64_t)g[REG_RIP];
    regs->rbp = (uint64_t)g[REG_RBP];
    regs->rsp = (uint64_t)g[REG_RSP];
}

// --- Rows.

static int row_at(uint64_t pc, struct unwind_row *row)
{
    struct unwind_tables tables;
    int rc = unwind_modules_find(pc, &tables);
    return rc ? rc : unwind_find_row(&tables, pc, row);
}

static enum fast_kind fast_kind_of(const struct unwind_row *row)
{
    if (row->cfa == UNWIND_CFA_END)
        return FAST_END;
    if (row->is_signal_frame || row->ra != UNWIND_AT_CFA || row->ra_offset != -8)
        return FAST_NONE;
    bool saved = row->rbp == UNWIND_AT_CFA && row->rbp_offset <= -16 &&
                 row->rbp_offset >= INT16_MIN && row->rbp_offset % 8 == 0;
    if (row->cfa == UNWIND_CFA_RBP)
        return !saved                                            ? FAST_NONE
               : row->cfa_offset == 16 && row->rbp_offset == -16 ? FAST_FP
                                                                 : FAST_RBP_SAVED;
    if (row->cfa != UNWIND_CFA_RSP || row->cfa_offset < 8)
        return FAST_NONE;
    return row->rbp == UNWIND_SAME ? FAST_RSP : saved ? FAST_RSP_SAVED : FAST_NONE;
}

__attribute__((noinline)) struct fast_rule walk_fill_row(struct unwind_thread *t, uint64_t key)
{
    struct unwind_row found;
    // "No row" is not kept: a dlopen may bring one.
    if (key == 0 || row_at(key - 1, &found) != UNWIND_OK)
        return (struct fast_rule){.kind = FAST_NONE};
    struct fast_rule rule = {found.cfa_offset, (int16_t)found.rbp_offset,
                             (uint8_t)fast_kind_of(&found)};
    // Each key has two places, its own and this one, where the next to want its own moves it.
    if (rule.kind == FAST_FP) {
        const uint64_t i = key % FP_ROWS;
        t->fp_keys[i ^ 1] = t->fp_keys[i];
        t->fp_keys[i] = key;
    } else if (rule.kind != FAST_NONE) {
        const uint64_t i = key % ROWS;
        t->row_keys[i ^ 1] = t->row_keys[i];
        t->row_rules[i ^ 1] = t->row_rules[i];
        t->row_keys[i] = key;
        t->row_rules[i] = rule;
    }
    return rule;
}

// --- The general walk, for what the fast one does not do.

static int probe_page(struct careful *w, uint64_t page)
{
    if (!arch_is_readable(page))
        return -1;
    if (page == w->probed_high)
        w->probed_high += PAGE;
    else if (page + PAGE == w->probed_low)
        w->probed_low = page;
    else {
        w->probed_low = page;
        w->probed_high = page + PAGE;
    }
    return 0;
}

// An address that the page probe passed may be anything, an address sanitizer's red zone too.
__attribute__((no_sanitize("address"))) static int load_careful(void *arg, uint64_t address,
                                                                uint64_t *value)
{
    struct careful *w = arg;
    if (address % 8)
        return -1; // nothing that a row points at is unaligned, and one page then holds it
    if (!(address >= w->probed_low && address < w->probed_high) &&
        probe_page(w, address & ~(uint64_t)(PAGE - 1)))
        return -1;
    memcpy(value, (const void *)(uintptr_t)address, sizeof *value);
    return 0;
}

static int row_careful(void *arg, uint64_t pc, struct unwind_row *row)
{
    (void)arg;
    return row_at(pc, row);
}

uint32_t walk_careful(const struct walk *w, const struct unwind_registers *regs, bool is_own_stack,
                      uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct careful memory = {is_own_stack ? regs->rsp : 0, is_own_stack ? w->t->high : 0};
    struct unwind_remote remote = {.read = load_careful, .row = row_careful, .arg = &memory};
    struct unwind_registers r = *regs;
    struct unwind_row row;
    uint32_t n = w->n;
    // The fast walk does not follow rbx. A frame that hangs on it needs the walk from the leaf on.
    if (n > 0 && row_at(w->rip - 1, &row) == UNWIND_OK && row.cfa == UNWIND_CFA_REG)
        n = 0;
    if (n > 0)
        r = (struct unwind_registers){.rip = w->rip, .rbp = w->rbp, .rsp = w->rsp};
    forget_stack(w->t); // these frames are not kept
    return unwind_walk_from(&remote, &r, n == 0, pcs, n, max, end);
}

// Keeps extras of this walk in front of the previous stack's that belong to its last `kept` frames.
static void keep_extras(struct unwind_thread *t, uint32_t added, uint32_t kept, uint32_t depth)
{
    uint32_t first = 0; // extras stand leaf first
    while (first < t->extra_count && t->extras[first].from_root > kept)
        first++;
    uint32_t stay = t->extra_count - first;
    if (first != added && stay)
        memmove(&t->extras[added], &t->extras[first], stay * sizeof *t->extras);
    for (uint32_t i = 0; i < added; i++) {
        t->extras[i] = t->new_extras[i];
        t->extras[i].from_root = depth - t->new_extras[i].from_root; // held the index until now
    }
    t->extra_count = added + stay;
}

// A few frames most often: not worth four calls of memcpy.
static void put_frames(struct stack *to, const struct stack *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        to->pairs[i] = from->pairs[i];
        to->pcs[i] = from->pcs[i];
        to->rsps[i] = from->rsps[i];
        to->kinds[i] = from->kinds[i];
        __asm__("" : "+r"(i)); // which the compiler would make of it
    }
}

void walk_keep(const struct walk *w, uint32_t n, uint32_t kept)
{
    struct unwind_thread *t = w->t;
    uint32_t depth = n + kept, from = t->depth - kept;
    struct stack *s = new_stack(t);
    if (t->extra_count + w->extra_count > DEPTH_MAX) {
        memcpy(&s->pcs[n], &t->old->pcs[from], kept * sizeof s->pcs[0]); // the walk's all the same
        forget_stack(t);
        return;
    }
    if (kept) {
        const struct stack *new = s;
        s = t->old;
        if (from != n) {
            memmove(&s->pairs[n], &s->pairs[from], kept * sizeof s->pairs[0]);
            memmove(&s->pcs[n], &s->pcs[from], kept * sizeof s->pcs[0]);
            memmove(&s->rsps[n], &s->rsps[from], kept * sizeof s->rsps[0]);
            memmove(&s->kinds[n], &s->kinds[from], kept * sizeof s->kinds[0]);
        }
        put_frames(s, new, n);
    }
    if (w->extra_count | t->extra_count)
        keep_extras(t, w->extra_count, kept, depth);
    t->old = s;
    t->depth = depth;
    t->chained = 0;
    t->first_rsp = depth > 1 ? rsp_of(s, 1) : UINT64_MAX;
    t->last_rsp = depth > 1 ? rsp_of(s, depth - 1) : UINT64_MAX;
}

void walk_forget_rows(struct unwind_thread *t, uint32_t now)
{
    memset(t->fp_keys, 0, sizeof t->fp_keys);
    memset(t->row_keys, 0, sizeof t->row_keys);
    // 0 is no frame's return address, and must not be found.
    t->fp_keys[0] = t->fp_keys[1] = UINT64_MAX;
    t->row_keys[0] = t->row_keys[1] = UINT64_MAX;
    forget_stack(t);
    t->generation = now;
}
