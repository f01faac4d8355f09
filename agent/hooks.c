// SPDX-License-Identifier: MIT
//
// The symbol back end: finding the functions behind the interposed ones. In the constructor, or
// earlier when ld.so or another library's constructor calls one of them. Never from a signal handler.
// Where we came late RTLD_NEXT would ask our own dependencies alone: hooks_got_behind knows better.

#include "agent/hooks.h"

#include "agent/capture.h"
#include "agent/heap_table.h"
#include "agent/hooks_got.h"

#include <dlfcn.h>
#include <string.h>

_Atomic uint32_t hooks_are_ready;

// Locks first: libc has all of them, so dlsym allocates nothing yet. Where a name is missing it does,
// and an allocator that is not libc's may then begin with making its mutexes.
const struct hook_table *const hooks_tables[] = {
    &lock_hooks, &order_hooks,    &io_hooks,        &wait_hooks,    &jump_hooks,
    &heap_hooks, &heap_new_hooks, &heap_mmap_hooks, &process_hooks, NULL};

static void resolve(const struct hook_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct hook *h = &table->hooks[i];
        if (*h->real)
            continue;
        // A data pointer into a function pointer: ISO C has no cast for it, POSIX promises it works.
        // Two threads may both resolve: they write the same.
        void *address = hooks_came_late ? hooks_got_behind(h->name) : dlsym(RTLD_NEXT, h->name);
        memcpy(h->real, &address, sizeof address);
    }
}

void hooks_resolve_locks(void)
{
    resolve(&lock_hooks);
    resolve(&order_hooks);
    resolve(&io_hooks);
    resolve(&wait_hooks);
    resolve(&jump_hooks);
}

void hooks_resolve(void)
{
    if (agent_tls.resolving)
        return;
    agent_tls.resolving = 1;
    hooks_came_late = hooks_got_is_late();
    for (const struct hook_table *const *t = hooks_tables; *t; t++)
        resolve(*t);
    heap_resolved();
    dlerror(); // what is missing is no error that the program should find
    // release: pairs with the acquire in hooks_ready
    atomic_store_explicit(&hooks_are_ready, 1, memory_order_release);
    agent_tls.resolving = 0;
}
