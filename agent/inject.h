// SPDX-License-Identifier: MIT
//
// What an injector calls in the target (collector/inject.h), on a thread that it borrowed, with a stack of its own and
// all signals blocked. Found by name in the library's symbol table.
//
// What always holds
//   - INJECT_DETACH_BEGIN undoes what took effect: sources of samples, calls (call.h), slots of loaded modules (byte
//     for byte). SIGPROF is ignored before the slots go, which drops those that are pending; a collector that sends one at that very moment
//     does no harm. INJECT_DETACH_END, some time later, gives SIGPROF back to the program and its descriptor to the
//     kernel.
//   - What was recorded stays, in private memory: INJECT_ATTACH goes on from there, in a new file.
//   - A program that was started with the agent, or is linked with it, is not detached from.

#ifndef FIBERSCOPE_AGENT_INJECT_H
#define FIBERSCOPE_AGENT_INJECT_H

#include <stdint.h>

#define INJECT_SYMBOL "fscope_agent_inject"

#define INJECT_WORD                                                                                \
    "fscope_agent_injected" // uint32_t: not 0 where calls are better made this way (below)

enum inject_what { INJECT_ATTACH = 1, INJECT_DETACH_BEGIN = 2, INJECT_DETACH_END = 3 };

// what: enum inject_what, or the value of a call (call.h). A wait that a thread began before the agent came does not pass
// by our hooks, which would make it go on after a signal: so who calls an injected agent sends no signal to a thread
// that waits thus, but borrows one.
//
// 0; -EAGAIN: another start or stop is at work, call again; -EBUSY: a collector is there; -EPERM: not injected;
// -ENOMEM, -errno.
int32_t fscope_agent_inject(uint64_t what);

#endif
