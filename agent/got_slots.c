// SPDX-License-Identifier: MIT
//
// See got_slots.h.

#include "agent/got_slots.h"

#include "agent/arch/x86_64.h"

#include <stddef.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 16384, SLOTS_PER_PAGE = (PAGE_BYTES - 16) / sizeof(struct got_slot) };

struct page {
    struct page *before;
    uint64_t count;
    struct got_slot slots[SLOTS_PER_PAGE];
};
_Static_assert(sizeof(struct page) <= PAGE_BYTES, "one piece");

static struct page *newest, *spare;

static struct page *take_page(void)
{
    struct page *p = spare;
    if (p) {
        spare = p->before;
    } else {
        long at = sys6(SYS_mmap, 0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       (uint64_t)-1, 0);
        if (at < 0 && at > -4096)
            return NULL;
        p = (struct page *)at;
    }
    p->count = 0;
    p->before = newest;
    newest = p;
    return p;
}

bool got_slots_remember(uint64_t at, uint64_t held, uint64_t ours)
{
    struct page *p = newest;
    if ((!p || p->count == SLOTS_PER_PAGE) && !(p = take_page()))
        return false;
    p->slots[p->count++] = (struct got_slot){at, held, ours};
    return true;
}

void got_slots_each(uint64_t start, uint64_t end, void (*fn)(void *arg, const struct got_slot *s),
                    void *arg)
{
    for (struct page *p = newest; p; p = p->before)
        for (uint64_t i = p->count; i-- > 0;)
            if (p->slots[i].at >= start && p->slots[i].at < end)
                fn(arg, &p->slots[i]);
}

void got_slots_forget(void)
{
    while (newest) {
        struct page *p = newest;
        newest = p->before;
        p->before = spare;
        spare = p;
    }
}
