// SPDX-License-Identifier: MIT
//
// Compact unwind tables: the bytes that a walker without an interpreter reads (BPF programs). unwind_table.h makes
// them; collector/bpf/walk.bpf.h reads them. Included by BPF programs: no other header, no functions.
//
// One table serves one ELF file, whoever maps it. Its addresses are link-time ones, from `start` on, which is a multiple
// of UNWIND_BLOCK_BYTES. A table is an array of little-endian words of 32 bits, in pages of UNWIND_PAGE_WORDS:
//
//   index  one word for each block of 256 bytes of code, from the table's first word on
//          bits 0..6   how many rows of the block follow its first one
//          bit  7      UNWIND_WIDE
//          bits 8..31  the place of its first row, in half words (16 bits) from the table's beginning
//   rows   narrow, half a word each: bits 0..7 the low byte of the first address it holds for, bits 8..15 a rule's number
//          wide, a word each: the low byte in bits 0..7, the rule's number in bits 8..23; their place is even
//
// What always holds
//   - A block has at least one row; its first row's low byte is 0, so that what began in an earlier block goes on.
//     Low bytes of a block's rows rise strictly.
//   - A block's rows are of one kind and lie in one page. Blocks with equal rows share them.
//   - Neighbouring rows of a block have different rules.
//   - Rule numbers are those of one struct unwind_rules, which all tables of a collector share; it only grows. The
//     first UNWIND_NARROW_RULES numbers are for rules that are common, all others make their block's rows wide.
//
// Search: the index word of block (pc - start) / 256, then the last of its rows whose low byte is not above pc's: two
// reads of a page and at most 7 comparisons.
//
// Between functions linkers and compilers leave padding, in which nothing executes. A hole of at most
// UNWIND_PADDING_MAX bytes costs no row: the rule before it goes on.

#ifndef FIBERSCOPE_SYMBOLS_UNWIND_LAYOUT_H
#define FIBERSCOPE_SYMBOLS_UNWIND_LAYOUT_H

enum {
    UNWIND_BLOCK_BYTES = 256,
    UNWIND_BLOCK_ROWS_MAX = 128,
    UNWIND_MORE_ROWS = 0x7f, // mask of an index word
    UNWIND_WIDE = 0x80,      // bit of an index word
    UNWIND_PLACE_SHIFT = 8,
    UNWIND_PAGE_WORDS = 1024,
    UNWIND_PAGE_HALVES = 2048,
    UNWIND_PAGE_BYTES = 4096,
    UNWIND_TABLE_WORDS_MAX = 1 << 23, // 32 MiB: places have 24 bits, in half words
    UNWIND_PADDING_MAX = 15,
    UNWIND_NARROW_RULES = 256,
    UNWIND_RULES_MAX = 1 << 15, // of all tables together
};

// Rules that have a number of their own.
enum {
    UNWIND_RULE_NOT_COVERED =
        0, // no FDE: as unwind_walk_remote, by frame pointer if that looks like a frame
    UNWIND_RULE_DECLINED = 1, // CFI of a form that we decline: the same
    UNWIND_RULE_ROOT = 2,     // the outermost frame
    UNWIND_RULE_FIRST = 3,
};

// A row without its addresses: struct unwind_row of unwind/unwind.h, field by field, whose enums hold here too. What a
// field says is told in one way: one that no walk looks at is 0, rbp and rbx that cannot be had are UNWIND_UNDEFINED.
struct unwind_rule_row {
    unsigned char cfa, cfa_register, rbp, ra, rbx, is_signal_frame, reserved[2];
    int cfa_offset, rbp_offset, ra_offset, rbx_offset, cfa_add;
};

#endif
