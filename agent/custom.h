// SPDX-License-Identifier: MIT
//
// Custom profiles; see custom.c.

#ifndef FIBERSCOPE_AGENT_CUSTOM_H
#define FIBERSCOPE_AGENT_CUSTOM_H

// In the child of a fork: profiles are empty there.
void custom_fork_child(void);

#endif
