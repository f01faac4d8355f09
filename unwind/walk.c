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

struct fast_row {
    uint64_t pc; // the pc that was looked up
    int32_t cfa_offset;
    int16_t rbp_offset; // from the CFA
    uint8_t kind;       // enum fast_kind
};

// A frame of the previous walk. {rbp, ra} stand together because they do on the stack: ra was loaded
// from rsp - 8, and where mask is set, rbp from rsp - 16.
struct frame {
    uint64_t rsp;
    uint64_t mask;
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
    struct frame frames[DEPTH_MAX];
    struct extra extras[DEPTH_MAX];
    // This walk's own, until it is complete. Not on the stack: that may be a signal's small one.
    struct frame new_frames[DEPTH_MAX];
    struct extra new_extras[NEW_EXTRAS_MAX];
};

// What one walk knows.
struct walk {
    struct unwind_thread *t;
    struct unwind_registers r;
    uint64_t high;          // what is vouched for reaches from the leaf's rsp to here
    uint32_t n, k;          // frames taken; candidate in the previous stack
    uint32_t differs_below; // no frame of the previous stack under this index can match
    uint32_t extra_count;   // new ones, in new_extras
    uint64_t probed_low, probed_high;
};

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
    slot->pc = rc == UNWIND_OK ? pc : 0;
    slot->kind = rc == UNWIND_OK ? (uint8_t)fast_kind_of(&row) : FAST_NONE;
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
    w->t->depth = 0; // these frames are not kept
    return unwind_walk_from(&remote, &w->r, w->n == 0, pcs, w->n, max, end);
}

// --- The fast walk.

// Whether all words that frames (k, depth) of the previous stack were made from are as they were.
// Sets differs_below to just above the outermost frame that differs.
static bool rest_is_unchanged(struct walk *w)
{
    const struct unwind_thread *t = w->t;
    const struct frame *f = t->frames;
    __m128i difference = _mm_setzero_si128();
    for (uint32_t i = w->k + 1; i < t->depth; i++)
        difference = arch_difference(difference, f[i].rsp - 16, &f[i].rbp, f[i].mask);
    uint32_t from_root = t->depth - w->k;
    bool same = arch_is_zero(difference);
    for (uint32_t i = t->extra_count; same && i-- > 0 && t->extras[i].from_root < from_root;)
        same = *(const uint64_t *)(uintptr_t)t->extras[i].at == t->extras[i].value;
    if (same)
        return true;
    w->differs_below = w->k + 1;
    for (uint32_t i = t->depth - 1; i > w->k; i--)
        if (!arch_is_zero(
                arch_difference(_mm_setzero_si128(), f[i].rsp - 16, &f[i].rbp, f[i].mask))) {
            w->differs_below = i;
            break;
        }
    return false;
}

// Keeps this walk's new frames in front of what stays of the previous one's.
static void keep(struct walk *w, uint32_t kept_from, uint32_t kept)
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
    if (kept && kept_from != w->n)
        memmove(&t->frames[w->n], &t->frames[kept_from], kept * sizeof *t->frames);
    memcpy(t->frames, t->new_frames, w->n * sizeof *t->frames);
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

// The rest of the stack from the previous walk, frame k being the one just reached.
static uint32_t take_rest(struct walk *w, uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct unwind_thread *t = w->t;
    uint32_t rest = t->depth - w->k;
    if (rest > max - w->n || w->n + rest > DEPTH_MAX)
        return 0;
    for (uint32_t i = 0; i < rest; i++)
        pcs[w->n + i] = t->frames[w->k + i].ra;
    uint32_t depth = w->n + rest;
    keep(w, w->k, rest);
    *end = UNWIND_END_ROOT; // only complete walks are kept
    return depth;
}

static bool meets_previous(struct walk *w)
{
    const struct unwind_thread *t = w->t;
    while (w->k < t->depth && t->frames[w->k].rsp < w->r.rsp)
        w->k++;
    const struct frame *f = &t->frames[w->k];
    return w->k < t->depth && w->k >= w->differs_below && w->n > 0 && w->k > 0 &&
           f->rsp == w->r.rsp && f->ra == w->r.rip && f->rbp == w->r.rbp && rest_is_unchanged(w);
}

static void remember(struct walk *w, uint64_t mask)
{
    w->t->new_frames[w->n] = (struct frame){w->r.rsp, mask, w->r.rbp, w->r.rip};
}

enum step_result { STEP_ON, STEP_CAREFUL, STEP_END };

