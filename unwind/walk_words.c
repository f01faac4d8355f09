// SPDX-License-Identifier: MIT
//
// A walk that says what it was made from: for callers that see the same few stacks again and again on many different
// stacks (fibers), where unwind_walk's one previous stack is always another's. Only what cached rows can do.

#include "unwind/walk.h"

#include <string.h>

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

struct words {
    struct unwind_word *at;
    uint32_t count, max;
};

static bool take(struct words *w, uint64_t address, uint64_t *value)
{
    if (w->count == w->max)
        return false;
    *value = load_word(address);
    w->at[w->count++] = (struct unwind_word){address, *value};
    return true;
}

// From w's frame to its caller's. False: not by these means.
static bool step(struct walk *w, struct fast_rule rule, struct words *words)
{
    bool by_rbp = rule.kind == FAST_RBP_SAVED || rule.kind == FAST_FP;
    uint64_t cfa = (by_rbp ? w->rbp : w->rsp) + (uint64_t)(int64_t)rule.cfa_offset;
    if (cfa < w->rsp + 8 || cfa > w->t->high || cfa % 8)
        return false;
    if (rule.kind != FAST_RSP) {
        uint64_t at = cfa + (uint64_t)(int64_t)rule.rbp_offset;
        if (at < w->rsp || !take(words, at, &w->rbp))
            return false;
    }
    w->rsp = cfa;
    return take(words, cfa - 8, &w->rip);
}

uint32_t unwind_walk_words(struct unwind_thread *t, const struct unwind_registers *regs,
                           uint64_t *pcs, uint32_t max, struct unwind_word *words,
                           uint32_t *word_count)
{
    struct words list = {words, 0, *word_count};
    struct walk w = {.t = t, .rip = regs->rip + 1, .rbp = regs->rbp, .rsp = regs->rsp};
    uint32_t now = atomic_load_explicit(&walk_generation, memory_order_acquire), depth = 0;
    if (t->generation != now)
        walk_forget_rows(t, now);
    *word_count = 0;
    if (!max || w.rsp < t->low || w.rsp >= t->high || w.rsp % 8)
        return 0;
    pcs[depth++] = regs->rip;
    for (;;) {
        struct fast_rule rule = rule_of(t, w.rip);
        if (rule.kind == FAST_END)
            break;
        if (rule.kind == FAST_NONE || depth == max || !step(&w, rule, &list))
            return 0;
        if (!w.rip) // a root without the mark
            break;
        pcs[depth++] = w.rip;
    }
    *word_count = list.count;
    return depth;
}
