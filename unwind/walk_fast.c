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

// Keeps the compiler from knowing what v is, where what it makes of that knowledge costs more.
#define ARCH_OPAQUE(v) __asm__("" : "+r"(v))

#define ALL_CHAINED (FRAME_CHAINED * UINT64_C(0x0101010101010101)) // kinds of eight frames

static inline __m128i load_pair(uint64_t address)
{
    return _mm_loadu_si128((const __m128i *)(uintptr_t)address);
}

// Of any alignment: where a row goes by rbp, rbp is not asked to be a multiple of 8. What a word of the
// previous stack lies in now may be anything, a sanitizer's red zone too.
__attribute__((no_sanitize("address"))) static inline uint64_t load_word(uint64_t address)
{
    uint64_t word;
    memcpy(&word, (const void *)(uintptr_t)address, sizeof word);
    return word;
}

// --- Against the previous stack.

// What differs between the pair at address and a kept one.
static inline __m128i compare_pair(uint64_t address, const struct pair *p)
{
    return _mm_xor_si128(load_pair(address), _mm_load_si128((const __m128i *)(const void *)p));
}

static inline __m128i compare_chained(const struct pair *p)
{
    return compare_pair(p[-1].rbp, p);
}

// Four of them. Joined as a tree, so that none waits for the one before.
static inline __m128i compare_four(const struct pair *p)
{
    return _mm_or_si128(_mm_or_si128(compare_chained(p), compare_chained(p + 1)),
                        _mm_or_si128(compare_chained(p + 2), compare_chained(p + 3)));
}

// Adds to difference that in frames [i, chained), all chained.
static inline __m128i compare_chain(const struct stack *s, uint32_t i, uint32_t chained,
                                    __m128i difference)
{
    const struct pair *p = &s->pairs[i], *const end = &s->pairs[chained];
    const uintptr_t last = (uintptr_t)end - 8 * sizeof *p;
    for (; (uintptr_t)p <= last; p += 8) {
        __m128i eight = _mm_or_si128(compare_four(p), compare_four(p + 4));
        difference = _mm_or_si128(difference, eight);
    }
    if ((uintptr_t)p <= last + 4 * sizeof *p) {
        difference = _mm_or_si128(difference, compare_four(p));
        p += 4;
    }
    for (; p < end; p++)
        difference = _mm_or_si128(difference, compare_chained(p));
    return difference;
}

// The end of the chained frames that begin at i.
static uint32_t end_of_chain(const struct stack *s, uint32_t i, uint32_t depth)
{
    while (i < depth && s->kinds[i] == FRAME_CHAINED)
        i++;
    return i;
}

static bool frame_is_unchanged(const struct stack *s, uint32_t k)
{
    uint64_t rsp = rsp_of(s, k);
    return load_word(rsp - 8) == s->pairs[k].ra &&
           (s->kinds[k] == FRAME_SINGLE || load_word(rsp - 16) == s->pairs[k].rbp);
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
    w->meet_rsp = k < w->t->depth ? rsp_of(w->t->old, k) : UINT64_MAX;
}

// Whether frames [k - 4, k) are chained, and at rsp or above.
static inline bool are_four_chained(const struct stack *s, uint32_t k, uint64_t rsp)
{
    uint32_t kinds;
    memcpy(&kinds, &s->kinds[k - 4], sizeof kinds);
    return kinds == (uint32_t)ALL_CHAINED && s->pairs[k - 5].rbp >= rsp;
}

// What differs in a chained frame. By words: a stack that has changed was written a moment ago, and a vector
// that spans two stores has to wait until both have left the store buffer.
static inline uint64_t compare_words(const struct pair *p)
{
    return (load_word(p[-1].rbp) ^ p->rbp) | (load_word(p[-1].rbp + 8) ^ p->ra);
}

// Compares the words that the previous stack's frames were made from with the stack, from the root on. The
// lowest frame, at least 1, from which on nothing has changed; no word below rsp is read. Only from the frame
// below it on can a walk join that stack.
__attribute__((noinline)) static uint32_t find_common(const struct unwind_thread *t, uint64_t rsp)
{
    const struct stack *s = t->old;
    uint32_t k = t->depth;
    bool by_fours = true;
    while (k > 1) {
        if (by_fours && k > 5 && are_four_chained(s, k, rsp)) {
            const struct pair *p = &s->pairs[k - 4];
            by_fours = !(compare_words(p) | compare_words(p + 1) | compare_words(p + 2) |
                         compare_words(p + 3));
            k -= by_fours ? 4 : 0;
        } else if (rsp_of(s, k - 1) - 16 >= rsp && frame_is_unchanged(s, k - 1)) {
            k--;
        } else {
            break;
        }
    }
    return k;
}

