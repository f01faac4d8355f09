// SPDX-License-Identifier: MIT

#include "unwind/modules.h"

#include "unwind/reader.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>

#pragma weak _dl_find_object

enum { MODULES_MAX = 1024 };

struct module {
    uint64_t start, end, header;
};

// Two lists: readers use the one that `current` names while unwind_init fills the other.
struct module_list {
    uint32_t count;
    struct module modules[MODULES_MAX];
};

static struct module_list lists[2];
static _Atomic(struct module_list *) current;

static int list_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct module_list *list = arg;
    struct module m = {UINT64_MAX, 0, 0};
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uint64_t at = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_GNU_EH_FRAME)
            m.header = at;
        if (ph->p_type != PT_LOAD)
            continue;
        m.start = at < m.start ? at : m.start;
        m.end = at + ph->p_memsz > m.end ? at + ph->p_memsz : m.end;
    }
    if (m.header && list->count < MODULES_MAX)
        list->modules[list->count++] = m;
    return 0;
}

int unwind_modules_init(void)
{
    if (_dl_find_object)
        return 0;
    // acquire and release: pair with the walkers' load in find_listed
    struct module_list *old = atomic_load_explicit(&current, memory_order_acquire);
    struct module_list *fresh = old == &lists[0] ? &lists[1] : &lists[0];
    fresh->count = 0;
    dl_iterate_phdr(list_module, fresh);
    atomic_store_explicit(&current, fresh, memory_order_release);
    return 0;
}

static bool find_listed(uint64_t pc, struct module *out)
{
    // acquire: pairs with the release in unwind_modules_init
    const struct module_list *list = atomic_load_explicit(&current, memory_order_acquire);
    for (uint32_t i = 0; list && i < list->count; i++)
        if (pc >= list->modules[i].start && pc < list->modules[i].end) {
            *out = list->modules[i];
            return true;
        }
    return false;
}

int unwind_modules_find(uint64_t pc, struct unwind_tables *t)
{
    struct module m;
    if (_dl_find_object) {
        struct dl_find_object found;
        if (_dl_find_object((void *)(uintptr_t)pc, &found) || !found.dlfo_eh_frame)
            return UNWIND_NOT_COVERED;
        m.start = (uintptr_t)found.dlfo_map_start;
        m.end = (uintptr_t)found.dlfo_map_end;
        m.header = (uintptr_t)found.dlfo_eh_frame;
    } else if (!find_listed(pc, &m)) {
        return UNWIND_NOT_COVERED;
    }
    if (m.header < m.start || m.header >= m.end)
        return UNWIND_NOT_COVERED;
    // The header's section is mapped; where it ends is not said, so it is bounded by the module.
    t->eh_frame_hdr =
        (struct unwind_section){(const uint8_t *)(uintptr_t)m.header, m.end - m.header, m.header};
    struct unwind_reader r = unwind_reader_at(&t->eh_frame_hdr, 1);
    uint8_t encoding = (uint8_t)unwind_read_fixed(&r, 1);
    r.at += 2;
    uint64_t frame = unwind_read_pointer(&r, encoding, m.header);
    if (r.bad || frame < m.start || frame >= m.end)
        return UNWIND_NOT_COVERED;
    t->eh_frame = (struct unwind_section){(const uint8_t *)(uintptr_t)frame, m.end - frame, frame};
    return 0;
}
