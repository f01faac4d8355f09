// SPDX-License-Identifier: MIT
//
// An arbitrary ELF file with arbitrary debug info, names and addresses: no crash, no endless loop, no
// leak, and every string that comes back is one.
//
// libelf and libdw are part of what is fuzzed: a finding in them is met by a check before they are
// called (symbols/elf_check.c).

#include "symbols/symbols.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(struct symbols_image *im, uint64_t address)
{
    struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
    int n = symbols_lookup(im, address, frames, SYMBOLS_FRAMES_MAX);
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += strlen(frames[i].name) + strlen(frames[i].system_name) + strlen(frames[i].file);
    if (total == SIZE_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct symbols *s;
    struct symbols_image *im;
    struct symbols_options o = {
        .size = sizeof o, .no_cache = true, .no_debuginfod = true, .no_default_dirs = true};
    if (symbols_new(&s, &o, NULL))
        return 0;
    if (!symbols_open_memory(s, &im, data, size, "/nowhere/fuzz", NULL)) {
        for (uint64_t a = 0x1000; a < 0x1400; a += 13)
            touch(im, a);
        for (uint64_t offset = 0; offset < size && offset < 1 << 16; offset += 61) {
            uint64_t a;
            if (!symbols_address_of_offset(im, offset, &a))
                touch(im, a);
        }
    }
    symbols_free(s);
    return 0;
}
