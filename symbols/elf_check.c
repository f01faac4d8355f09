// SPDX-License-Identifier: MIT
//
// What libelf and libdw take on trust, checked before they see a file.
//
// libelf allocates whatever size a compressed section claims; a 200-byte file could ask for
// terabytes. Deflate expands at most 1,032 times, so a larger claim is a lie.

#include "symbols/elf_file.h"

#include <errno.h>
#include <string.h>

static const uint64_t INFLATED_BYTES_MAX = 16ull << 30; // all sections of one file together
enum { EXPANSION_MAX = 1040, EXPANSION_SLACK = 1 << 16 };

static int check_compressed(struct elf_file *f, Elf_Scn *scn, const GElf_Shdr *sh,
                            uint64_t *inflated, struct fscope_error *err)
{
    GElf_Chdr ch;
    if (!gelf_getchdr(scn, &ch))
        return error_set(err, -ENOEXEC, sh->sh_offset, "%s: broken compressed section", f->path);
    if (ch.ch_size > INFLATED_BYTES_MAX - *inflated ||
        ch.ch_size > sh->sh_size * EXPANSION_MAX + EXPANSION_SLACK)
        return error_set(err, -ENOEXEC, sh->sh_offset,
                         "%s: a compressed section of %llu bytes claims to hold %llu", f->path,
                         (unsigned long long)sh->sh_size, (unsigned long long)ch.ch_size);
    *inflated += ch.ch_size;
    return 0;
}

// The old form: "ZLIB", then the size as big-endian 64 bits.
static int check_zdebug(struct elf_file *f, Elf_Scn *scn, const GElf_Shdr *sh, uint64_t *inflated,
                        struct fscope_error *err)
{
    Elf_Data *d = elf_rawdata(scn, NULL);
    if (!d || !d->d_buf || d->d_size < 12 || memcmp(d->d_buf, "ZLIB", 4))
        return 0;
    uint64_t size = 0;
    for (int i = 4; i < 12; i++)
        size = size << 8 | ((const uint8_t *)d->d_buf)[i];
    if (size > INFLATED_BYTES_MAX - *inflated ||
        size > sh->sh_size * EXPANSION_MAX + EXPANSION_SLACK)
        return error_set(err, -ENOEXEC, sh->sh_offset,
                         "%s: a compressed section of %llu bytes claims to hold %llu", f->path,
                         (unsigned long long)sh->sh_size, (unsigned long long)size);
    *inflated += size;
    return 0;
}

int elf_check(struct elf_file *f, struct fscope_error *err)
{
    size_t count = 0, strings = 0;
    if (elf_getshdrnum(f->elf, &count))
        return error_set(err, -ENOEXEC, 0, "%s: broken section headers", f->path);
    if (count > ELF_SECTIONS_MAX)
        return error_set(err, -ENOEXEC, 0, "%s: %zu sections", f->path, count);
    if (count && elf_getshdrstrndx(f->elf, &strings))
        return error_set(err, -ENOEXEC, 0, "%s: broken section name table", f->path);

    uint64_t inflated = 0;
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->elf, scn))) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh))
            return error_set(err, -ENOEXEC, 0, "%s: broken section header %zu", f->path,
                             elf_ndxscn(scn));
        if (sh.sh_type == SHT_NULL || sh.sh_type == SHT_NOBITS)
            continue;
        if (sh.sh_offset > f->size || sh.sh_size > f->size - sh.sh_offset)
            return error_set(err, -ENOEXEC, sh.sh_offset,
                             "%s: section %zu reaches beyond the file (cut off?)", f->path,
                             elf_ndxscn(scn));
        const char *name = elf_strptr(f->elf, strings, sh.sh_name);
        int rc = 0;
        if (sh.sh_flags & SHF_COMPRESSED)
            rc = check_compressed(f, scn, &sh, &inflated, err);
        else if (name && !strncmp(name, ".zdebug", 7))
            rc = check_zdebug(f, scn, &sh, &inflated, err);
        if (rc)
            return rc;
    }
    return 0;
}
