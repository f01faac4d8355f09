// SPDX-License-Identifier: MIT
//
// The walk of the own stack by cached rows: the part whose cycles are counted.
//
// Invariant: nothing below the leaf's rsp or at or above the thread's high is read.

#include "unwind/arch/x86_64.h"
#include "unwind/walk.h"

#include <string.h>

// Makes the load of v stand here in the code.
#define ARCH_IN_ORDER(v) __asm__ volatile("" : "+r"(v))

#define ALL_CHAINED (FRAME_CHAINED * UINT32_C(0x01010101)) // kinds of four frames

static inline __m128i load_pair(uint64_t address)
{
    return _mm_loadu_si128((const __m128i *)(uintptr_t)address);
}

static inline uint64_t load_word(uint64_t address)
{
    return *(const uint64_t *)(uintptr_t)address;
}

static inline __m128i kept_pair(const struct pair *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

// --- Against the previous stack.

// Four chained frames; *next is the address of the first pair. Without a branch that depends on them.
static inline __m128i copy_chained(const struct pair *p, uint64_t *next, uint64_t *pcs,
                                   __m128i difference)
{
    uint64_t at = *next;
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m128i was = kept_pair(&p[j]), now = load_pair(at);
        _mm_storeh_pd((double *)(void *)&pcs[j], _mm_castsi128_pd(was));
        at = (uint64_t)_mm_cvtsi128_si64(was);
        difference = _mm_or_si128(difference, _mm_xor_si128(now, was));
    }
    *next = at;
    return difference;
}

// One frame of any kind; the difference.
static inline uint64_t copy_one(const struct stack *s, uint32_t i, uint64_t *pc)
{
    const struct pair *p = &s->pairs[i];
    uint8_t kind = s->kinds[i];
    *pc = p->ra;
    if (kind == FRAME_SINGLE)
        return load_word(s->rsps[i] - 8) ^ p->ra;
    uint64_t at = kind == FRAME_CHAINED ? p[-1].rbp : s->rsps[i] - 16;
    return (load_word(at) ^ p->rbp) | (load_word(at + 8) ^ p->ra);
}

// Copies the return addresses of frames [i, depth) and compares the words that they were made from
// with the stack. Frames [i, chained) are known to be chained.
static inline bool copy_if_unchanged(const struct stack *s, uint32_t i, uint32_t chained,
                                     uint32_t depth, uint64_t *pc)
{
    __m128i difference = _mm_setzero_si128();
    uint64_t other = 0;
    const struct pair *p = &s->pairs[i];
    uint64_t next = p[-1].rbp;
    for (; i + 4 <= chained; i += 4, p += 4, pc += 4)
        difference = copy_chained(p, &next, pc, difference);
    for (; i < depth; i++)
        other |= copy_one(s, i, pc++);
    return (other == 0) & arch_is_zero(difference);
}

static bool frame_is_unchanged(const struct stack *s, uint32_t k)
{
    uint64_t rsp = rsp_of(s, k);
    return load_word(rsp - 8) == s->pairs[k].ra &&
           (s->kinds[k] == FRAME_SINGLE || load_word(rsp - 16) == s->pairs[k].rbp);
}

__attribute__((noinline)) static uint32_t end_of_chain(struct unwind_thread *t, uint32_t i)
{
    while (i < t->depth && old_stack(t)->kinds[i] == FRAME_CHAINED)
        i++;
    return i;
}

static bool extras_are_unchanged(const struct unwind_thread *t, uint32_t frames)
{
    for (uint32_t i = t->extra_count; i-- > 0 && t->extras[i].from_root <= frames;)
        if (load_word(t->extras[i].at) != t->extras[i].value)
            return false;
    return true;
}

// Sets meet_rsp to the first frame of the previous stack at or above index k.
static void next_meeting(struct walk *w, uint32_t k)
{
    w->k = k;
    w->meet_rsp = k < w->t->depth ? rsp_of(old_stack(w->t), k) : UINT64_MAX;
}

