// SPDX-License-Identifier: MIT
//
// Programs whose allocator we cannot see: no numbers are better than wrong ones.
//
// The dynamic linker binds malloc to the first library that has it. If that is not ours, the program
// brings an allocator of its own, or another preload stands before us. An allocator that is linked
// into the program and hidden there shows in two ways: the program imports no malloc, though its own
// symbol table has one. (Stripped of that too, nothing tells it from a program that never allocates.)

#include "agent/heap.h"

#include "agent/arch/x86_64.h"
#include "agent/hooks_got.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

static char reason[256];

static const char *say(const char *before, const char *name, const char *after)
{
    size_t at = 0;
    for (const char *const *part = (const char *const[]){before, name, after, NULL}; *part; part++)
        for (const char *p = *part; *p && at < sizeof reason - 1; p++)
            reason[at++] = *p;
    reason[at] = '\0';
    return reason;
}

struct image {
    const char *data;
    uint64_t size;
};

static const Elf64_Shdr *section(const struct image *m, uint32_t i)
{
    const Elf64_Ehdr *e = (const void *)m->data;
    uint64_t at = e->e_shoff + (uint64_t)i * sizeof(Elf64_Shdr);
    if (i >= e->e_shnum || e->e_shoff > m->size || at + sizeof(Elf64_Shdr) > m->size)
        return NULL;
    const Elf64_Shdr *s = (const void *)(m->data + at);
    if (s->sh_type != SHT_NOBITS && (s->sh_offset > m->size || s->sh_size > m->size - s->sh_offset))
        return NULL;
    return s;
}

// Whether a symbol of this name and kind is in a table of the given type: defined or undefined.
static bool has_symbol(const struct image *m, uint32_t type, const char *name, bool is_defined)
{
    const Elf64_Ehdr *e = (const void *)m->data;
    size_t length = strlen(name) + 1;
    for (uint32_t i = 0; i < e->e_shnum; i++) {
        const Elf64_Shdr *s = section(m, i), *names;
        if (!s || s->sh_type != type || !(names = section(m, s->sh_link)))
            continue;
        const Elf64_Sym *symbols = (const void *)(m->data + s->sh_offset);
        for (uint64_t k = 0; k < s->sh_size / sizeof *symbols; k++) {
            const Elf64_Sym *y = &symbols[k];
            if ((y->st_shndx != SHN_UNDEF) == is_defined && y->st_name < names->sh_size &&
                names->sh_size - y->st_name >= length &&
                memcmp(m->data + names->sh_offset + y->st_name, name, length) == 0)
                return true;
        }
    }
    return false;
}

// What the program itself does for malloc. A program that takes malloc's address without being
// position-independent has a symbol of it that is none: dlsym finds it, calls go to us all the same.
static bool has_allocator(bool *is_exported)
{
    struct image m;
    bool has = false;
    *is_exported = false;
    long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    long size = sys3(SYS_lseek, fd, 0, 2 /* SEEK_END */);
    long at = size >= (long)sizeof(Elf64_Ehdr)
                  ? sys6(SYS_mmap, 0, (uint64_t)size, PROT_READ, MAP_PRIVATE, (uint64_t)fd, 0)
                  : -1;
    sys1(SYS_close, fd);
    if (at < 0 && at > -4096)
        return false;
    m = (struct image){(const char *)at, (uint64_t)size};
    if (memcmp(m.data, ELFMAG, SELFMAG) == 0) {
        *is_exported = has_symbol(&m, SHT_DYNSYM, "malloc", true);
        has = *is_exported || (!has_symbol(&m, SHT_DYNSYM, "malloc", false) &&
                               has_symbol(&m, SHT_SYMTAB, "malloc", true));
    }
    sys2(SYS_munmap, at, size);
    return has;
}

const char *heap_refusal(void)
{
    Dl_info theirs, ours;
    bool is_exported;
    if (has_allocator(&is_exported))
        return is_exported
                   ? "the program has an allocator linked into it, whose calls we cannot see"
                   : "the program has an allocator linked into it and hidden, whose calls we "
                     "cannot "
                     "see";
    if (hooks_came_late) // calls come by the slots
        return NULL;
    void *first = dlsym(RTLD_DEFAULT, "malloc");
    struct link_map *map = NULL;
    if (!first || !dladdr1(first, &theirs, (void **)(void *)&map, RTLD_DL_LINKMAP) ||
        !dladdr(&agent, &ours) || theirs.dli_fbase == ours.dli_fbase || !map || !map->l_name[0])
        return NULL;
    return say("malloc is that of ", theirs.dli_fname,
               ", which is loaded before us; put libfiberscope.so first in LD_PRELOAD");
}