// The walk stands at meet_rsp or above, its frame is stored. What follows in the previous stack is unchanged
// but for the extras: if this frame is that stack's, takes the rest from it and returns the depth; else
// moves meet_rsp on: 0.
__attribute__((noinline)) static uint32_t meet(struct walk *w, uint32_t max)
{
    struct unwind_thread *t = w->t;
    const struct stack *old = t->old;
    if (rsp_of(old, t->depth - 1) < w->rsp)
        next_meeting(w, t->depth); // another stack's, which lies below
    while (w->meet_rsp < w->rsp)
        next_meeting(w, w->k + 1);
    if (w->meet_rsp != w->rsp)
        return 0;
    uint32_t k = w->k, kept = t->depth - k - 1, depth = w->n + 1 + kept;
    next_meeting(w, k + 1);
    if (old->pairs[k].ra != w->rip || old->pairs[k].rbp != w->rbp || depth > max ||
        depth > DEPTH_MAX || !extras_are_unchanged(t, kept))
        return 0;
    walk_keep(w, w->n + 1, kept);
    return depth;
}

// --- Steps.

__attribute__((always_inline)) static inline void put_frame(const struct walk *w, struct stack *s)
{
    s->pairs[w->n] = (struct pair){w->rbp, w->rip};
    s->pcs[w->n] = w->rip;
    s->rsps[w->n] = w->rsp;
    s->kinds[w->n] = w->kind;
}

// The rule of a key that is not in its own place among the rows.
__attribute__((noinline)) static struct fast_rule find_rule(struct unwind_thread *t, uint64_t key)
{
    const uint64_t i = key % FP_ROWS, k = key % ROWS ^ 1;
    if (t->fp_keys[i] == key || t->fp_keys[i ^ 1] == key)
        return (struct fast_rule){.kind = FAST_FP};
    return t->row_keys[k] == key ? t->row_rules[k] : walk_fill_row(t, key);
}

// By frame pointer.
__attribute__((always_inline)) static inline enum fast_kind step_fp(struct walk *w)
{
    if (w->rbp < w->rsp || w->rbp > w->t->high - 16)
        return FAST_NONE;
    w->kind = FRAME_CHAINED;
    w->rsp = w->rbp + 16;
    w->rip = load_word(w->rbp + 8);
    w->rbp = load_word(w->rbp);
    return FAST_FP;
}

// FAST_NONE: the general walk must do this step. FAST_END: this is the root.
__attribute__((always_inline)) static inline enum fast_kind step(struct walk *w)
{
    struct unwind_thread *t = w->t;
    struct fast_rule rule = t->row_rules[w->rip % ROWS];
    if (__builtin_expect(t->row_keys[w->rip % ROWS] != w->rip, 0)) {
        rule = find_rule(t, w->rip);
        if (rule.kind == FAST_FP)
            return step_fp(w);
        if (rule.kind == FAST_NONE)
            return FAST_NONE;
    }
    if (rule.kind == FAST_END)
        return FAST_END;
    uint64_t base = rule.kind == FAST_RBP_SAVED ? w->rbp : w->rsp;
    uint64_t cfa = base + (uint64_t)(int64_t)rule.cfa_offset;
    if (cfa - w->rsp < 8 || cfa - w->rsp > t->high - w->rsp || cfa % 8)
        return FAST_NONE;
    w->kind = FRAME_SINGLE;
    if (rule.kind != FAST_RSP) {
        uint64_t at = cfa + (uint64_t)(int64_t)rule.rbp_offset;
        if (at < w->rsp || w->extra_count >= NEW_EXTRAS_MAX)
            return FAST_NONE;
        w->rbp = load_word(at);
        if (rule.rbp_offset == -16)
            w->kind = FRAME_PAIR;
        else
            t->new_extras[w->extra_count++] = (struct extra){at, w->rbp, w->n + 1};
    }
    w->rip = load_word(cfa - 8);
    w->rsp = cfa;
    return (enum fast_kind)rule.kind;
}

// Leaves frames whose rows are cached and go by frame pointer, as long as they come: this is where a
// walk spends its time. The row only has to agree; where to go next does not wait for it. Frames
// after w's own are stored, by eights. Each rbp is above the last, and all are within the stack.
__attribute__((always_inline)) static inline void leave_chained(struct walk *w, struct stack *s,
                                                                uint32_t limit)
{
    const uint64_t *keys = w->t->fp_keys;
    // The step that could meet the previous stack is not taken here.
    const uint64_t high = w->t->high - 16, meet = w->meet_rsp - 17,
                   last = high < meet ? high : meet;
    uint64_t rip = w->rip, rbp = w->rbp, below = w->rsp - 1;
    uint64_t n = (uint64_t)w->n + 1;
    for (; n + 8 <= limit; n += 8) {
        memcpy(&s->kinds[n], &(uint64_t){ALL_CHAINED}, 8);
#pragma GCC unroll 8
        for (unsigned j = 0; j < 8; j++) {
            if (keys[rip % FP_ROWS] != rip || rbp <= below || rbp > last) {
                // Else the sum would be made ahead in each frame.
                ARCH_IN_ORDER(n);
                n += j;
                goto out;
            }
            below = rbp;
            rbp = load_word(below);
            s->pairs[n + j].rbp = rbp; // all else waits for this one: it must be asked for first
            atomic_signal_fence(memory_order_seq_cst); // two stores cost less than one joined
            rip = load_word(below + 8);
            s->pairs[n + j].ra = rip;
            s->pcs[n + j] = rip;
        }
    }
out:
    if (n - 1 == w->n)
        return;
    w->n = (uint32_t)n - 1;
    w->kind = FRAME_CHAINED;
    w->rip = rip;
    w->rbp = rbp;
    w->rsp = below + 16;
}

