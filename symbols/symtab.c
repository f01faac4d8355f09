// SPDX-License-Identifier: MIT
//
// ELF symbol tables as one sorted table of functions without overlap of equal starts.
//
// Of several symbols at one address the one shown is chosen as perf does: sized before unsized,
// strong before weak, global before local, fewer leading underscores, then the longer name. A
// symbol without a size (hand-written assembly) reaches to the next symbol; one with a size names
// nothing beyond its end, so that a stripped file's gaps are not given to a neighbour.

#include "symbols/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_GLOBAL = 1, RANK_STRONG = 2, RANK_SIZED = 4, SYMBOLS_MAX = 1 << 26 };
enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

int symtab_add(struct symtab *t, const struct symbol *s)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 1024;
        struct symbol *more = realloc(t->symbols, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        t->symbols = more;
        t->capacity = capacity;
    }
    t->symbols[t->count++] = *s;
    return 0;
}

static bool is_code_symbol(const struct elf_file *f, const GElf_Sym *sym)
{
    int type = GELF_ST_TYPE(sym->st_info);
    if (sym->st_shndx == SHN_UNDEF || sym->st_value == 0)
        return false;
    if (type == STT_FUNC || type == STT_GNU_IFUNC)
        return true;
    if (type != STT_NOTYPE)
        return false;
    // Assembly labels: only where code is.
    for (uint32_t i = 0; i < f->load_count; i++) {
        const struct elf_load *l = &f->loads[i];
        if (l->is_executable && sym->st_value >= l->address &&
            sym->st_value - l->address < l->size_bytes)
            return true;
    }
    return false;
}

// The string at offset if it ends inside of its section; elf_strptr would search the section by
// number each time.
static const char *string_at(const Elf_Data *strings, uint32_t offset)
{
    if (offset >= strings->d_size)
        return NULL;
    const char *s = (const char *)strings->d_buf + offset;
    return memchr(s, '\0', strings->d_size - offset) ? s : NULL;
}

static int add_section(struct symtab *t, const struct elf_file *f, Elf_Scn *scn,
                       const GElf_Shdr *sh)
{
    Elf_Scn *link = elf_getscn(f->elf, sh->sh_link);
    GElf_Shdr link_header;
    if (!link || !gelf_getshdr(link, &link_header) || link_header.sh_type != SHT_STRTAB)
        return 0;
    Elf_Data *data = elf_getdata(scn, NULL);
    Elf_Data *strings = elf_getdata(link, NULL);
    if (!data || !data->d_buf || !strings || !strings->d_buf)
        return 0;
    size_t n = data->d_size / sizeof(Elf64_Sym);
    if (n > SYMBOLS_MAX)
        n = SYMBOLS_MAX;
    int added = 0;
    for (size_t i = 1; i < n; i++) {
        GElf_Sym sym;
        if (!gelf_getsym(data, (int)i, &sym) || !is_code_symbol(f, &sym))
            continue;
        const char *name = string_at(strings, sym.st_name);
        if (!name || !*name || sym.st_size > UINT64_MAX - sym.st_value)
            continue;
        int bind = GELF_ST_BIND(sym.st_info);
        struct symbol s = {
            .low = sym.st_value,
            .high = sym.st_value + sym.st_size,
            .name = name,
            .is_sized = sym.st_size != 0,
            .rank =
                (uint8_t)((sym.st_size ? RANK_SIZED : 0) | (bind != STB_WEAK ? RANK_STRONG : 0) |
                          (bind != STB_LOCAL ? RANK_GLOBAL : 0)),
        };
        int rc = symtab_add(t, &s);
        if (rc)
            return rc;
        added++;
    }
    return added;
}

int symtab_add_elf(struct symtab *t, const struct elf_file *f, uint32_t section_type)
{
    int added = 0;
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->elf, scn))) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh) || sh.sh_type != section_type)
            continue;
        int rc = add_section(t, f, scn, &sh);
        if (rc < 0)
            return rc;
        added += rc;
    }
    return added;
}

static size_t underscores(const char *s)
{
    return strspn(s, "_");
}

// Of two at one address the better is the greater.
static int compare_aliases(const struct symbol *x, const struct symbol *y)
{
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    size_t nx = underscores(x->name), ny = underscores(y->name);
    if (nx != ny)
        return nx > ny ? -1 : 1;
    nx = strlen(x->name), ny = strlen(y->name);
    if (nx != ny)
        return nx < ny ? -1 : 1;
    return strcmp(x->name, y->name);
}

// One pass of a radix sort, by DIGIT_BITS of the address. false: all have the same, nothing was moved.
static bool sort_digit(const struct symbol *from, struct symbol *to, size_t n, int shift,
                       size_t *starts)
{
    memset(starts, 0, DIGITS * sizeof *starts);
    for (size_t i = 0; i < n; i++)
        starts[from[i].low >> shift & (DIGITS - 1)]++;
    if (starts[from[0].low >> shift & (DIGITS - 1)] == n)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < DIGITS; i++) {
        size_t count = starts[i];
        starts[i] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++)
        to[starts[from[i].low >> shift & (DIGITS - 1)]++] = from[i];
    return true;
}

static int compare_addresses(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->low < y->low ? -1 : x->low > y->low;
}

static void sort_by_address(struct symtab *t)
{
    struct symbol *other = malloc(t->count * sizeof *other);
    size_t *starts = malloc(DIGITS * sizeof *starts);
    if (other && starts) {
        for (int shift = 0; shift < 64; shift += DIGIT_BITS)
            if (sort_digit(t->symbols, other, t->count, shift, starts)) {
                struct symbol *swap = t->symbols;
                t->symbols = other;
                other = swap;
                t->capacity = t->count;
            }
    } else {
        qsort(t->symbols, t->count, sizeof *t->symbols, compare_addresses);
    }
    free(other);
    free(starts);
}

void symtab_sort(struct symtab *t)
{
    if (!t->count)
        return;
    sort_by_address(t);
    size_t kept = 0;
    for (size_t i = 1; i < t->count; i++) {
        struct symbol *best = &t->symbols[kept];
        if (t->symbols[i].low != best->low)
            t->symbols[++kept] = t->symbols[i];
        else if (compare_aliases(best, &t->symbols[i]) < 0)
            *best = t->symbols[i];
    }
    t->count = ++kept;
    for (size_t i = 0; i < kept; i++)
        if (!t->symbols[i].is_sized)
            t->symbols[i].high = i + 1 < kept ? t->symbols[i + 1].low : t->symbols[i].low + 4096;
}

const struct symbol *symtab_find(const struct symtab *t, uint64_t address)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->symbols[middle].low <= address)
            low = middle + 1;
        else
            high = middle;
    }
    // A label inside of a function (its .size ends after it) must not hide the function's tail.
    for (int tries = 0; low-- > 0 && tries < 16; tries++)
        if (address < t->symbols[low].high)
            return &t->symbols[low];
    return NULL;
}

void symtab_finish(struct symtab *t)
{
    free(t->symbols);
    *t = (struct symtab){0};
}
