// SPDX-License-Identifier: MIT
//
// How values of DWARF forms are stored, in 32-bit DWARF with 8-byte addresses.

#ifndef FIBERSCOPE_SYMBOLS_READER_FORMS_H
#define FIBERSCOPE_SYMBOLS_READER_FORMS_H

#include <stdint.h>

enum step_kind {
    STEP_FIXED,
    STEP_LEB,
    STEP_STRING,
    STEP_BLOCK1, // a length of that many bytes, then the block
    STEP_BLOCK2,
    STEP_BLOCK4,
    STEP_BLOCK, // its length is a LEB128
    STEP_UNKNOWN
};

// bytes: of STEP_FIXED.
enum step_kind form_kind(uint64_t form, uint32_t *bytes);

#endif