// Frame k was met, but something above it has changed. Nothing below the outermost frame that differs
// can match.
static void part(struct walk *w, uint32_t k)
{
    const struct stack *old = old_stack(w->t);
    uint32_t differs = w->t->depth - 1;
    while (differs > k + 1 && frame_is_unchanged(old, differs))
        differs--;
    next_meeting(w, differs);
}

// The walk stands at meet_rsp or above, its frame is stored. If it is the previous stack's and all that
// follows is unchanged, takes the rest from it and returns the depth; else moves meet_rsp on: 0.
__attribute__((noinline)) static uint32_t meet(struct walk *w, uint64_t *pcs, uint32_t max)
{
    struct unwind_thread *t = w->t;
    const struct stack *old = old_stack(t);
    if (rsp_of(old, t->depth - 1) < w->rsp)
        next_meeting(w, t->depth); // another stack's, which lies below
    while (w->meet_rsp < w->rsp)
        next_meeting(w, w->k + 1);
    if (w->meet_rsp != w->rsp)
        return 0;
    uint32_t k = w->k, kept = t->depth - k - 1, depth = w->n + 1 + kept;
    next_meeting(w, k + 1);
    if (old->pairs[k].ra != w->rip || old->pairs[k].rbp != w->rbp || depth > max ||
        depth > DEPTH_MAX)
        return 0;
    if (copy_if_unchanged(old, k + 1, end_of_chain(t, k + 1), t->depth, pcs + w->n + 1) &&
        extras_are_unchanged(t, kept)) {
        walk_keep(w, w->n + 1, kept);
        return depth;
    }
    part(w, k);
    return 0;
}

// --- Steps.

__attribute__((always_inline)) static inline void put_frame(const struct walk *w, struct stack *s,
                                                            uint64_t *pcs)
{
    s->pairs[w->n] = (struct pair){w->rbp, w->rip};
    s->rsps[w->n] = w->rsp;
    s->kinds[w->n] = w->kind;
    pcs[w->n] = w->rip;
}

// FAST_NONE: the general walk must do this step. FAST_END: this is the root.
__attribute__((always_inline)) static inline enum fast_kind step(struct walk *w, uint64_t key)
{
    struct unwind_thread *t = w->t;
    const uint64_t high = t->high;
    if (t->fp_keys[key % FP_ROWS] == key || t->fp_keys[key % FP_ROWS ^ 1] == key) {
    by_frame_pointer:
        if (w->rbp < w->rsp || w->rbp > high - 16 || w->rbp % 8)
            return FAST_NONE;
        w->kind = FRAME_CHAINED;
        w->rsp = w->rbp + 16;
        w->rip = load_word(w->rbp + 8);
        w->rbp = load_word(w->rbp);
        return FAST_FP;
    }
    struct fast_row filled;
    const struct fast_row *row = row_slot(t, key);
    if (row->key != key)
        row = other_way(t, row);
    if (row->key != key) {
        enum fast_kind kind = walk_fill_row(t, key, &filled);
        if (kind == FAST_FP)
            goto by_frame_pointer;
        if (kind == FAST_NONE)
            return FAST_NONE;
        row = &filled;
    }
    if (row->kind == FAST_END)
        return FAST_END;
    uint64_t base = row->kind == FAST_RBP_SAVED ? w->rbp : w->rsp;
    uint64_t cfa = base + (uint64_t)(int64_t)row->cfa_offset;
    if (cfa - w->rsp < 8 || cfa - w->rsp > high - w->rsp || cfa % 8)
        return FAST_NONE;
    w->kind = FRAME_SINGLE;
    if (row->kind != FAST_RSP) {
        uint64_t at = cfa + (uint64_t)(int64_t)row->rbp_offset;
        if (at < w->rsp || w->extra_count >= NEW_EXTRAS_MAX)
            return FAST_NONE;
        w->rbp = load_word(at);
        if (row->rbp_offset == -16)
            w->kind = FRAME_PAIR;
        else
            t->new_extras[w->extra_count++] = (struct extra){at, w->rbp, w->n + 1};
    }
    w->rip = load_word(cfa - 8);
    w->rsp = cfa;
    return (enum fast_kind)row->kind;
}

