// SPDX-License-Identifier: MIT
//
// Call frame programs: CIEs and FDEs, and the machine that runs their instructions.

#ifndef FIBERSCOPE_UNWIND_CFI_H
#define FIBERSCOPE_UNWIND_CFI_H

#include "unwind/reader.h"

struct cfi_fde {
    uint64_t start, end; // pcs
    uint64_t code_align;
    int64_t data_align;
    uint64_t ra_register;
    uint8_t pointer_encoding;
    bool is_signal_frame;
    struct unwind_reader cie_program, fde_program;
};

// Reads the entry at offset of .eh_frame. Returns 1 for an FDE, 0 for a CIE (fde untouched), -1 at the
// terminator or the end, UNWIND_MALFORMED. *next is the offset behind the entry.
int cfi_read_entry(const struct unwind_tables *t, uint64_t offset, struct cfi_fde *fde,
                   uint64_t *next);

// The sorted pairs of .eh_frame_hdr, of 32 bits each: a start and its FDE's address, both from the section's address. False:
// there is no table of the form that linkers make.
bool cfi_header_pairs(const struct unwind_tables *t, const uint8_t **pairs, uint64_t *count);

// Runs the FDE and calls fn for each row; stops when fn returns nonzero and returns that.
int cfi_run(const struct cfi_fde *fde, unwind_row_fn *fn, void *arg);

enum { CFI_ENTRY_END = -100 };

#endif
