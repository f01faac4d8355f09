// SPDX-License-Identifier: MIT
//
// The walk of a user stack in BPF: what unwind/walk_remote.c does, with tables in place of an interpreter
// (symbols/unwind_layout.h). Both give the same stacks; tests/unit/test_bpf_walk.c compares them.
//
// Frames are walked by a function of its own for the verifier (global, so that it is looked at once, whatever it is called
// with), hence all that a walk knows is in struct walk, as plain numbers.
//
// What always holds
//   - User memory is read by bpf_probe_read_user alone; what cannot be read ends the walk.
//   - Registers other than rip, rbp and rsp are fetched when a rule asks for one: most walks never do.

#ifndef FIBERSCOPE_COLLECTOR_BPF_WALK_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_WALK_BPF_H

#include "collector/bpf/kernel_types.h"
#include "collector/bpf/layout.h"
#include "symbols/unwind_layout.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

// A record's pcs and bytes lie behind it in scratch memory.
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"

enum walk_cfa { // enum unwind_cfa of unwind/unwind.h, which is not for BPF programs
    CFA_NONE,
    CFA_RSP,
    CFA_RBP,
    CFA_REG,
    CFA_PLT,
    CFA_SIGNAL,
    CFA_RSP_DEREF,
    CFA_RBP_DEREF,
    CFA_END,
};

enum walk_rule { // enum unwind_rule
    RULE_SAME,
    RULE_AT_CFA,
    RULE_AT_RSP,
    RULE_AT_RBP,
    RULE_UNDEFINED,
    RULE_UNSUPPORTED,
    RULE_IN_REGISTER,
};

enum {
    WALK_WINDOW_WORDS = 64,   // of the stack, read at once: several frames of most programs
    WALK_FRAMES = 8,          // in one call of walk_frames
    WALK_ADDRESS_BITS = 47,   // user space has no more
    WALK_ADDRESS_MIN = 65536, // vm.mmap_min_addr: nobody has code below
    WALK_RBX = 3,             // DWARF numbers
    WALK_RULE_UNKNOWN = -1,   // no mapping of the slot, or its table is gone
    WALK_GREGS = 40,          // of gregs in struct ucontext
};

#define WALK_LEAF 1 // rbx_at, context: the interrupted thread's own registers
#define WALK_MIX  0x9e3779b97f4a7c15ULL

struct walk {
    uint64_t rip, rbp, rsp; // of the frame at hand
    uint64_t leaf_rip;
    uint64_t rbx_at;  // where rbx lies: an address, WALK_LEAF, or 0: unknown
    uint64_t context; // where the other registers do: a ucontext, WALK_LEAF, or 0: unknown
    uint64_t hash;    // of the pcs
    uint64_t start, end, table_start; // the mapping that was found last
    uint32_t file, table, blocks;
    uint32_t slot, seq, generation;
    uint32_t depth;
    uint32_t is_exact;                // rip is where execution stands, not a return address
    uint32_t is_entry;                // the leaf stands at its first instruction: who walks says so
    uint32_t why;                     // enum bpf_walk_end
    uint64_t window_at, window_bytes; // where the words below lie, and how many are there
    uint64_t window[WALK_WINDOW_WORDS];
};

// What one CPU works with: too much for a BPF program's stack.
struct scratch {
    uint32_t is_busy, index;
    struct walk walk;
    struct bpf_stack stack;
    uint64_t pcs[BPF_DEPTH_MAX + BPF_KERNEL_DEPTH_MAX]; // of stack, which ends here
    uint8_t labels[BPF_LABEL_BYTES_MAX];                // room, if the pcs are all there
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, BPF_SLOTS_MAX);
    __type(key, uint32_t);
    __type(value, struct bpf_slot);
} slots SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, BPF_CHUNKS);
    __type(key, uint32_t);
    __type(value, struct bpf_chunk);
} chunks SEC(".maps");

struct table_page {
    uint32_t words[UNWIND_PAGE_WORDS];
};