// Leaves one frame. mask tells whether the caller's rbp came from beside its return address.
static inline enum step_result step_fast(struct walk *w, const struct fast_row *row, uint64_t *mask)
{
    struct unwind_registers *r = &w->r;
    uint64_t cfa, rbp = r->rbp, saved_at = 0, room = w->high - r->rsp;
    switch (row->kind) {
    case FAST_FP:
        if (room < 16 || r->rbp - r->rsp > room - 16 || r->rbp % 8)
            return STEP_CAREFUL;
        r->rsp = r->rbp + 16;
        r->rip = ((const uint64_t *)(uintptr_t)rbp)[1];
        r->rbp = ((const uint64_t *)(uintptr_t)rbp)[0];
        *mask = ~UINT64_C(0);
        return STEP_ON;
    case FAST_RSP:
    case FAST_RSP_SAVED: cfa = r->rsp + (uint64_t)(int64_t)row->cfa_offset; break;
    case FAST_RBP_SAVED: cfa = r->rbp + (uint64_t)(int64_t)row->cfa_offset; break;
    case FAST_END: return STEP_END;
    default: return STEP_CAREFUL;
    }
    if (cfa - r->rsp < 8 || cfa - r->rsp > room || cfa % 8)
        return STEP_CAREFUL;
    *mask = 0;
    if (row->kind != FAST_RSP) {
        saved_at = cfa + (uint64_t)(int64_t)row->rbp_offset;
        if (saved_at < r->rsp)
            return STEP_CAREFUL;
        rbp = *(const uint64_t *)(uintptr_t)saved_at;
        if (row->rbp_offset == -16)
            *mask = ~UINT64_C(0);
        else if (w->extra_count < NEW_EXTRAS_MAX)
            w->t->new_extras[w->extra_count++] = (struct extra){saved_at, rbp, w->n + 1};
        else
            return STEP_CAREFUL;
    }
    r->rip = ((const uint64_t *)(uintptr_t)cfa)[-1];
    r->rbp = rbp;
    r->rsp = cfa;
    return STEP_ON;
}

static uint32_t walk_fast(struct walk *w, uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    struct unwind_thread *t = w->t;
    uint64_t mask = 0;
    for (;;) {
        if (t->depth && meets_previous(w)) {
            uint32_t depth = take_rest(w, pcs, max, end);
            if (depth)
                return depth;
        }
        if (w->n == max || w->n == DEPTH_MAX)
            break;
        uint64_t pc = w->r.rip - (w->n > 0);
        struct fast_row *row = row_slot(t, pc);
        if (row->pc != pc)
            fill_row(row, pc);
        remember(w, mask);
        pcs[w->n] = w->r.rip;
        enum step_result result = step_fast(w, row, &mask);
        if (result == STEP_CAREFUL)
            return walk_careful(w, pcs, max, end);
        w->n++;
        if (result == STEP_END || w->r.rip == 0) {
            keep(w, 0, 0);
            *end = UNWIND_END_ROOT;
            return w->n;
        }
    }
    t->depth = 0;
    *end = UNWIND_END_DEPTH;
    return w->n;
}

uint32_t unwind_walk(struct unwind_thread *t, const struct unwind_registers *regs, uint64_t *pcs,
                     uint32_t max, enum unwind_end *end)
{
    *end = UNWIND_END_NO_ROW;
    // A signal may interrupt a walk and walk itself. acquire and release: pair with each other.
    if (max == 0 || atomic_exchange_explicit(&t->busy, 1, memory_order_acquire))
        return 0;
    // acquire: pairs with the release in unwind_invalidate
    uint32_t now = atomic_load_explicit(&generation, memory_order_acquire);
    if (t->generation != now) {
        memset(t->rows, 0, sizeof t->rows);
        t->depth = 0;
        t->generation = now;
    }
    struct walk w;
    w.t = t;
    w.r = *regs;
    w.n = w.k = w.differs_below = w.extra_count = 0;
    w.high = t->high;
    bool is_own_stack = regs->rsp >= t->low && regs->rsp < t->high && regs->rsp % 8 == 0;
    w.probed_low = is_own_stack ? regs->rsp : 0;
    w.probed_high = is_own_stack ? t->high : 0;
    uint32_t depth = is_own_stack ? walk_fast(&w, pcs, max, end) : walk_careful(&w, pcs, max, end);
    atomic_store_explicit(&t->busy, 0, memory_order_release);
    return depth;
}
