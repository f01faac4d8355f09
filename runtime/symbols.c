// SPDX-License-Identifier: MIT
//
// See symbols.h. The files are not trusted: each offset is held against the file's size.

#include "runtime/symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma weak _dl_find_object

enum { MODULES = 64, CACHE = 1024 };

static struct module {
    const struct link_map *map;
    uintptr_t start, bias;
    const uint8_t *file; // NULL: could not be had
    size_t size;
    const Elf64_Sym *symbols;
    uint64_t count;
    const char *names;
    uint64_t names_size;
} modules[MODULES];
static uint32_t next_module;

static struct cached {
    uintptr_t pc;
    const struct link_map *map;
    struct symbol found;
} cache[CACHE];

static const char *program_path(void)
{
    static char path[4096];
    if (!path[0]) {
        long n = syscall(SYS_readlink, "/proc/self/exe", path, sizeof path - 1);
        path[n > 0 ? n : 0] = 0;
    }
    return path[0] ? path : "?";
}

static bool is_inside(const struct module *m, uint64_t offset, uint64_t bytes)
{
    return offset <= m->size && bytes <= m->size - offset;
}

static void take_symbols(struct module *m, const Elf64_Shdr *sections, uint32_t count,
                         const Elf64_Shdr *s)
{
    if (s->sh_link >= count || s->sh_offset % 8 || !is_inside(m, s->sh_offset, s->sh_size))
        return;
    const Elf64_Shdr *strings = &sections[s->sh_link];
    if (!strings->sh_size || !is_inside(m, strings->sh_offset, strings->sh_size) ||
        m->file[strings->sh_offset + strings->sh_size - 1])
        return;
    m->symbols = (const Elf64_Sym *)(const void *)(m->file + s->sh_offset);
    m->count = s->sh_size / sizeof *m->symbols;
    m->names = (const char *)m->file + strings->sh_offset;
    m->names_size = strings->sh_size;
}

// .symtab, or else .dynsym.
static void find_tables(struct module *m)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)(const void *)m->file;
    if (m->size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) ||
        e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_shentsize != sizeof(Elf64_Shdr) ||
        e->e_shoff % 8 || !is_inside(m, e->e_shoff, (uint64_t)e->e_shnum * sizeof(Elf64_Shdr)))
        return;
    // The file may have been replaced since it was loaded: then its header is another one.
    if (memcmp(e, (const void *)m->start, sizeof *e))
        return;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(m->file + e->e_shoff);
    for (uint32_t i = 0; i < e->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB || (sections[i].sh_type == SHT_DYNSYM && !m->symbols))
            take_symbols(m, sections, e->e_shnum, &sections[i]);
    }
}

static void load(struct module *m, const struct dl_find_object *found)
{
    if (m->file)
        munmap((void *)(uintptr_t)m->file, m->size);
    memset(m, 0, sizeof *m);
    m->map = found->dlfo_link_map;
    m->start = (uintptr_t)found->dlfo_map_start;
    m->bias = m->map->l_addr;
    const char *path = m->map->l_name[0] ? m->map->l_name : "/proc/self/exe";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    struct stat st;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at != MAP_FAILED) {
            m->file = at;
            m->size = (size_t)st.st_size;
            find_tables(m);
        }
    }
    syscall(SYS_close, fd);
}

static struct module *module_of(const struct dl_find_object *found)
{
    for (uint32_t i = 0; i < MODULES; i++)
        if (modules[i].map == found->dlfo_link_map &&
            modules[i].start == (uintptr_t)found->dlfo_map_start)
            return &modules[i];
    struct module *m = &modules[next_module++ % MODULES];
    load(m, found);
    return m;
}

static void find_name(const struct module *m, struct symbol *out)
{
    uint64_t best = UINT64_MAX;
    for (uint64_t i = 0; i < m->count; i++) {
        const Elf64_Sym *s = &m->symbols[i];
        unsigned type = ELF64_ST_TYPE(s->st_info);
        if (s->st_value > out->address || !s->st_shndx || s->st_name >= m->names_size ||
            (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
            continue;
        uint64_t offset = out->address - s->st_value;
        // Of several names for one place, the one that others see.
        uint64_t rank = 2 * offset + (ELF64_ST_BIND(s->st_info) == STB_LOCAL);
        if (offset >= (s->st_size ? s->st_size : 1) || rank >= best || !m->names[s->st_name])
            continue;
        best = rank;
        out->name = m->names + s->st_name;
        out->offset = offset;
    }
}

void symbol_find(uintptr_t pc, struct symbol *out)
{
    struct dl_find_object found;
    *out = (struct symbol){.file = "?", .address = pc};
    if (!_dl_find_object || _dl_find_object((void *)pc, &found))
        return;
    struct cached *c = &cache[(pc * 0x9E3779B97F4A7C15ULL) >> 54];
    if (c->pc == pc && c->map == found.dlfo_link_map) {
        *out = c->found;
        return;
    }
    const struct module *m = module_of(&found);
    out->file = m->map->l_name[0] ? m->map->l_name : program_path();
    out->address = pc - m->bias;
    find_name(m, out);
    *c = (struct cached){pc, m->map, *out};
}