struct slab { // all have one size, so that the kernel looks pages up without a call
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, BPF_SLAB_PAGES);
    __uint(key_size,
           sizeof(uint32_t)); // sizes: libbpf looks for BTF of an inner map's types in vain
    __uint(value_size, UNWIND_PAGE_BYTES); // struct table_page
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BPF_SLABS_MAX);
    __type(key, uint32_t);
    __array(values, struct slab);
} slabs SEC(".maps");

uint32_t table_first[BPF_FILES_MAX]; // page
struct unwind_rule_row rules[UNWIND_RULES_MAX];

static __always_inline const struct bpf_slot *slot_at(uint32_t slot)
{
    return bpf_map_lookup_elem(&slots, &slot);
}

// --- Rows.

static __always_inline const struct table_page *page_at(uint32_t page)
{
    uint32_t slab = page / BPF_SLAB_PAGES, at = page % BPF_SLAB_PAGES;
    void *pages = bpf_map_lookup_elem(&slabs, &slab);
    return pages ? bpf_map_lookup_elem(pages, &at) : 0;
}

// The number of the rule in force at the low byte `low` of a block. Torn words cost a wrong rule, no more.
static __always_inline int table_rule(uint32_t table, uint32_t block, uint32_t low)
{
    const struct table_page *p = page_at(table + block / UNWIND_PAGE_WORDS);
    if (!p)
        return WALK_RULE_UNKNOWN;
    uint32_t index = p->words[block % UNWIND_PAGE_WORDS];
    uint32_t place = index >> UNWIND_PLACE_SHIFT, n = (index & UNWIND_MORE_ROWS) + 1;
    uint32_t wide = index & UNWIND_WIDE ? 1 : 0;
    p = page_at(table + place / UNWIND_PAGE_HALVES);
    if (!p)
        return WALK_RULE_UNKNOWN;
    // Rows of both kinds begin with the low byte.
    const uint16_t *halves = (const uint16_t *)p->words;
    // Without branches on what is read: the verifier would follow each way through them.
    for (int i = 0; i < 7; i++) {
        uint32_t half = n >> 1, step = half << wide;
        if (!half)
            break;
        uint32_t row_low = halves[(place + step) % UNWIND_PAGE_HALVES] & 255;
        uint32_t is_below = (row_low - low - 1) >> 31; // row_low <= low
        place += step & -is_below;
        n = half + (n & is_below);
    }
    uint32_t rule = halves[place % UNWIND_PAGE_HALVES] >> 8;
    if (wide)
        rule |= (uint32_t)halves[(place + 1) % UNWIND_PAGE_HALVES] << 8;
    return (int)(rule & 0xffff);
}

// Makes the mapping that holds pc the one at hand. 0, or nonzero: the slot has none.
__attribute__((noinline)) int find_mapping(struct walk *w, uint64_t pc)
{
    if (!w)
        return -1;
    const struct bpf_slot *s = slot_at(w->slot);
    if (!s)
        return -1;
    uint32_t i = 0, j = 0;
    for (uint32_t half = BPF_SLOT_CHUNKS / 2; half; half /= 2)
        if (s->first[i + half] <= pc)
            i += half;
    uint32_t index = s->chunk[i];
    const struct bpf_chunk *c = bpf_map_lookup_elem(&chunks, &index);
    if (!c)
        return -1;
    for (uint32_t half = BPF_CHUNK_MAPPINGS / 2; half; half /= 2)
        if (c->mappings[j + half].start <= pc)
            j += half;
    const struct bpf_mapping *m = &c->mappings[j];
    if (pc < m->start || pc >= m->end)
        return -1;
    w->start = m->start;
    w->end = m->end;
    w->table_start = m->table_start;
    w->file = m->file;
    w->table = table_first[m->file % BPF_FILES_MAX];
    w->blocks = m->blocks;
    return 0;
}