// The common case: the leaf goes by frame pointer, and its caller may be frame 1 of an unchanged
// previous stack. Then nothing has to be kept anew, as a leaf's own words are never compared. What is
// read then lies above the leaf's rsp and where that stack was read before.
static inline bool may_be_unchanged(const struct unwind_thread *t,
                                    const struct unwind_registers *regs, uint32_t max)
{
    const uint64_t rbp = regs->rbp, key = regs->rip + 1;
    return rbp + 16 == t->first_rsp && rbp >= regs->rsp && t->depth - 1 < max &&
           t->fp_keys[key % FP_ROWS] == key;
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

// Keeps this walk's frames in place of the previous stack, if no extras are to be moved.
__attribute__((always_inline)) static inline bool keep_all(const struct walk *w, struct stack *s)
{
    struct unwind_thread *t = w->t;
    if (t->extra_count | w->extra_count)
        return false;
    t->old = s;
    t->depth = w->n + 1;
    t->chained = 0;
    t->first_rsp = w->n == 0 ? UINT64_MAX : rsp_of(s, 1);
    t->last_rsp = w->n == 0 ? UINT64_MAX : w->rsp;
    return true;
}

// A walk from the leaf on. common: find_common's, if there is a previous stack. 0: *w is where it cannot go
// on.
__attribute__((always_inline)) static inline uint32_t walk_anew(struct walk *w,
                                                                const struct unwind_registers *regs,
                                                                uint32_t common, uint32_t max,
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
    v.k = common > 2 ? common - 1 : 1; // a leaf's pc is no return address, so frame 0 meets nothing
    // Nothing is met of a stack that lies below.
    v.meet_rsp = v.rsp > t->last_rsp || v.k >= t->depth ? UINT64_MAX : rsp_of(t->old, v.k);
    v.n = v.extra_count = 0;
    v.kind = FRAME_SINGLE;
    put_frame(&v, s);
    v.rip++;
    for (;;) {
        bool by_fp = t->fp_keys[v.rip % FP_ROWS] == v.rip;
        if (by_fp) {
            leave_chained(&v, s, limit);
            by_fp = t->fp_keys[v.rip % FP_ROWS] == v.rip;
        }
        if (v.rip == 0) { // a root without the mark: its slot has no frame, so it is not kept
            forget_stack(t);
            return v.n;
        }
        enum fast_kind kind = by_fp ? step_fp(&v) : step(&v);
        if (kind == FAST_END && keep_all(&v, s))
            return v.n + 1;
        if (kind == FAST_END || kind == FAST_NONE) {
            copy_walk(w, &v);
            if (kind == FAST_NONE)
                return 0;
            walk_keep(w, w->n + 1, 0);
            return w->n + 1;
        }
        v.n++;
        if (v.n >= limit) {
            forget_stack(t);
            *end = UNWIND_END_DEPTH;
            return v.n;
        }
        put_frame(&v, s);
        if (v.rsp >= v.meet_rsp) {
            copy_walk(w, &v);
            uint32_t depth = meet(w, max);
            if (depth)
                return depth;
            v.meet_rsp = w->meet_rsp;
            v.k = w->k;
        }
    }
}

// What is not the common case. Apart, so that the common one needs no room on the stack. common: find_common's,
// 0: not yet known.
__attribute__((noinline)) static uint32_t walk_changed(struct unwind_thread *t,
                                                       const struct unwind_registers *regs,
                                                       const uint64_t **pcs, uint32_t common,
                                                       uint32_t max, enum unwind_end *end)
{
    struct walk w;
    struct stack *s = new_stack(t);
    t->changes++;
    uint32_t depth = 0, now = atomic_load_explicit(&walk_generation, memory_order_acquire);
    *end = UNWIND_END_ROOT; // only complete walks are kept
    if (__builtin_expect(t->generation != now, 0))
        walk_forget_rows(t, now);
    bool is_own_stack = regs->rsp >= t->low && regs->rsp < t->high && regs->rsp % 8 == 0;
    w.t = t;
    w.n = 0;
    if (__builtin_expect(is_own_stack && max > 0, 1)) {
        if (!common && t->depth > 0 && regs->rsp <= t->last_rsp)
            common = find_common(t, regs->rsp);
        depth = walk_anew(&w, regs, common, max, end);
    }
    if (__builtin_expect(depth == 0, 0))
        depth =
            walk_careful(&w, regs, is_own_stack, s->pcs, max < DEPTH_MAX ? max : DEPTH_MAX, end);
    // Kept: where it is kept. Else it was only noted.
    *pcs = t->depth ? t->old->pcs : s->pcs;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->busy, 0, memory_order_relaxed);
    return depth;
}

