// SPDX-License-Identifier: MIT
//
// Names for procedure linkage table stubs: "malloc@plt", as gdb and perf show them.
//
// A stub is recognised by what it does, not by its place: `jmp *slot(%rip)` where slot has a
// relocation, or `push $n` (lazy stubs of CET-enabled tables) where n is a relocation's number. So
// .plt, .plt.sec and .plt.got of any linker work alike.

#include "symbols/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STUB_BYTES = 16, GOT_STUB_BYTES = 8, NAME_MAX_BYTES = 8192 };

struct slots {
    struct plt_slots *by_address;
    const char **by_number; // .rela.plt's order
    size_t number_count;
};

static int compare_slots(const void *a, const void *b)
{
    const struct plt_slot *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

const char *plt_slots_find(const struct plt_slots *s, uint64_t address)
{
    struct plt_slot key = {.address = address};
    if (!s->count)
        return NULL;
    const struct plt_slot *found =
        bsearch(&key, s->slots, s->count, sizeof *s->slots, compare_slots);
    return found ? found->name : NULL;
}

static int add_slot(struct plt_slots *s, uint64_t address, const char *name)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 256;
        struct plt_slot *more = realloc(s->slots, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        s->slots = more;
        s->capacity = capacity;
    }
    s->slots[s->count++] = (struct plt_slot){.address = address, .name = name};
    return 0;
}

static const char *relocation_name(const struct elf_file *f, Elf_Data *symbols, size_t strings,
                                   const GElf_Rela *r)
{
    GElf_Sym sym;
    uint64_t index = GELF_R_SYM(r->r_info);
    if (index == 0 || index >= symbols->d_size / sizeof(Elf64_Sym))
        return NULL;
    if (!gelf_getsym(symbols, (int)index, &sym))
        return NULL;
    const char *name = elf_strptr(f->elf, strings, sym.st_name);
    return name && *name ? name : NULL;
}

static int add_relocations(struct slots *s, const struct elf_file *f, const char *section)
{
    GElf_Shdr sh, symbols_header;
    Elf_Scn *scn = elf_file_section(f, section, &sh);
    if (!scn || sh.sh_type != SHT_RELA)
        return 0;
    Elf_Scn *link = elf_getscn(f->elf, sh.sh_link);
    Elf_Data *data = elf_getdata(scn, NULL);
    Elf_Data *symbols = link ? elf_getdata(link, NULL) : NULL;
    if (!data || !data->d_buf || !symbols || !symbols->d_buf ||
        !gelf_getshdr(link, &symbols_header) || symbols_header.sh_type != SHT_DYNSYM)
        return 0;
    size_t n = data->d_size / sizeof(Elf64_Rela);
    bool is_plt = !strcmp(section, ".rela.plt");
    if (is_plt) {
        s->by_number = calloc(n + 1, sizeof *s->by_number);
        if (!s->by_number)
            return -ENOMEM;
        s->number_count = n;
    }
    for (size_t i = 0; i < n && i < INT32_MAX; i++) {
        GElf_Rela r;
        if (!gelf_getrela(data, (int)i, &r))
            break;
        uint64_t type = GELF_R_TYPE(r.r_info);
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT)
            continue;
        const char *name = relocation_name(f, symbols, symbols_header.sh_link, &r);
        if (!name)
            continue;
        if (is_plt)
            s->by_number[i] = name;
        int rc = add_slot(s->by_address, r.r_offset, name);
        if (rc)
            return rc;
    }
    return 0;
}

static uint32_t read32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const char *stub_name(const struct slots *s, const uint8_t *code, size_t size,
                             uint64_t address)
{
    size_t i = 0;
    if (size >= 4 && !memcmp(code, "\xf3\x0f\x1e\xfa", 4)) // endbr64
        i = 4;
    if (i < size && code[i] == 0xf2) // bnd
        i++;
    if (i + 6 <= size && code[i] == 0xff && code[i + 1] == 0x25) { // jmp *disp32(%rip)
        uint64_t disp = (uint64_t)(int64_t)(int32_t)read32(code + i + 2);
        return plt_slots_find(s->by_address, address + i + 6 + disp);
    }
    if (i + 5 <= size && code[i] == 0x68) { // push $imm32
        uint32_t number = read32(code + i + 1);
        return number < s->number_count ? s->by_number[number] : NULL;
    }
    return NULL;
}

static int add_stubs(struct symtab *t, const struct elf_file *f, const struct slots *s,
                     const char *section, struct arena *arena)
{
    GElf_Shdr sh;
    Elf_Data *d = elf_file_section_data(f, section, &sh);
    if (!d || sh.sh_addr == 0 || d->d_size > UINT64_MAX - sh.sh_addr)
        return 0;
    size_t step = sh.sh_entsize == GOT_STUB_BYTES ? GOT_STUB_BYTES : STUB_BYTES;
    for (size_t at = 0; at < d->d_size; at += step) {
        size_t room = d->d_size - at < step ? d->d_size - at : step;
        const char *name = stub_name(s, (const uint8_t *)d->d_buf + at, room, sh.sh_addr + at);
        size_t n = name ? strnlen(name, NAME_MAX_BYTES) : 0;
        if (!n || n == NAME_MAX_BYTES)
            continue;
        char *text = arena_alloc(arena, n + sizeof "@plt");
        if (!text)
            return -ENOMEM;
        memcpy(text, name, n);
        memcpy(text + n, "@plt", sizeof "@plt");
        struct symbol sym = {
            .low = sh.sh_addr + at, .high = sh.sh_addr + at + room, .name = text, .is_sized = true};
        int rc = symtab_add(t, &sym);
        if (rc)
            return rc;
    }
    return 0;
}

int symtab_add_plt(struct symtab *t, const struct elf_file *f, struct plt_slots *slots,
                   struct arena *arena)
{
    struct slots s = {.by_address = slots};
    int rc = add_relocations(&s, f, ".rela.plt");
    if (!rc)
        rc = add_relocations(&s, f, ".rela.dyn");
    if (!rc && slots->count) {
        qsort(slots->slots, slots->count, sizeof *slots->slots, compare_slots);
        static const char *const sections[] = {".plt", ".plt.sec", ".plt.got"};
        for (size_t i = 0; i < 3 && !rc; i++)
            rc = add_stubs(t, f, &s, sections[i], arena);
    }
    free(s.by_number);
    return rc;
}