// A rule's number, or WALK_RULE_*.
static __always_inline int rule_at(struct walk *w, uint64_t pc)
{
    if (pc - w->start >= w->end - w->start) {
        if (pc < WALK_ADDRESS_MIN || pc >> WALK_ADDRESS_BITS)
            return UNWIND_RULE_NOT_COVERED;
        if (find_mapping(w, pc))
            return WALK_RULE_UNKNOWN;
    }
    if (w->file == BPF_FILE_NONE)
        return UNWIND_RULE_DECLINED;
    if (w->file == BPF_FILE_NO_CODE)
        return UNWIND_RULE_NOT_COVERED;
    uint64_t block = (pc - w->table_start) / UNWIND_BLOCK_BYTES;
    if (block >= w->blocks)
        return UNWIND_RULE_NOT_COVERED;
    return table_rule(w->table, (uint32_t)block, (uint32_t)pc % UNWIND_BLOCK_BYTES);
}

// --- Memory and registers.

// Reads the stack from address upwards. 0, or nonzero: not even one word is there.
__attribute__((noinline)) int fill_window(struct walk *w, uint64_t address)
{
    if (!w)
        return -1;
    w->window_at = address;
    w->window_bytes = sizeof w->window;
    if (!bpf_probe_read_user(w->window, sizeof w->window, (const void *)address))
        return 0;
    // The stack may end with this page.
    uint64_t left = UNWIND_PAGE_BYTES - address % UNWIND_PAGE_BYTES;
    w->window_bytes = 0;
    if (left < sizeof(uint64_t) || left >= sizeof w->window ||
        bpf_probe_read_user(w->window, (uint32_t)left, (const void *)address))
        return -1;
    w->window_bytes = left;
    return 0;
}

// Also below rsp, where rows go on naming the slots that an epilogue has popped: nobody writes there meanwhile.
static __always_inline int read_word(struct walk *w, uint64_t address, uint64_t *value)
{
    uint64_t at = address - w->window_at;
    if (at % sizeof *value || at >= w->window_bytes || w->window_bytes - at < sizeof *value) {
        if (fill_window(w, address))
            return -1;
        at = 0;
    }
    *value = w->window[at / sizeof *value % WALK_WINDOW_WORDS];
    return 0;
}

