// SPDX-License-Identifier: MIT
//
// Compact unwind tables: the bytes that a walker without an interpreter reads (BPF programs). unwind_table.h makes
// them; collector/bpf/walk.bpf.h reads them. Included by BPF programs: no other header, no functions.
//
// One table serves one ELF file, whoever maps it. Its addresses are link-time ones, from `start` on, which is a multiple
// of UNWIND_BLOCK_BYTES. Everything is a little-endian word of 32 bits, in pages of UNWIND_PAGE_WORDS:
//
//   index  one word for each block of 256 bytes of code: where its rows are
//          bits 8..31 the place of the block's first row, in words from the table's beginning; bits 0..7 how many
//          follow that one
//   rows   bits 0..15 a rule's number; bits 16..23 the low byte of the first address it holds for
//
// What always holds
//   - A block has at least one row; its first row's low byte is 0, so that what began in an earlier block goes on.
//     Low bytes of a block's rows rise strictly.
//   - A block's rows lie in one page.
//   - Neighbouring rows of a block have different rules.
//   - Rule numbers are those of one struct unwind_rules, which all tables of a collector share; it only grows.
//
// Search: the index word of block (pc - start) / 256, then the last of its rows whose low byte is not above pc's: two
// reads of a page and at most 8 comparisons.

#ifndef FIBERSCOPE_SYMBOLS_UNWIND_LAYOUT_H
#define FIBERSCOPE_SYMBOLS_UNWIND_LAYOUT_H

enum {
    UNWIND_BLOCK_BYTES = 256,
    UNWIND_PAGE_WORDS = 1024,
    UNWIND_PAGE_BYTES = 4096,
    UNWIND_TABLE_WORDS_MAX = 1 << 24, // 64 MiB: places have 24 bits
    UNWIND_RULES_MAX = 1 << 15,       // of all tables together
};

// Rules that have a number of their own.
enum {
    UNWIND_RULE_NOT_COVERED =
        0, // no FDE: as unwind_walk_remote, by frame pointer if that looks like a frame
    UNWIND_RULE_DECLINED = 1, // CFI of a form that we decline: the same
    UNWIND_RULE_ROOT = 2,     // the outermost frame
    UNWIND_RULE_FIRST = 3,
};

// A row without its addresses: struct unwind_row of unwind/unwind.h, field by field, whose enums hold here too.
struct unwind_rule_row {
    unsigned char cfa, cfa_register, rbp, ra, rbx, is_signal_frame, reserved[2];
    int cfa_offset, rbp_offset, ra_offset, rbx_offset, cfa_add;
};

#endif