static void note_word(struct unwind_thread *t, uint64_t at, uint64_t value)
{
    t->words[t->word_count++] = (struct word){at, value};
}

// Makes words, if they are not too many.
static void note_words(struct unwind_thread *t)
{
    const struct stack *s = t->old;
    const uint32_t chained = end_of_chain(s, 2, t->depth);
    if (2 * (t->depth - chained) + t->extra_count > WORDS_MAX)
        return;
    t->chained = chained;
    t->word_count = 0;
    for (uint32_t i = chained; i < t->depth; i++) {
        uint64_t rsp = rsp_of(s, i);
        note_word(t, rsp - 8, s->pairs[i].ra);
        if (s->kinds[i] != FRAME_SINGLE)
            note_word(t, rsp - 16, s->pairs[i].rbp);
    }
    for (uint32_t i = 0; i < t->extra_count; i++)
        if (t->extras[i].from_root + 2 <= t->depth)
            note_word(t, t->extras[i].at, t->extras[i].value);
}

// Without a branch until the end.
__attribute__((always_inline)) static inline bool is_unchanged_but_leaf(
    const struct unwind_thread *t, uint64_t rbp)
{
    const struct stack *s = t->old;
    uint64_t other = 0;
    // Frame 1 may have been reached otherwise than by frame pointer; its pair is there all the same.
    __m128i difference = compare_chain(s, 2, t->chained, compare_pair(rbp, &s->pairs[1]));
    for (const struct word *w = t->words, *end = w + t->word_count; w < end; w++)
        other |= load_word(w->at) ^ w->value;
    return other == 0 && arch_is_zero(difference);
}

// The end of a walk that found all but the leaf's pc as it was.
static inline uint32_t take_previous(struct unwind_thread *t, const struct unwind_registers *regs,
                                     const uint64_t **pcs, enum unwind_end *end)
{
    t->old->pcs[0] = regs->rip;
    *pcs = t->old->pcs;
    *end = UNWIND_END_ROOT;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->busy, 0, memory_order_relaxed);
    return t->depth;
}

// The first walk that finds a stack unchanged makes what all later ones compare.
__attribute__((noinline)) static uint32_t walk_first_unchanged(struct unwind_thread *t,
                                                               const struct unwind_registers *regs,
                                                               const uint64_t **pcs, uint32_t max,
                                                               enum unwind_end *end)
{
    const struct pair *first = &t->old->pairs[1];
    if ((load_word(regs->rbp) ^ first->rbp) | (load_word(regs->rbp + 8) ^ first->ra))
        return walk_changed(t, regs, pcs, 0, max, end);
    uint32_t common = find_common(t, regs->rsp);
    if (common > 2 || !extras_are_unchanged(t, t->depth - 2))
        return walk_changed(t, regs, pcs, common, max, end);
    note_words(t);
    return take_previous(t, regs, pcs, end);
}

uint32_t unwind_walk(struct unwind_thread *t, const struct unwind_registers *regs,
                     const uint64_t **pcs, uint32_t max, enum unwind_end *end)
{
    // Only a signal handler of this very thread can find it busy, so plain stores in program order do.
    if (atomic_load_explicit(&t->busy, memory_order_relaxed)) {
        *end = UNWIND_END_NO_ROW;
        return 0;
    }
    atomic_store_explicit(&t->busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    // acquire: pairs with the release in unwind_invalidate
    uint32_t now = atomic_load_explicit(&walk_generation, memory_order_acquire);
    if (t->generation != now || !may_be_unchanged(t, regs, max))
        return walk_changed(t, regs, pcs, 0, max, end);
    if (__builtin_expect(t->chained == 0, 0))
        return walk_first_unchanged(t, regs, pcs, max, end);
    if (!is_unchanged_but_leaf(t, regs->rbp))
        return walk_changed(t, regs, pcs, 0, max, end);
    // Loaded again, so that no register has to be saved for them.
    ARCH_OPAQUE(t);
    ARCH_OPAQUE(regs);
    return take_previous(t, regs, pcs, end);
}