// Leaves frames whose rows are cached and go by frame pointer, as long as they come: this is where a
// walk spends its time. The row only has to agree; where to go next does not wait for it. Frames
// after w's own are stored, by fours.
__attribute__((always_inline)) static inline void leave_chained(struct walk *w, struct stack *s,
                                                                uint64_t *pcs, uint32_t limit)
{
    const uint64_t *keys = w->t->fp_keys;
    // The step that could meet the previous stack is not taken here.
    const uint64_t high = w->t->high - 16, meet = w->meet_rsp - 17,
                   last = high < meet ? high : meet;
    uint64_t rip = w->rip, rbp = w->rbp, rsp = w->rsp;
    uint64_t *pc = pcs + w->n + 1, *const pc_end = pcs + limit;
    struct pair *p = s->pairs + w->n + 1;
    uint8_t *kind = s->kinds + w->n + 1;
    for (; pc_end - pc >= 4; pc += 4, p += 4, kind += 4) {
        memcpy(kind, &(uint32_t){ALL_CHAINED}, 4);
        int j = 0;
#pragma GCC unroll 4
        for (; j < 4; j++) {
            if (keys[rip % FP_ROWS] != rip || rbp < rsp || rbp > last || rbp % 8) {
                pc += j;
                goto out;
            }
            rsp = rbp + 16;
            uint64_t caller_rbp = load_word(rbp);
            ARCH_IN_ORDER(caller_rbp); // all else waits for this one: it must be asked for first
            rip = load_word(rbp + 8);
            rbp = caller_rbp;
            p[j].rbp = rbp;
            atomic_signal_fence(memory_order_seq_cst); // two stores cost less than one joined
            p[j].ra = rip;
            pc[j] = rip;
        }
    }
out:
    w->kind = pc - pcs - 1 > w->n ? FRAME_CHAINED : w->kind;
    w->rip = rip;
    w->rbp = rbp;
    w->rsp = rsp;
    w->n = (uint32_t)(pc - pcs - 1);
}

// The common case: the leaf goes by frame pointer, and its caller is frame 1 of an unchanged previous
// stack. Then nothing has to be kept anew, as a leaf's own words are never compared. 0: it is not so.
// What is read lies above the leaf's rsp and where that stack was read before.
static inline uint32_t walk_unchanged(struct unwind_thread *t, const struct unwind_registers *regs,
                                      uint64_t *pcs, uint32_t max)
{
    const struct stack *old = old_stack(t);
    const uint64_t rbp = regs->rbp, key = regs->rip + 1;
    if (rbp + 16 != t->first_rsp || rbp < regs->rsp || t->depth - 1 >= max ||
        t->fp_keys[key % FP_ROWS] != key)
        return 0;
    // Frame 1 may have been reached otherwise; its pair is there all the same.
    if (__builtin_expect(t->chained == 0, 0))
        t->chained = end_of_chain(t, 2);
    pcs[0] = regs->rip;
    pcs[1] = old->pairs[1].ra;
    uint64_t other = (load_word(rbp) ^ old->pairs[1].rbp) | (load_word(rbp + 8) ^ old->pairs[1].ra);
    bool same = other == 0 && copy_if_unchanged(old, 2, t->chained, t->depth, pcs + 2) &&
                (t->extra_count == 0 || extras_are_unchanged(t, t->depth - 2));
    return same ? t->depth : 0;
}

// Field by field, so that the walk's own stays in registers.
__attribute__((always_inline)) static inline void copy_walk(struct walk *to,
                                                            const struct walk *from)
{
    to->t = from->t;
    to->rip = from->rip;
    to->rbp = from->rbp;
    to->rsp = from->rsp;
    to->meet_rsp = from->meet_rsp;
    to->n = from->n;
    to->k = from->k;
    to->extra_count = from->extra_count;
    to->kind = from->kind;
}

