// SPDX-License-Identifier: MIT
//
// Walking this thread's own stack, fast.
//
// Three ideas make it cheap. Rows are cached by pc, so that a frame costs a look-up and two loads. A
// frame whose row says CFA = rbp + 16 is left through rbp alone, off the look-up's critical path. And
// the thread's previous stack is kept: as soon as a frame equals one of it, the words that the rest
// of that walk was made from are compared instead of unwound. A walk is a function of those
// words and of the tables, so if none changed the rest of the stack is the same.
//
// Rows of any other form (signal frames, PLT stubs, realigned frames, no row at all) hand over to
// the general walk of walk_remote.c, which probes before it reads.

#include "unwind/arch/x86_64.h"
#include "unwind/modules.h"
#include "unwind/step.h"

#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>

enum { ROWS = 1024, DEPTH_MAX = 512, NEW_EXTRAS_MAX = 128, PAGE = 4096 };

enum fast_kind { FAST_NONE, FAST_FP, FAST_RSP, FAST_RSP_SAVED, FAST_RBP_SAVED, FAST_END };

// Makes "this pc, and by frame pointer" one comparison. No pc is that high.
#define FP_TAG (UINT64_C(1) << 63)

struct fast_row {
    uint64_t key; // the pc that was looked up, plus FP_TAG if kind is FAST_FP
    int32_t cfa_offset;
    int16_t rbp_offset; // from the CFA
    uint8_t kind;       // enum fast_kind
};

// A frame of the previous walk. {rbp, ra} stand together because they do on the stack: ra was loaded
// from rsp - 8 and, in a pair, rbp from rsp - 16. The flag is kept in rsp's lowest bit, which is
// otherwise 0, so that a pair's words are at `rsp_and_pair - 17`.
struct frame {
    uint64_t rsp_and_pair;
    uint64_t rbp, ra;
};

// A saved rbp that was loaded from elsewhere. from_root tells its frame, counted from the root.
struct extra {
    uint64_t at, value;
    uint32_t from_root;
};

struct unwind_thread {
    _Atomic uint32_t busy;
    uint32_t generation;
    uint64_t low, high;
    uint32_t depth, extra_count; // of the previous walk; depth 0: none
    struct fast_row rows[ROWS];
    struct extra extras[DEPTH_MAX];
    // This walk's own, until it is complete. Not on the stack: that may be a signal's small one.
    struct frame buffers[2][DEPTH_MAX]; // the previous walk's frames, and this one's
    uint32_t previous;                  // which of them is the previous walk's
    struct extra new_extras[NEW_EXTRAS_MAX];
};

// What one walk knows.
struct walk {
    struct unwind_thread *t;
    const struct unwind_registers *regs; // the leaf's
    struct unwind_registers r;
    uint64_t high;        // what is vouched for reaches from the leaf's rsp to here
    uint64_t meet_rsp;    // no earlier than here can the stack join the previous one
    uint32_t n, k;        // frames taken; candidate in the previous stack
    uint32_t extra_count; // new ones, in new_extras
    uint64_t probed_low, probed_high;
};

static inline struct frame *old_frames(struct unwind_thread *t)
{
    return t->buffers[t->previous & 1];
}

static inline struct frame *new_frames(struct unwind_thread *t)
{
    return t->buffers[~t->previous & 1];
}

static _Atomic uint32_t generation = 1;

int unwind_init(void)
{
    return unwind_modules_init();
}

