// SPDX-License-Identifier: MIT
//
// What a wait counts; see lock.h. Go's blocksampled and blockevent (runtime/mprof.go), but for the
// count, which Go keeps as a fraction and we round by chance.

#include "agent/lock.h"

bool lock_weigh(uint64_t random, uint64_t rate_ns, uint64_t *count, uint64_t *ns)
{
    *count = 1;
    if (*ns >= rate_ns)
        return true;
    if (!*ns)
        *ns = 1;
    if (random % rate_ns >= *ns)
        return false;
    *count = rate_ns / *ns;
    if ((random >> 32) % *ns < rate_ns % *ns)
        ++*count;
    *ns = rate_ns;
    return true;
}