// Keeps this walk's frames in place of the previous stack.
static inline void keep_all(const struct walk *w, struct stack *s, uint32_t depth)
{
    struct unwind_thread *t = w->t;
    if (t->extra_count | w->extra_count) {
        walk_keep(w, depth, 0);
        return;
    }
    t->previous ^= 1;
    t->depth = depth;
    t->chained = 0;
    t->first_rsp = depth > 1 ? rsp_of(s, 1) : UINT64_MAX;
}

// A walk from the leaf on. 0: *w is where it cannot go on.
__attribute__((always_inline)) static inline uint32_t walk_anew(struct walk *w,
                                                                const struct unwind_registers *regs,
                                                                uint64_t *pcs, uint32_t max,
                                                                enum unwind_end *end)
{
    struct unwind_thread *t = w->t;
    struct stack *s = new_stack(t);
    const uint32_t limit = max < DEPTH_MAX ? max : DEPTH_MAX;
    struct walk v;
    v.t = t;
    v.rip = regs->rip;
    v.rbp = regs->rbp;
    v.rsp = regs->rsp;
    v.meet_rsp = t->first_rsp;
    v.k = 1; // a leaf's pc is no return address, so frame 0 meets nothing
    v.n = v.extra_count = 0;
    v.kind = FRAME_SINGLE;
    uint64_t key = v.rip + 1;
    put_frame(&v, s, pcs);
    for (;;) {
        enum fast_kind kind = step(&v, key);
        if (kind == FAST_END || kind == FAST_NONE) {
            copy_walk(w, &v);
            if (kind == FAST_NONE)
                return 0;
            keep_all(w, s, w->n + 1);
            return w->n + 1;
        }
        v.n++;
        if (v.n >= limit) {
            forget_stack(t);
            *end = UNWIND_END_DEPTH;
            return v.n;
        }
        put_frame(&v, s, pcs);
        if (v.rsp >= v.meet_rsp) {
            copy_walk(w, &v);
            uint32_t depth = meet(w, pcs, max);
            if (depth)
                return depth;
            v.meet_rsp = w->meet_rsp;
            v.k = w->k;
        }
        if (t->fp_keys[v.rip % FP_ROWS] == v.rip)
            leave_chained(&v, s, pcs, limit);
        if (v.rip == 0) { // a root without the mark: its slot has no frame, so it is not kept
            forget_stack(t);
            return v.n;
        }
        key = v.rip;
    }
}

// What is not the common case. Apart, so that the common one needs no room on the stack.
__attribute__((noinline)) static uint32_t walk_changed(struct unwind_thread *t,
                                                       const struct unwind_registers *regs,
                                                       uint64_t *pcs, uint32_t max,
                                                       enum unwind_end *end)
{
    struct walk w;
    uint32_t depth = 0;
    bool is_own_stack = regs->rsp >= t->low && regs->rsp < t->high && regs->rsp % 8 == 0;
    w.t = t;
    w.n = 0;
    if (__builtin_expect(is_own_stack, 1))
        depth = walk_anew(&w, regs, pcs, max, end);
    if (__builtin_expect(depth == 0, 0))
        depth = walk_careful(&w, regs, is_own_stack, pcs, max, end);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->busy, 0, memory_order_relaxed);
    return depth;
}

uint32_t unwind_walk(struct unwind_thread *t, const struct unwind_registers *regs, uint64_t *pcs,
                     uint32_t max, enum unwind_end *end)
{
    // Only a signal handler of this very thread can find it busy, so plain stores in program order do.
    if (max == 0 || atomic_load_explicit(&t->busy, memory_order_relaxed)) {
        *end = UNWIND_END_NO_ROW;
        return 0;
    }
    atomic_store_explicit(&t->busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    // acquire: pairs with the release in unwind_invalidate
    uint32_t now = atomic_load_explicit(&walk_generation, memory_order_acquire);
    *end = UNWIND_END_ROOT; // only complete walks are kept
    if (__builtin_expect(t->generation != now, 0))
        walk_forget_rows(t, now);
    uint32_t depth = walk_unchanged(t, regs, pcs, max);
    if (depth == 0)
        return walk_changed(t, regs, pcs, max, end);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->busy, 0, memory_order_relaxed);
    return depth;
}
