// SPDX-License-Identifier: MIT
//
// Which slots of which modules were overwritten, and what was in them: so that they can be given back byte for byte.
//
// What always holds
//   - A slot is in the list before it is overwritten; one that finds no room is not overwritten.
//   - One user at a time (hooks_got.c sees to it). Memory comes from the kernel, page by page, and is kept.

#ifndef FIBERSCOPE_AGENT_GOT_SLOTS_H
#define FIBERSCOPE_AGENT_GOT_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct got_slot {
    uint64_t at, held, ours;
};

bool got_slots_remember(uint64_t at, uint64_t held, uint64_t ours);
// Calls fn with each in [start, end), the newest first.
void got_slots_each(uint64_t start, uint64_t end, void (*fn)(void *arg, const struct got_slot *s),
                    void *arg);
void got_slots_forget(void);

#endif
