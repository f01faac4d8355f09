// SPDX-License-Identifier: MIT
//
// See functions.h.

#include "symbols/functions.h"

#include "symbols/elf_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FUNCTIONS_MAX = 1 << 20, CODE_BYTES_MAX = 64 << 20 };

struct functions {
    struct elf_file *file;
    Elf_Data *symbols, *strings; // NULL: there are none
};

static void find_table(struct functions *f)
{
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->file->elf, scn))) {
        GElf_Shdr sh, link_header;
        if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_DYNSYM)
            continue;
        Elf_Scn *link = elf_getscn(f->file->elf, sh.sh_link);
        if (!link || !gelf_getshdr(link, &link_header) || link_header.sh_type != SHT_STRTAB)
            continue;
        f->symbols = elf_getdata(scn, NULL);
        f->strings = elf_getdata(link, NULL);
        if (!f->symbols || !f->symbols->d_buf || !f->strings || !f->strings->d_buf)
            f->symbols = f->strings = NULL;
        return;
    }
}

int functions_open(struct functions **out, int fd, const char *name, struct fscope_error *err)
{
    *out = NULL;
    struct functions *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", name);
    int rc = elf_file_open_fd(&f->file, fd, name, err);
    if (rc) {
        functions_close(f);
        return rc;
    }
    find_table(f);
    *out = f;
    return 0;
}

void functions_close(struct functions *f)
{
    if (!f)
        return;
    elf_file_close(f->file);
    free(f);
}

static bool has_name(const struct functions *f, const GElf_Sym *sym, const char *name)
{
    size_t n = strlen(name) + 1;
    return sym->st_name < f->strings->d_size && f->strings->d_size - sym->st_name >= n &&
           memcmp((const char *)f->strings->d_buf + sym->st_name, name, n) == 0;
}

int functions_find(const struct functions *f, const char *name, uint64_t *address, uint64_t *size)
{
    size_t n = f->symbols ? f->symbols->d_size / sizeof(Elf64_Sym) : 0;
    if (n > FUNCTIONS_MAX)
        n = FUNCTIONS_MAX;
    for (size_t i = 1; i < n; i++) {
        GElf_Sym sym;
        if (!gelf_getsym(f->symbols, (int)i, &sym) || sym.st_shndx == SHN_UNDEF || !sym.st_value ||
            (GELF_ST_TYPE(sym.st_info) != STT_FUNC && GELF_ST_TYPE(sym.st_info) != STT_GNU_IFUNC) ||
            !has_name(f, &sym, name))
            continue;
        *address = sym.st_value;
        if (size)
            *size = sym.st_size;
        return 0;
    }
    return -ENOENT;
}

int functions_find_code(const struct functions *f, const void *bytes, uint64_t size,
                        uint64_t *address)
{
    for (uint32_t i = 0; i < f->file->load_count; i++) {
        const struct elf_load *l = &f->file->loads[i];
        if (!l->is_executable || l->file_bytes > CODE_BYTES_MAX || l->file_bytes < size)
            continue;
        uint8_t *code = malloc(l->file_bytes);
        ssize_t n = code ? pread(f->file->fd, code, l->file_bytes, (off_t)l->offset) : -1;
        const uint8_t *at = n > 0 ? memmem(code, (size_t)n, bytes, size) : NULL;
        if (at)
            *address = l->address + (uint64_t)(at - code);
        free(code);
        if (at)
            return 0;
    }
    return -ENOENT;
}

int functions_read(const struct functions *f, uint64_t address, void *out, uint64_t size)
{
    for (uint32_t i = 0; i < f->file->load_count; i++) {
        const struct elf_load *l = &f->file->loads[i];
        if (l->is_executable && address >= l->address && size <= l->file_bytes &&
            address - l->address <= l->file_bytes - size)
            return pread(f->file->fd, out, size, (off_t)(l->offset + address - l->address)) ==
                           (ssize_t)size
                       ? 0
                       : -ENOENT;
    }
    return -ENOENT;
}