void unwind_invalidate(void)
{
    // release: pairs with the acquire in unwind_walk
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

size_t unwind_thread_size(void)
{
    return sizeof(struct unwind_thread);
}

void unwind_thread_init(struct unwind_thread *t, uint64_t low, uint64_t high)
{
    t->low = low;
    t->high = high & ~UINT64_C(7);
    t->depth = 0;
}

void unwind_thread_forget(struct unwind_thread *t)
{
    t->depth = 0;
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

static struct fast_row *row_slot(struct unwind_thread *t, uint64_t pc)
{
    return &t->rows[(pc ^ pc >> 10) % ROWS];
}

__attribute__((noinline)) static void fill_row(struct fast_row *slot, uint64_t pc)
{
    struct unwind_row row;
    int rc = row_at(pc, &row);
    // "No row" is not kept: a dlopen may bring one.
    slot->kind = rc == UNWIND_OK ? (uint8_t)fast_kind_of(&row) : FAST_NONE;
    slot->key = (rc == UNWIND_OK ? pc : 0) + (slot->kind == FAST_FP ? FP_TAG : 0);
    slot->cfa_offset = row.cfa_offset;
    slot->rbp_offset = (int16_t)row.rbp_offset;
}

// --- The general walk, for what the fast one does not do.

static int probe_page(struct walk *w, uint64_t page)
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

static int load_careful(void *arg, uint64_t address, uint64_t *value)
{
    struct walk *w = arg;
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

static uint32_t walk_careful(struct walk *w, uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct unwind_remote remote = {.read = load_careful, .row = row_careful, .arg = w};
    struct unwind_row row;
    // The fast walk does not follow rbx. A frame that hangs on it needs the walk from the leaf on.
    if (w->n > 0 && row_at(w->r.rip - 1, &row) == UNWIND_OK && row.cfa == UNWIND_CFA_REG) {
        w->r = *w->regs;
        w->n = 0;
    }
    if (w->n > 0)
        w->r.valid = 0; // those are the leaf's
    w->t->depth = 0;    // these frames are not kept
    return unwind_walk_from(&remote, &w->r, w->n == 0, pcs, w->n, max, end);
}

// --- The fast walk.

static bool frame_is_unchanged(const struct frame *f)
{
    const uint64_t *slot = (const uint64_t *)(uintptr_t)(f->rsp_and_pair & ~UINT64_C(1));
    return slot[-1] == f->ra && (!(f->rsp_and_pair & 1) || slot[-2] == f->rbp);
}

// Copies the return addresses of frames (k, depth) and compares the words that they were made from
// with the stack, without a branch that depends on them.
static bool copy_if_unchanged(const struct frame *f, const struct frame *end, uint64_t *pcs)
{
    __m128i difference = _mm_setzero_si128();
    for (; f < end; f++, pcs++) {
        __m128i was = _mm_loadu_si128((const __m128i *)(const void *)&f->rbp);
        uint64_t at = f->rsp_and_pair;
        _mm_storeh_pd((double *)(void *)pcs, _mm_castsi128_pd(was));
        __m128i now;
        if (at & 1)
            now = _mm_loadu_si128((const __m128i *)(uintptr_t)(at - 17));
        else // the lower half is somebody else's
            now = _mm_unpacklo_epi64(was, _mm_loadl_epi64((const __m128i *)(uintptr_t)(at - 8)));
        difference = _mm_or_si128(difference, _mm_xor_si128(now, was));
    }
    return arch_is_zero(difference);
}

static bool extras_are_unchanged(const struct unwind_thread *t, uint32_t from_root)
{
    for (uint32_t i = t->extra_count; i-- > 0 && t->extras[i].from_root < from_root;)
        if (*(const uint64_t *)(uintptr_t)t->extras[i].at != t->extras[i].value)
            return false;
    return true;
}

// Keeps this walk's new frames in front of the last `kept` ones of the previous walk.
static void keep(struct walk *w, uint32_t kept)
{
    struct unwind_thread *t = w->t;
    uint32_t depth = w->n + kept, first_extra = 0;
    if (depth > DEPTH_MAX || t->extra_count + w->extra_count > DEPTH_MAX) {
        t->depth = 0;
        return;
    }
    // Extras stand leaf first; those of frames that stay are the last ones.
    while (first_extra < t->extra_count && t->extras[first_extra].from_root >= kept)
        first_extra++;
    uint32_t extras_kept = kept ? t->extra_count - first_extra : 0;
    if (kept && t->depth - kept != w->n)
        memmove(&old_frames(t)[w->n], &old_frames(t)[t->depth - kept], kept * sizeof(struct frame));
    if (kept)
        for (uint32_t i = 0; i < w->n; i++)
            old_frames(t)[i] = new_frames(t)[i];
    else
        t->previous ^= 1;
    if (first_extra != w->extra_count && extras_kept)
        memmove(&t->extras[w->extra_count], &t->extras[first_extra],
                extras_kept * sizeof *t->extras);
    for (uint32_t i = 0; i < w->extra_count; i++) {
        t->extras[i] = t->new_extras[i];
        t->extras[i].from_root = depth - t->new_extras[i].from_root; // held the index until now
    }
    t->depth = depth;
    t->extra_count = extras_kept + w->extra_count;
}

// Sets meet_rsp to the first frame of the previous stack at or above index k.
static void next_meeting(struct walk *w, uint32_t k)
{
    struct unwind_thread *t = w->t;
    w->k = k;
    w->meet_rsp = k < t->depth ? old_frames(t)[k].rsp_and_pair & ~UINT64_C(1) : UINT64_MAX;
}

// The walk stands at meet_rsp or above. If the frame there is the previous stack's and all that
// follows is unchanged, takes the rest from it and returns the depth; else 0.
__attribute__((noinline)) static uint32_t meet(struct walk *w, uint64_t *pcs, uint32_t max)
{
    struct unwind_thread *t = w->t;
    if ((old_frames(t)[t->depth - 1].rsp_and_pair & ~UINT64_C(1)) < w->r.rsp)
        next_meeting(w, t->depth); // another stack's, which lies below
    while (w->meet_rsp < w->r.rsp)
        next_meeting(w, w->k + 1);
    if (w->meet_rsp != w->r.rsp)
        return 0;
    const struct frame *f = &old_frames(t)[w->k], *end = &old_frames(t)[t->depth];
    uint32_t rest = t->depth - w->k, depth = w->n + rest;
    if (f->ra != w->r.rip || f->rbp != w->r.rbp || depth > max || depth > DEPTH_MAX) {
        next_meeting(w, w->k + 1);
        return 0;
    }
    pcs[w->n] = f->ra;
    if (copy_if_unchanged(f + 1, end, pcs + w->n + 1) && extras_are_unchanged(t, rest)) {
        keep(w, rest);
        return depth;
    }
    // Nothing below the outermost frame that differs can match.
    while (--end > f && frame_is_unchanged(end))
        ;
    uint32_t differs = (uint32_t)(end - old_frames(t));
    next_meeting(w, differs > w->k ? differs : w->k + 1);
    return 0;
}

// A step that is not by frame pointer. False: the general walk must do it.
static inline bool step_other(struct walk *w, const struct fast_row *row, uint64_t *pair)
{
    struct unwind_registers *r = &w->r;
    bool by_rbp = row->kind == FAST_RBP_SAVED || row->kind == FAST_FP;
    uint64_t base = by_rbp ? r->rbp : r->rsp, rbp = r->rbp;
    uint64_t cfa = base + (uint64_t)(int64_t)row->cfa_offset;
    if (row->kind == FAST_NONE || cfa - r->rsp < 8 || cfa - r->rsp > w->high - r->rsp || cfa % 8)
        return false;
    *pair = 0;
    if (row->kind != FAST_RSP) {
        uint64_t at = cfa + (uint64_t)(int64_t)row->rbp_offset;
        if (at < r->rsp)
            return false;
        rbp = *(const uint64_t *)(uintptr_t)at;
        if (row->rbp_offset == -16)
            *pair = 1;
        else if (w->extra_count < NEW_EXTRAS_MAX)
            w->t->new_extras[w->extra_count++] = (struct extra){at, rbp, w->n + 1};
        else
            return false;
    }
    r->rip = ((const uint64_t *)(uintptr_t)cfa)[-1];
    r->rbp = rbp;
    r->rsp = cfa;
    return true;
}

static inline struct fast_row *find_fast_row(struct unwind_thread *t, uint64_t pc)
{
    struct fast_row *row = row_slot(t, pc);
    if ((row->key & ~FP_TAG) != pc)
        fill_row(row, pc);
    return row;
}

static inline void put_frame(struct frame *f, uint64_t rsp_and_pair, uint64_t rbp, uint64_t ra)
{
    f->rsp_and_pair = rsp_and_pair;
    f->rbp = rbp;
    f->ra = ra;
}

// Leaves frames whose rows are cached and go by frame pointer, as long as they come. In a loop of its
// own so that everything stays in registers: this is where a walk spends its time.
static void leave_pairs(struct walk *w, uint64_t *pcs, uint32_t limit)
{
    struct unwind_registers *r = &w->r;
    uint64_t rip = r->rip, rbp = r->rbp, rsp = r->rsp;
    const uint64_t last = w->high - 16, meet_rsp = w->meet_rsp;
    const struct fast_row *rows = w->t->rows;
    struct frame *f = &new_frames(w->t)[w->n];
    uint64_t *pc_at = pcs + w->n, *const pc_end = pcs + limit;
    while (pc_at < pc_end && rsp < meet_rsp) {
        uint64_t pc = rip - 1;
        if (rows[(pc ^ pc >> 10) % ROWS].key != pc + FP_TAG || rbp < rsp || rbp > last || rbp % 8)
            break;
        put_frame(f++, rsp | 1, rbp, rip);
        *pc_at++ = rip;
        rip = ((const uint64_t *)(uintptr_t)rbp)[1];
        rsp = rbp + 16;
        rbp = ((const uint64_t *)(uintptr_t)rbp)[0];
    }
    r->rip = rip;
    r->rbp = rbp;
    r->rsp = rsp;
    w->n = (uint32_t)(pc_at - pcs);
}

static uint32_t walk_fast(struct walk *w, uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct unwind_thread *t = w->t;
    struct unwind_registers *r = &w->r;
    const uint32_t limit = max < DEPTH_MAX ? max : DEPTH_MAX;
    uint64_t pair = 0;
    next_meeting(w, 1); // a leaf's pc is no return address, so frame 0 meets nothing
    while (w->n < limit) {
        if (r->rsp >= w->meet_rsp && w->n > 0) {
            uint32_t depth = meet(w, pcs, max);
            if (depth)
                return *end = UNWIND_END_ROOT, depth; // only complete walks are kept
        }
        const struct fast_row *row = find_fast_row(t, r->rip - (w->n > 0));
        put_frame(&new_frames(t)[w->n], r->rsp | pair, r->rbp, r->rip);
        pcs[w->n] = r->rip;
        if (row->kind == FAST_END || (w->n > 0 && r->rip == 0)) {
            w->n++;
            keep(w, 0);
            return *end = UNWIND_END_ROOT, w->n;
        }
        if (!step_other(w, row, &pair))
            return walk_careful(w, pcs, max, end);
        w->n++;
        if (pair && w->n < limit)
            leave_pairs(w, pcs, limit);
    }
    t->depth = 0;
    *end = UNWIND_END_DEPTH;
    return w->n;
}

uint32_t unwind_walk(struct unwind_thread *t, const struct unwind_registers *regs, uint64_t *pcs,
                     uint32_t max, enum unwind_end *end)
{
    *end = UNWIND_END_NO_ROW;
    // Only a signal handler of this very thread can find it busy, so plain stores in program order do.
    if (max == 0 || atomic_load_explicit(&t->busy, memory_order_relaxed))
        return 0;
    atomic_store_explicit(&t->busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    // acquire: pairs with the release in unwind_invalidate
    uint32_t now = atomic_load_explicit(&generation, memory_order_acquire);
    if (t->generation != now) {
        memset(t->rows, 0, sizeof t->rows);
        t->depth = 0;
        t->generation = now;
    }
    struct walk w;
    w.t = t;
    w.regs = regs;
    w.r = *regs;
    w.n = w.k = w.extra_count = 0;
    w.high = t->high;
    bool is_own_stack = regs->rsp >= t->low && regs->rsp < t->high && regs->rsp % 8 == 0;
    w.probed_low = is_own_stack ? regs->rsp : 0;
    w.probed_high = is_own_stack ? t->high : 0;
    uint32_t depth = is_own_stack ? walk_fast(&w, pcs, max, end) : walk_careful(&w, pcs, max, end);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->busy, 0, memory_order_relaxed);
    return depth;
}
