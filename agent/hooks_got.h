// SPDX-License-Identifier: MIT
//
// The GOT back end of the interposer: for a library that came by dlopen, when every slot was bound to
// somebody else already; and, by `got=1`, beside the symbol back end for what that does not reach.
//
// What always holds
//   - A slot is overwritten only where it holds the function behind the hook, or is not bound yet and would
//     be bound to it. A library with an allocator of its own (RTLD_DEEPBIND, dlmopen) keeps all of it:
//     half a family hooked would hand one allocator's memory to another.
//   - Our own modules and the dynamic linker are never touched.
//   - Pages that were read-only are so again afterwards. One writer at a time, and nobody waits for it.
//
// Not reached: addresses that the program took by dlsym or keeps in its own data, and libraries loaded
// later until the next dlsym or pthread_create of anybody, or until a recorded stack passes through them.

#ifndef FIBERSCOPE_AGENT_HOOKS_GOT_H
#define FIBERSCOPE_AGENT_HOOKS_GOT_H

#include "agent/hooks.h"

extern _Atomic bool hooks_got_on;
// Nobody's calls are bound to ours by the dynamic linker. Set by hooks_resolve.
extern bool hooks_came_late;

// Whether the dynamic linker binds the program's names to somebody else.
bool hooks_got_is_late(void);
// What a program's name is bound to where we came late; NULL: nothing.
void *hooks_got_behind(const char *name);

// Overwrites the slots of all modules, and of those that come, from now on. [normal context]
void hooks_got_begin(void);
// Gives the slots back what was in them, in all modules that are still loaded. False: another thread was at it all the
// time; nothing has changed. [normal context]
bool hooks_got_end(void);
// After modules may have come: patches them. [normal context]
void hooks_got_look(void);
// The modules of these pcs, which are on the caller's stack. Takes no lock. [normal context]
void hooks_got_cover(const uint64_t *pcs, uint32_t depth);
// Modules go: what was known of addresses holds no more.
void hooks_got_forget(void);
void hooks_got_fork_child(void);

#endif
