// SPDX-License-Identifier: MIT
//
// A fork in a signal handler that interrupts a hook. The child returns into the hook, which goes on with what
// it had: the segment, its slot, the tables. All of that is gone in a child otherwise.
//
// What always holds
//   - A fork within a capture, or an event of the execution trace, keeps the private memory for the child, and gives it a private copy of the
//     segment: nothing that it finishes there is seen by anybody.
//   - The child begins as every child does once that ends: seen at the end of its next capture, or of its next call that
//     would be traced. Until then it owns nothing (agent_owns).

#ifndef FIBERSCOPE_AGENT_FORK_H
#define FIBERSCOPE_AGENT_FORK_H

#include <stdbool.h>

void fork_prepare(void);
void fork_parent(void);
// True: this child is within such; fork_ghost_ends will be called.
bool fork_child(void);
// It ended: forgets what was the parent's.
void fork_ghost_ends(void);
void fork_try_end(void); // has it?

#endif
