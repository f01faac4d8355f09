// SPDX-License-Identifier: MIT
//
// A walk that says what it was made from: for callers that see the same few calls again and again on many different
// stacks (fibers), where unwind_walk's one previous stack is always another's. Only what cached rows can do.

#include "unwind/walk.h"

#include <string.h>

enum { NOT_NEEDED = 1 }; // in rbp_at, whose words are aligned: no frame was found by that rbp

__attribute__((no_sanitize("address"))) static inline uint64_t load_word(uint64_t address)
{
    uint64_t word;
    memcpy(&word, (const void *)(uintptr_t)address, sizeof word);
    return word;
}

static struct fast_rule rule_of(struct unwind_thread *t, uint64_t key)
{
    for (uint64_t i = 0; i < 2; i++) {
        if (t->fp_keys[(key % FP_ROWS) ^ i] == key)
            return (struct fast_rule){16, -16, FAST_FP};
        if (t->row_keys[(key % ROWS) ^ i] == key)
            return t->row_rules[(key % ROWS) ^ i];
    }
    struct fast_rule rule = walk_fill_row(t, key);
    return rule.kind == FAST_FP ? (struct fast_rule){16, -16, FAST_FP} : rule;
}

// What a walk was made from so far. A saved rbp counts only once a frame further out is found by it.
struct made {
    struct unwind_link *links;
    uint32_t count, max;
    uint64_t rsp;    // of the walk
    uint32_t of_rbp; // which link the current rbp came from; UINT32_MAX: the registers
};

static bool is_near(const struct made *m, uint64_t address)
{
    return address >= m->rsp && address - m->rsp <= UINT32_MAX;
}

// From w's frame to its caller's. False: not by these means.
static bool step(struct walk *w, struct fast_rule rule, struct made *m)
{
    bool by_rbp = rule.kind == FAST_RBP_SAVED || rule.kind == FAST_FP;
    uint64_t cfa = (by_rbp ? w->rbp : w->rsp) + (uint64_t)(int64_t)rule.cfa_offset;
    if (cfa < w->rsp + 8 || cfa > w->t->high || cfa % 8 || !is_near(m, cfa) || m->count == m->max)
        return false;
    if (by_rbp && m->of_rbp != UINT32_MAX)
        m->links[m->of_rbp].rbp_at &= ~(uint32_t)NOT_NEEDED;
    struct unwind_link *l = &m->links[m->count];
    *l = (struct unwind_link){NOT_NEEDED, (uint32_t)(cfa - 8 - m->rsp), 0, load_word(cfa - 8)};
    if (rule.kind != FAST_RSP) {
        uint64_t at = cfa + (uint64_t)(int64_t)rule.rbp_offset;
        if (at < w->rsp || at >= cfa || at % 8)
            return false;
        w->rbp = load_word(at);
        l->rbp_at |= (uint32_t)(at - m->rsp);
        l->rbp = w->rbp - m->rsp;
        m->of_rbp = m->count;
    }
    m->count++;
    w->rsp = cfa;
    w->rip = l->ra;
    return true;
}

// Those with an rbp first. Their order means nothing.
static uint32_t part(struct unwind_link *links, uint32_t count)
{
    uint32_t pairs = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct unwind_link l = links[i];
        if (l.rbp_at & NOT_NEEDED)
            continue;
        links[i] = links[pairs];
        links[pairs++] = l;
    }
    return pairs;
}

uint32_t unwind_walk_links(struct unwind_thread *t, const struct unwind_registers *regs,
                           uint64_t *pcs, uint32_t max, struct unwind_link *links, uint32_t *pairs,
                           uint32_t *count)
{
    struct made made = {links, 0, *count, regs->rsp, UINT32_MAX};
    struct walk w = {.t = t, .rip = regs->rip + 1, .rbp = regs->rbp, .rsp = regs->rsp};
    uint32_t now = atomic_load_explicit(&walk_generation, memory_order_acquire), depth = 0;
    if (t->generation != now)
        walk_forget_rows(t, now);
    *pairs = *count = 0;
    if (!max || w.rsp < t->low || w.rsp >= t->high || w.rsp % 8)
        return 0;
    pcs[depth++] = regs->rip;
    for (;;) {
        struct fast_rule rule = rule_of(t, w.rip);
        if (rule.kind == FAST_END)
            break;
        if (rule.kind == FAST_NONE || depth == max || !step(&w, rule, &made))
            return 0;
        if (!w.rip) // a root without the mark
            break;
        pcs[depth++] = w.rip;
    }
    *pairs = part(links, made.count);
    *count = made.count;
    return depth;
}
