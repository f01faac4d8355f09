// SPDX-License-Identifier: MIT
//
// What an image's code calls: its bytes, and the names behind the loader's slots.

#include "symbols/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static size_t read_file(const struct elf_file *f, uint64_t offset, void *out, size_t size)
{
    if (offset >= f->size)
        return 0;
    if (size > f->size - offset)
        size = f->size - offset;
    if (f->fd < 0) {
        if (!f->copy || offset >= f->copy_size || size > f->copy_size - offset)
            return 0;
        memcpy(out, (const char *)f->copy + offset, size);
        return size;
    }
    ssize_t n = pread(f->fd, out, size, (off_t)offset);
    return n > 0 ? (size_t)n : 0;
}

size_t symbols_read(const struct symbols_image *im, uint64_t address, void *out, size_t size)
{
    const struct elf_file *f = im->main;
    for (uint32_t i = 0; f && i < f->load_count; i++) {
        const struct elf_load *l = &f->loads[i];
        if (address < l->address || address - l->address >= l->file_bytes)
            continue;
        uint64_t into = address - l->address, left = l->file_bytes - into;
        return l->offset > UINT64_MAX - into
                   ? 0
                   : read_file(f, l->offset + into, out, size < left ? size : (size_t)left);
    }
    return 0;
}

const char *symbols_slot_function(const struct symbols_image *im, uint64_t address)
{
    return plt_slots_find(&im->slots, address);
}

int symbols_function_address(const struct symbols_image *im, const char *name, uint64_t *address)
{
    for (size_t i = 0; i < im->symtab.count; i++)
        if (strcmp(im->symtab.symbols[i].name, name) == 0) {
            *address = im->symtab.symbols[i].low;
            return 0;
        }
    return -ENOENT;
}
