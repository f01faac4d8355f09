// SPDX-License-Identifier: MIT
//
// What a dlclose may unmap: the library and those that only it needs. All of them leave the module
// table before libc unmaps anything, because another thread may map something else there at once; one
// that stays mapped after all (someone else needs it too) returns with its next sample, at the cost of
// a new entry. What the program itself was linked with never goes, so it is left alone.
//
// In normal context only: dl_iterate_phdr takes the loader's lock, which dlclose takes as well.

#include "agent/agent.h"

#include <elf.h>
#include <link.h>
#include <string.h>

enum { OBJECTS_MAX = 256, STAYS = 1, GOES = 2, FOLLOWED = 4 };

struct object {
    uint64_t base;
    const ElfW(Dyn) * dynamic;
    const char *name;
    uint32_t marks;
};

struct objects {
    uint32_t count;
    bool is_whole;
    struct object list[OBJECTS_MAX];
};

static int collect(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct objects *all = arg;
    (void)size;
    if (all->count == OBJECTS_MAX) {
        all->is_whole = false;
        return 1;
    }
    struct object *o = &all->list[all->count++];
    *o = (struct object){.base = info->dlpi_addr, .name = info->dlpi_name};
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            o->dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return 0;
}

static const char *strings_of(const struct object *o)
{
    for (const ElfW(Dyn) *d = o->dynamic; d && d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_STRTAB) // relocated by ld.so, but for the vdso's
            return (const char *)(d->d_un.d_ptr < o->base ? d->d_un.d_ptr + o->base
                                                          : d->d_un.d_ptr);
    return NULL;
}

static bool is_called(const struct object *o, const char *needed)
{
    const char *slash = strrchr(o->name, '/'), *strings = strings_of(o);
    if (strcmp(o->name, needed) == 0 || (slash && strcmp(slash + 1, needed) == 0))
        return true;
    for (const ElfW(Dyn) *d = strings ? o->dynamic : NULL; d && d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_SONAME)
            return strcmp(strings + d->d_un.d_val, needed) == 0;
    return false;
}

static void mark_needed(struct objects *all, const struct object *o, uint32_t mark)
{
    const char *strings = strings_of(o);
    for (const ElfW(Dyn) *d = strings ? o->dynamic : NULL; d && d->d_tag != DT_NULL; d++)
        for (uint32_t i = 0; d->d_tag == DT_NEEDED && i < all->count; i++)
            if (!(all->list[i].marks & mark) && is_called(&all->list[i], strings + d->d_un.d_val))
                all->list[i].marks |= mark;
}

// Spreads a mark to all that is needed, directly or not.
static void spread(struct objects *all, uint32_t mark)
{
    bool is_done;
    do {
        is_done = true;
        for (uint32_t i = 0; i < all->count; i++) {
            struct object *o = &all->list[i];
            if ((o->marks & (mark | FOLLOWED)) != mark)
                continue;
            o->marks |= FOLLOWED;
            mark_needed(all, o, mark);
            is_done = false;
        }
    } while (!is_done);
    for (uint32_t i = 0; i < all->count; i++)
        all->list[i].marks &= ~(uint32_t)FOLLOWED;
}

struct unloading {
    uint64_t base;
    bool is_ours;
    struct objects all;
};

// Reads names out of the objects themselves, so it runs with the loader's lock held: another thread's
// dlclose cannot unmap one meanwhile. The lock is recursive.
static int decide(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct unloading *u = arg;
    struct objects *all = &u->all;
    (void)info;
    (void)size;
    dl_iterate_phdr(collect, all);
    for (uint32_t i = 0; i < all->count; i++) {
        // The program is the first. We stay as well, and what we need.
        all->list[i].marks = i == 0 || all->list[i].dynamic == _DYNAMIC ? STAYS : 0;
        if (all->list[i].base == u->base) {
            all->list[i].marks |= GOES;
            u->is_ours = true;
        }
    }
    spread(all, STAYS);
    spread(all, GOES);
    return 1; // once is enough
}

void unload_begin(uint64_t base)
{
    struct unloading u = {.base = base, .all.is_whole = true};
    dl_iterate_phdr(decide, &u);
    if (!u.is_ours || !u.all.is_whole) // of another namespace, or too many: what is sure
        modules_close(base);
    for (uint32_t i = 0; i < u.all.count; i++)
        if ((u.all.list[i].marks & (STAYS | GOES)) == GOES && u.all.list[i].base)
            modules_close(u.all.list[i].base);
}
