// SPDX-License-Identifier: MIT
//
// See backtrace.h.

#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/descriptor.h"
#include "runtime/os/os.h"

#include "unwind/arch/x86_64.h"
#include "unwind/modules.h"
#include "unwind/step.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#pragma weak _dl_find_object

extern const char fib_root_end_[] __attribute__((visibility("hidden")));

static uintptr_t text_low, text_high; // the runtime's, where it is a library of its own

struct memory {
    uint64_t low, high;    // vouched for
    uint64_t probed, page; // the last page asked for, and whether it could be read
};

__attribute__((no_sanitize("address", "thread"))) static int load(void *arg, uint64_t address,
                                                                  uint64_t *value)
{
    struct memory *w = arg;
    if (address % 8)
        return -1;
    if (w->high) {
        if (address < w->low || address > w->high - 8)
            return -1;
    } else if (w->probed != (address & ~(uint64_t)(OS_PAGE - 1))) {
        if (!arch_is_readable(address & ~(uint64_t)(OS_PAGE - 1)))
            return -1;
        w->probed = address & ~(uint64_t)(OS_PAGE - 1);
    }
    *value = *(const volatile uint64_t *)(uintptr_t)address;
    return 0;
}

static int row(void *arg, uint64_t pc, struct unwind_row *out)
{
    (void)arg;
    struct unwind_tables tables;
    int rc = unwind_modules_find(pc, &tables);
    return rc ? rc : unwind_find_row(&tables, pc, out);
}

static bool is_root(uint64_t pc)
{
    return pc > (uintptr_t)fib_root_ && pc <= (uintptr_t)fib_root_end_;
}

uint32_t backtrace_from(const struct unwind_registers *regs, bool is_exact, uint64_t low,
                        uint64_t high, uintptr_t *pcs, uint32_t max)
{
    struct memory memory = {.low = low, .high = high};
    struct unwind_remote remote = {.read = load, .row = row, .arg = &memory};
    struct unwind_registers r = *regs;
    enum unwind_end end;
    _Static_assert(sizeof *pcs == sizeof(uint64_t), "the walker fills it");
    uint32_t n = unwind_walk_from(&remote, &r, is_exact, (uint64_t *)pcs, 0, max, &end);
    if (n && is_exact)
        pcs[0]++;
    if (n && is_root(pcs[n - 1]))
        n--;
    return n;
}

// What arch_switch has left at sp: r15 r14 r13 r12 rbx rbp, return address.
__attribute__((no_sanitize("address", "thread"))) static void saved_registers(
    uint64_t sp, struct unwind_registers *r)
{
    const volatile uint64_t *at = (const volatile uint64_t *)(uintptr_t)sp;
    *r = (struct unwind_registers){.rip = at[6], .rbp = at[5], .rsp = sp + 7 * 8};
    r->other[3] = at[4];
    r->other[12] = at[3];
    r->other[13] = at[2];
    r->other[14] = at[1];
    r->other[15] = at[0];
    r->valid = 1u << 3 | 0xfu << 12;
}

// Whether an M still runs on its stack: it is said to wait before its registers are saved.
FIB_LOOKS static bool is_leaving(const struct g *g)
{
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link) {
        if (*(struct g *const volatile *)&m->cur == g)
            return true;
        atomic_thread_fence(memory_order_acquire);
        // The next one is current, and the registers are being saved, until the transition ends.
        if (*(struct g *const volatile *)&m->prev == g &&
            (atomic_load_explicit(&m->seq, memory_order_acquire) & 1))
            return true;
    }
    return false;
}

// Reads what may change meanwhile, and says afterwards whether it did.
FIB_LOOKS int backtrace_parked(struct g *g, uint64_t id, uintptr_t *pcs, uint32_t max)
{
    if (atomic_load_explicit(&g->id, memory_order_acquire) != id)
        return -ESRCH;
    struct live *l = g_live(g);
    uint8_t status = atomic_load_explicit(&g->status, memory_order_acquire);
    if (!l)
        return status == G_RUNNABLE ? 0 : -EBUSY;
    if (status == G_PREEMPTED) {
        struct m *m = l->bound_m;
        const void *context = m ? m->context : NULL;
        int n = context ? (int)backtrace_context(m, context, pcs, max) : -EBUSY;
        return atomic_load_explicit(&g->status, memory_order_acquire) == G_PREEMPTED ? n : -EBUSY;
    }
    // Before all that is looked at: who runs again meanwhile is switched to.
    uint64_t switches = *(volatile uint64_t *)&l->switches;
    atomic_thread_fence(memory_order_acquire);
    if ((status != G_WAITING && status != G_RUNNABLE) || is_leaving(g))
        return -EBUSY;
    uint64_t sp = *(volatile uint64_t *)&l->sp;
    uint64_t low = l->low + OS_PAGE, high = l->high;
    if (g->flags & G_IS_THREAD || sp < low || sp > high - 7 * 8 || high - low > (uint64_t)1 << 30)
        return -EBUSY;
    struct unwind_registers r;
    saved_registers(sp, &r);
    uint32_t n = backtrace_from(&r, false, low, high, pcs, max);
    atomic_thread_fence(memory_order_acquire); // what was read, before it is asked whether it held
    bool is_same = g_live(g) == l && l->g == g && *(volatile uint64_t *)&l->switches == switches &&
                   atomic_load_explicit(&g->id, memory_order_relaxed) == id;
    status = atomic_load_explicit(&g->status, memory_order_relaxed);
    return is_same && (status == G_WAITING || status == G_RUNNABLE) ? (int)n : -EBUSY;
}

FIB_LOOKS uint32_t backtrace_context(const struct m *m, const void *context, uintptr_t *pcs,
                                     uint32_t max)
{
    struct unwind_registers r;
    unwind_registers_from_context(&r, context);
    uint64_t low = 0, high = 0;
    // Each is read once: the fiber may go on and end meanwhile.
    const struct g *g = m ? *(struct g *const volatile *)&m->cur : NULL;
    const struct live *live = g && g != &m->g0 ? g_live(g) : NULL;
    if (live) {
        low = live->low + OS_PAGE;
        high = live->high;
        // A frame that has run over the guard is left by what its registers say of its caller.
        if (r.rsp >= high || r.rsp + ((uint64_t)64 << 20) < low)
            low = high = 0;
    }
    return backtrace_from(&r, true, low, high, pcs, max);
}

uint32_t backtrace_skip(const uintptr_t *pcs, uint32_t depth)
{
    uint32_t n = 0;
    while (n < depth && pcs[n] > text_low && pcs[n] <= text_high)
        n++;
    return n && n < depth ? n - 1 : 0;
}

void backtrace_init(void)
{
    unwind_init();
    struct dl_find_object found;
    // In a static program all text is one.
    if (_dl_find_object && !_dl_find_object((void *)(uintptr_t)arch_switch, &found) &&
        found.dlfo_link_map->l_name[0]) {
        text_low = (uintptr_t)found.dlfo_map_start;
        text_high = (uintptr_t)found.dlfo_map_end;
        fib_descriptor.text = text_low;
        fib_descriptor.text_end = text_high;
    }
}
