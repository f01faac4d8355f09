// SPDX-License-Identifier: MIT
//
// Functions' names for a stack, in the process that has it: for a failing test, where nothing may be
// allocated. Which file an address is of, the dynamic linker knows; what lies there, the file's symbol table:
// .symtab, else .dynsym. The function is the one whose bytes hold the address, else none.
//
// A file is a stranger's: each table is checked to lie in it, every index against its table.

#include "agent/forbid.h"

#include "agent/arch/x86_64.h"
#include "agent/say.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

// A file's symbols, mapped; zeroed: none. One at a time: neighbouring frames are often of one file.
struct symbols {
    const struct link_map *map; // whose
    const char *data;
    uint64_t size;
    const Elf64_Sym *table;
    uint64_t count;
    const char *strings;
    uint64_t strings_bytes;
};

static bool fits(const struct symbols *f, uint64_t offset, uint64_t size)
{
    return offset <= f->size && size <= f->size - offset;
}

static const Elf64_Shdr *section_of_type(const struct symbols *f, uint32_t type)
{
    const Elf64_Ehdr *e = (const void *)f->data;
    const Elf64_Shdr *sections = (const void *)(f->data + e->e_shoff);
    for (uint32_t i = 0; i < e->e_shnum; i++)
        if (sections[i].sh_type == type)
            return &sections[i];
    return NULL;
}

static void find_table(struct symbols *f)
{
    const Elf64_Ehdr *e = (const void *)f->data;
    if (f->size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) ||
        e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_shentsize != sizeof(Elf64_Shdr) ||
        e->e_shoff % 8 || !fits(f, e->e_shoff, (uint64_t)e->e_shnum * sizeof(Elf64_Shdr)))
        return;
    const Elf64_Shdr *s = section_of_type(f, SHT_SYMTAB);
    if (!s)
        s = section_of_type(f, SHT_DYNSYM);
    if (!s || s->sh_link >= e->e_shnum || s->sh_offset % 8 || !fits(f, s->sh_offset, s->sh_size))
        return;
    const Elf64_Shdr *names = (const Elf64_Shdr *)(const void *)(f->data + e->e_shoff) + s->sh_link;
    if (!fits(f, names->sh_offset, names->sh_size))
        return;
    f->table = (const void *)(f->data + s->sh_offset);
    f->count = s->sh_size / sizeof *f->table;
    f->strings = f->data + names->sh_offset;
    f->strings_bytes = names->sh_size;
}

static void close_file(struct symbols *f)
{
    if (f->data)
        sys2(SYS_munmap, f->data, f->size);
    *f = (struct symbols){0};
}

static void open_file(struct symbols *f, const struct link_map *map)
{
    close_file(f);
    f->map = map;
    const char *path = map->l_name[0] ? map->l_name : "/proc/self/exe";
    long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    long size = sys3(SYS_lseek, fd, 0, SEEK_END);
    long at =
        size > 0 ? sys6(SYS_mmap, 0, (uint64_t)size, PROT_READ, MAP_PRIVATE, (uint64_t)fd, 0) : -1;
    sys1(SYS_close, fd);
    if (at < 0 && at > -4096)
        return;
    f->data = (const char *)at;
    f->size = (uint64_t)size;
    find_table(f);
}

// The function that holds address, as the file counts; NULL: none. An alias with a plainer name
// (fewer leading underscores) wins.
static const char *function_at(const struct symbols *f, uint64_t address, uint64_t *offset)
{
    const char *best = NULL;
    uint64_t best_score = 0;
    for (uint64_t i = 0; i < f->count; i++) {
        const Elf64_Sym *y = &f->table[i];
        uint32_t type = ELF64_ST_TYPE(y->st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || y->st_shndx == SHN_UNDEF ||
            address < y->st_value || address - y->st_value >= y->st_size ||
            y->st_name >= f->strings_bytes)
            continue;
        const char *name = f->strings + y->st_name;
        uint64_t room = f->strings_bytes - y->st_name;
        if (!*name || !memchr(name, '\0', room))
            continue;
        // Nearest start first, global before local.
        uint64_t score = y->st_value * 8 + (ELF64_ST_BIND(y->st_info) != STB_LOCAL ? 4 : 0) +
                         (name[0] != '_' ? 2 : name[1] != '_');
        if (!best || score > best_score) {
            best = name;
            best_score = score;
            *offset = address - y->st_value;
        }
    }
    return best;
}

static void put_file(struct say *line, const struct link_map *map)
{
    char path[4096];
    const char *name = map->l_name;
    if (!name[0]) {
        long n = sys3(SYS_readlink, "/proc/self/exe", path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        name = path;
    }
    const char *slash = strrchr(name, '/');
    say_text(line, slash ? slash + 1 : name);
}

static void put_frame(struct say *line, struct symbols *f, uint64_t pc)
{
    struct dl_find_object found;
    uint64_t offset = 0;
    if (_dl_find_object((void *)pc, &found) || !found.dlfo_link_map) {
        say_text(say_hex(line, pc), " (of no file)");
        return;
    }
    const struct link_map *map = found.dlfo_link_map;
    if (f->map != map)
        open_file(f, map);
    const char *name = function_at(f, pc - map->l_addr, &offset);
    say_text(line, name ? name : "?");
    if (name)
        say_hex(say_text(line, "+"), offset);
    put_file(say_text(line, " ("), map);
    say_text(say_hex(say_text(line, "+"), pc - map->l_addr), ")");
}

void names_print(int fd, const uint64_t *pcs, uint32_t depth)
{
    struct symbols file = {0};
    for (uint32_t i = 0; i < depth; i++) {
        struct say line;
        line.n = 0;
        say_text(say_number(say_text(&line, "#"), i), " ");
        put_frame(&line, &file, i ? pcs[i] - 1 : pcs[i]);
        say_end_to(&line, fd);
    }
    close_file(&file);
}
