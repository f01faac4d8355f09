// SPDX-License-Identifier: MIT
//
// See data_symbols.h. Of aliases of one address the longest, then the shortest name wins; of nested
// objects the innermost.

#include "symbols/data_symbols.h"

#include "symbols/elf_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DATA_SYMBOLS_MAX = 1 << 22, NESTED_MAX = 64 };

struct data_symbol {
    uint64_t low, high; // half open; of one without a size: its address alone
    const char *name;
};

struct data_symbols {
    struct elf_file *file;
    struct data_symbol *symbols;
    size_t count, capacity;
};

static int add_symbol(struct data_symbols *d, const struct data_symbol *s)
{
    if (d->count == d->capacity) {
        size_t n = d->capacity * 2 + 256;
        struct data_symbol *grown = reallocarray(d->symbols, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        d->symbols = grown;
        d->capacity = n;
    }
    d->symbols[d->count++] = *s;
    return 0;
}

// A string table's string, NULL where it does not end inside.
static const char *string_at(const Elf_Data *strings, uint64_t at)
{
    const char *s = strings->d_buf;
    return at < strings->d_size && memchr(s + at, '\0', strings->d_size - at) ? s + at : NULL;
}

static int add_section(struct data_symbols *d, Elf_Scn *scn, const GElf_Shdr *sh)
{
    GElf_Shdr link_header;
    Elf_Scn *link = elf_getscn(d->file->elf, sh->sh_link);
    if (!link || !gelf_getshdr(link, &link_header) || link_header.sh_type != SHT_STRTAB)
        return 0;
    Elf_Data *data = elf_getdata(scn, NULL), *strings = elf_getdata(link, NULL);
    if (!data || !data->d_buf || !strings || !strings->d_buf)
        return 0;
    size_t n = data->d_size / sizeof(Elf64_Sym);
    for (size_t i = 1; i < n && d->count < DATA_SYMBOLS_MAX; i++) {
        GElf_Sym sym;
        if (!gelf_getsym(data, (int)i, &sym) || GELF_ST_TYPE(sym.st_info) != STT_OBJECT ||
            sym.st_shndx == SHN_UNDEF)
            continue;
        uint64_t size = sym.st_size ? sym.st_size : 1;
        struct data_symbol s = {sym.st_value, sym.st_value + size, string_at(strings, sym.st_name)};
        if (!s.name || !*s.name || s.high < s.low)
            continue;
        int rc = add_symbol(d, &s);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_table(struct data_symbols *d, uint32_t type)
{
    Elf_Scn *scn = NULL;
    int rc = 0;
    while (!rc && (scn = elf_nextscn(d->file->elf, scn))) {
        GElf_Shdr sh;
        if (gelf_getshdr(scn, &sh) && sh.sh_type == type)
            rc = add_section(d, scn, &sh);
    }
    return rc;
}

// By address, of equal ones the best first.
static int compare(const void *a, const void *b)
{
    const struct data_symbol *x = a, *y = b;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    if (x->high != y->high)
        return x->high > y->high ? -1 : 1;
    size_t nx = strlen(x->name), ny = strlen(y->name);
    return nx != ny ? (nx < ny ? -1 : 1) : strcmp(x->name, y->name);
}

int data_symbols_open(struct data_symbols **out, int fd, const char *name, struct fscope_error *err)
{
    *out = NULL;
    struct data_symbols *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", name);
    int rc = elf_file_open_fd(&d->file, fd, name, err);
    if (!rc)
        rc = read_table(d, SHT_SYMTAB);
    if (!rc && d->count == 0) // stripped
        rc = read_table(d, SHT_DYNSYM);
    if (rc) {
        data_symbols_close(d);
        return rc;
    }
    if (d->count)
        qsort(d->symbols, d->count, sizeof *d->symbols, compare);
    *out = d;
    return 0;
}

void data_symbols_close(struct data_symbols *d)
{
    if (!d)
        return;
    elf_file_close(d->file);
    free(d->symbols);
    free(d);
}

int data_symbols_bias(const struct data_symbols *d, uint64_t start, uint64_t offset, uint64_t *bias)
{
    const uint64_t page = 4096;
    for (int pass = 0; pass < 2; pass++) // code first
        for (uint32_t i = 0; i < d->file->load_count; i++) {
            const struct elf_load *l = &d->file->loads[i];
            uint64_t slack =
                l->offset % page; // mapped from the page on in which the segment begins
            if (l->is_executable != (pass == 0) || offset < l->offset - slack ||
                offset - (l->offset - slack) >= l->file_bytes + slack)
                continue;
            *bias = start - (offset - l->offset + l->address);
            return 0;
        }
    return -ENOENT;
}

bool data_symbols_cover(const struct data_symbols *d, uint64_t address)
{
    for (uint32_t i = 0; i < d->file->load_count; i++) {
        const struct elf_load *l = &d->file->loads[i];
        if (address >= l->address && address - l->address < l->size_bytes)
            return true;
    }
    return false;
}

int data_symbols_find(const struct data_symbols *d, uint64_t address, const char **name,
                      uint64_t *into)
{
    size_t low = 0, high = d->count;
    while (low < high) { // the first that begins beyond the address
        size_t middle = low + (high - low) / 2;
        if (d->symbols[middle].low <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const struct data_symbol *best = NULL;
    for (size_t i = low; i > 0 && low - i < NESTED_MAX; i--) {
        const struct data_symbol *s = &d->symbols[i - 1];
        if (best && s->low != best->low)
            break;
        if (address < s->high)
            best = s; // the first of this address is the best of it
    }
    if (!best)
        return -ENOENT;
    *name = best->name;
    *into = address - best->low;
    return 0;
}

int data_symbols_address(const struct data_symbols *d, const char *name, uint64_t *address)
{
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(d->symbols[i].name, name) == 0) {
            *address = d->symbols[i].low;
            return 0;
        }
    return -ENOENT;
}

static bool look_in_section(const struct elf_file *f, Elf_Scn *scn, const GElf_Shdr *sh,
                            const char *name, uint64_t *address)
{
    GElf_Shdr link_header;
    Elf_Scn *link = elf_getscn(f->elf, sh->sh_link);
    if (!link || !gelf_getshdr(link, &link_header) || link_header.sh_type != SHT_STRTAB)
        return false;
    Elf_Data *data = elf_getdata(scn, NULL), *strings = elf_getdata(link, NULL);
    size_t length = strlen(name) + 1;
    if (!data || !data->d_buf || !strings || !strings->d_buf)
        return false;
    for (size_t i = 1; i < data->d_size / sizeof(Elf64_Sym); i++) {
        GElf_Sym sym;
        if (!gelf_getsym(data, (int)i, &sym) || GELF_ST_TYPE(sym.st_info) != STT_OBJECT ||
            sym.st_shndx == SHN_UNDEF || sym.st_name >= strings->d_size ||
            strings->d_size - sym.st_name < length ||
            memcmp((const char *)strings->d_buf + sym.st_name, name, length) != 0)
            continue;
        *address = sym.st_value;
        return true;
    }
    return false;
}

int data_symbols_look_up(int fd, const char *file, const char *name, uint64_t *address)
{
    static const uint32_t types[] = {SHT_DYNSYM, SHT_SYMTAB};
    struct elf_file *f;
    int rc = elf_file_open_fd(&f, fd, file, NULL);
    if (rc)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; rc && i < sizeof types / sizeof *types; i++) {
        Elf_Scn *scn = NULL;
        while (rc && (scn = elf_nextscn(f->elf, scn))) {
            GElf_Shdr sh;
            if (gelf_getshdr(scn, &sh) && sh.sh_type == types[i] &&
                look_in_section(f, scn, &sh, name, address))
                rc = 0;
        }
    }
    elf_file_close(f);
    return rc;
}