// A register of the current thread's user side, by its DWARF number.
__attribute__((noinline)) uint64_t leaf_register(uint32_t number)
{
    const struct pt_regs *r = (const struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
    switch (number) {
    case 0: return r->ax;
    case 1: return r->dx;
    case 2: return r->cx;
    case 3: return r->bx;
    case 4: return r->si;
    case 5: return r->di;
    case 6: return r->bp;
    case 7: return r->sp;
    case 8: return r->r8;
    case 9: return r->r9;
    case 10: return r->r10;
    case 11: return r->r11;
    case 12: return r->r12;
    case 13: return r->r13;
    case 14: return r->r14;
    default: return r->r15;
    }
}

// Where a register lies in a ucontext, in words from gregs.
static __always_inline uint64_t greg_index(uint32_t number)
{
    switch (number) {
    case 0: return 13;
    case 1: return 12;
    case 2: return 14;
    case WALK_RBX: return 11;
    case 4: return 9;
    case 5: return 8;
    case 6: return 10;
    case 7: return 15;
    default: return number - 8;
    }
}

static __always_inline int read_register(struct walk *w, uint32_t number, uint64_t *value)
{
    uint64_t at = number == WALK_RBX ? w->rbx_at : w->context;
    if (!at || number > 15)
        return -1;
    if (at == WALK_LEAF) {
        *value = leaf_register(number);
        return 0;
    }
    if (number != WALK_RBX)
        at += WALK_GREGS + 8 * greg_index(number);
    return read_word(w, at, value);
}

// --- Steps.

static __always_inline int frame_cfa(struct walk *w, const struct unwind_rule_row *row,
                                     uint64_t *cfa)
{
    uint64_t offset = (uint64_t)(int64_t)row->cfa_offset;
    switch (row->cfa) {
    case CFA_RSP: *cfa = w->rsp + offset; return 0;
    case CFA_RBP: *cfa = w->rbp + offset; return 0;
    case CFA_PLT: *cfa = w->rsp + 8 + ((w->rip & 15) >= offset ? 8 : 0); return 0;
    case CFA_SIGNAL:
    case CFA_RSP_DEREF:
    case CFA_RBP_DEREF:
        offset += row->cfa == CFA_RBP_DEREF ? w->rbp : w->rsp;
        if (read_word(w, offset, cfa))
            return -1;
        *cfa += (uint64_t)(int64_t)row->cfa_add;
        return 0;
    case CFA_REG:
        if (read_register(w, row->cfa_register, cfa))
            return -1;
        *cfa += offset;
        return 0;
    default: return -1;
    }
}

static __always_inline int frame_register(struct walk *w, uint32_t rule, int32_t offset,
                                          uint64_t cfa, uint64_t *value)
{
    uint64_t at = (uint64_t)(int64_t)offset;
    switch (rule) {
    case RULE_SAME: return 0;
    case RULE_AT_CFA: return read_word(w, cfa + at, value);
    case RULE_AT_RSP: return read_word(w, w->rsp + at, value);
    case RULE_AT_RBP: return read_word(w, w->rbp + at, value);
    case RULE_IN_REGISTER: return read_register(w, (uint32_t)offset & 15, value);
    default: *value = 0; return 0; // a 0 that no later frame accepts
    }
}

static __always_inline void follow_rbx(struct walk *w, const struct unwind_rule_row *row,
                                       uint64_t cfa)
{
    uint64_t offset = (uint64_t)(int64_t)row->rbx_offset;
    w->context = 0;
    switch (row->rbx) {
    case RULE_SAME: return;
    case RULE_AT_CFA: w->rbx_at = cfa + offset; return;
    case RULE_AT_RSP: w->rbx_at = w->rsp + offset; return;
    case RULE_AT_RBP: w->rbx_at = w->rbp + offset; return;
    default: w->rbx_at = 0; return;
    }
}

// Moves to the caller, as unwind_step does. 0, or nonzero: a slot could not be read.
static __always_inline int walk_step(struct walk *w, const struct unwind_rule_row *row)
{
    uint64_t cfa, ra = 0, rbp = w->rbp;
    // rbp's slot lies lower: the words are read upwards.
    if (frame_cfa(w, row, &cfa) || frame_register(w, row->rbp, row->rbp_offset, cfa, &rbp) ||
        frame_register(w, row->ra, row->ra_offset, cfa, &ra))
        return -1;
    if (row->is_signal_frame && row->cfa == CFA_SIGNAL) {
        w->context = w->rsp;
        w->rbx_at = w->rsp + WALK_GREGS + 8 * greg_index(WALK_RBX);
    } else {
        follow_rbx(w, row, cfa);
    }
    w->rip = ra;
    w->rbp = rbp;
    w->rsp = cfa;
    return 0;
}

static __always_inline bool is_code(struct walk *w, uint64_t ra)
{
    return rule_at(w, ra - 1) > UNWIND_RULE_NOT_COVERED;
}

static __always_inline int guessed(struct walk *w, uint64_t ra, uint64_t rbp, uint64_t rsp)
{
    w->rip = ra;
    w->rbp = rbp;
    w->rsp = rsp;
    w->rbx_at = 0;
    w->context = 0;
    w->is_exact = 0;
    return 0;
}

// Code without a row: by frame pointer, if what it points at looks like a frame; see walk_remote.c.
__attribute__((noinline)) int guess(struct walk *w)
{
    uint64_t frame[2], ra;
    if (!w)
        return -1;
    bool is_leaf = w->depth == 1 && !bpf_probe_read_user(&ra, sizeof ra, (const void *)w->rsp) &&
                   ra && is_code(w, ra);
    if (is_leaf && w->is_entry) // rbp is still its caller's
        return guessed(w, ra, w->rbp, w->rsp + 8);
    if (w->rbp > w->rsp - 8 && w->rbp % 8 == 0 && w->rbp - w->rsp < (1u << 20) &&
        !bpf_probe_read_user(frame, sizeof frame, (const void *)w->rbp) && frame[1] &&
        (frame[0] == 0 || frame[0] > w->rbp) && is_code(w, frame[1]))
        return guessed(w, frame[1], frame[0], w->rbp + 16);
    return is_leaf ? guessed(w, ra, w->rbp, w->rsp + 8) : -1;
}

// In the kernel the leaf's pc is behind its `syscall`, which may end the code that its row covers.
__attribute__((noinline)) int rule_behind_syscall(struct walk *w)
{
    return w ? rule_at(w, w->leaf_rip - 1) : WALK_RULE_UNKNOWN;
}

static __always_inline int frame_rule(struct walk *w)
{
    uint64_t pc = w->rip - !w->is_exact;
    int rule = rule_at(w, pc);
    if (rule <= UNWIND_RULE_NOT_COVERED && pc == w->leaf_rip)
        rule = rule_behind_syscall(w);
    return rule;
}

static __always_inline int walk_ends(struct walk *w, uint32_t why)
{
    w->why = why;
    return 1;
}

// Takes the frame at hand and moves to its caller. Nonzero: the walk has ended, w->why says why.
static __always_inline int walk_frame(struct scratch *s)
{
    struct walk *w = &s->walk;
    uint32_t n = w->depth;
    if (n >= BPF_DEPTH_MAX)
        return walk_ends(w, BPF_END_DEPTH);
    uint64_t pc = w->rip + (w->is_exact && n > 0), rsp = w->rsp;
    s->pcs[n] = pc;
    w->depth = n + 1;
    w->hash = (w->hash ^ pc) * WALK_MIX;
    w->hash ^= w->hash >> 32;

    int rule = frame_rule(w);
    if (rule < 0)
        return walk_ends(w, BPF_END_UNKNOWN_CODE);
    if (rule == UNWIND_RULE_ROOT)
        return walk_ends(w, BPF_END_ROOT);
    if (rule < UNWIND_RULE_FIRST || rule >= UNWIND_RULES_MAX)
        return guess(w) ? walk_ends(w, BPF_END_NO_ROW) : 0;
    const struct unwind_rule_row *row = &rules[rule];
    if (walk_step(w, row))
        return walk_ends(w, BPF_END_BAD_MEMORY);
    if (w->rip == 0)
        return walk_ends(w, BPF_END_ROOT);
    w->is_exact = row->is_signal_frame;
    // A signal frame may lead to another stack; all others must climb.
    if (!w->is_exact && (w->rsp <= rsp || w->rsp % 8))
        return walk_ends(w, BPF_END_LOOP);
    return 0;
}

// Several, as calls are what a walk costs.
__attribute__((noinline)) int walk_frames(struct scratch *s)
{
    if (!s)
        return 1;
    for (int i = 0; i < WALK_FRAMES; i++)
        if (walk_frame(s))
            return 1;
    return 0;
}

// Walks the current thread's user stack. 0, or nonzero: the slot was written meanwhile, or is.
static __always_inline int walk_user(struct scratch *s, const struct pt_regs *regs, uint32_t slot)
{
    struct walk *w = &s->walk;
    const volatile struct bpf_slot *at = slot_at(slot);
    w->depth = 0;
    w->why = BPF_END_UNKNOWN_CODE;
    w->hash = 0;
    if (!at)
        return -1;
    w->slot = slot;
    w->seq = at->seq;
    w->generation = at->generation;
    w->rip = w->leaf_rip = regs->ip;
    w->rbp = regs->bp;
    w->rsp = regs->sp;
    w->rbx_at = w->context = WALK_LEAF;
    w->start = w->end = w->window_bytes = 0;
    w->is_exact = 1;
    if (w->seq & 1)
        return -1;
    for (int i = 0; i <= BPF_DEPTH_MAX / WALK_FRAMES; i++)
        if (walk_frames(s))
            break;
    return at->seq == w->seq ? 0 : -1;
}

#endif
