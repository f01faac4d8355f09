// SPDX-License-Identifier: MIT
//
// What is interposed, as one table, and the two ways in which it takes effect.
//
//   symbol  we are preloaded or linked: the dynamic linker binds the name to ours, because the name
//           is in agent.map. dlsym(RTLD_NEXT) finds the function behind it.
//   GOT     we came later (injection): the slots of all loaded modules that hold the function's address
//           are overwritten (hooks_got.c). The function behind it is what the slots held.
//
// What always holds
//   - A hook that has nothing to do calls the function behind it and touches nothing else; so a program
//     that is not recorded pays an indirect call.
//   - `*real` is set for all hooks before any of them does more than that; hooks_ready says so. Before,
//     the malloc family serves from a small static pool (heap_boot.c), because dlsym may allocate.
//   - A name that no loaded library has leaves *real NULL; nothing can call such a hook but a later
//     dlopen's library, and hooks_resolve is run again then.
//   - Hooks keep errno as the function behind them left it.
//
// The entries of the families stand beside their functions: heap_hooks, lock_hooks, process_hooks.

#ifndef FIBERSCOPE_AGENT_HOOKS_H
#define FIBERSCOPE_AGENT_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef void hook_fn(void); // any function; cast back before the call

struct hook {
    const char *name; // of the symbol
    hook_fn *ours;    // NULL: not interposed, only called by hooks
    hook_fn **real;   // where the function behind it is kept
};

#define HOOK(symbol, slot)                                                                         \
    {                                                                                              \
#symbol, (hook_fn *)(symbol), (hook_fn **)(void *)&(slot)                                  \
    }

struct hook_table {
    const struct hook *hooks;
    uint32_t count;
};

// Not interposed, only called.
#define BEHIND(symbol, slot)                                                                       \
    {                                                                                              \
#symbol, NULL, (hook_fn **)(void *)&(slot)                                                 \
    }

extern const struct hook_table process_hooks; // real.c: threads, signals, exec, dlclose
extern const struct hook_table heap_hooks;    // heap_hooks.c: the malloc family
extern const struct hook_table lock_hooks;    // lock_hooks.c: pthread waits
extern const struct hook_table
    order_hooks;                         // order_hooks.c: what takes or ends a lock without a wait
extern const struct hook_table io_hooks; // io_hooks.c: waits in the kernel
extern const struct hook_table jump_hooks; // jump_hooks.c: longjmp
extern const struct hook_table wait_hooks; // wait_hooks.c: the same for processes, files, System V
// All of them, in the order in which they are resolved; NULL ends it.
extern const struct hook_table *const hooks_tables[];

extern _Atomic uint32_t hooks_are_ready;

static inline bool hooks_ready(void)
{
    // acquire: pairs with the release in hooks_resolve
    return atomic_load_explicit(&hooks_are_ready, memory_order_acquire);
}

// Finds the functions behind all hooks by dlsym(RTLD_NEXT); those that are known stay. Reentered by
// dlsym's own allocations it returns at once. [normal context; any thread]
void hooks_resolve(void);

// Those of locks and system calls alone, for a lock taken before the rest is known. It may be an allocator's own, as
// it begins: then nothing may allocate, as dlsym does where it does not find a name.
void hooks_resolve_locks(void);

#endif
