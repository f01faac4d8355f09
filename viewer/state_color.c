// SPDX-License-Identifier: MIT
//
// See state_color.h.

#include "viewer/state_color.h"

#include "viewer/trace_model.h"

uint32_t state_color(const struct theme *t, int state)
{
    static const uint8_t series[] = {[TRACE_STATE_CHANNEL] = 3,
                                     [TRACE_STATE_LOCK] = 5,
                                     [TRACE_STATE_NETWORK] = 4,
                                     [TRACE_STATE_SLEEP] = 2};
    switch (state) {
    case TRACE_STATE_RUNNING: return t->running;
    case TRACE_STATE_RUNNABLE: return t->runnable;
    case TRACE_STATE_SYSCALL: return t->syscall;
    case TRACE_STATE_CHANNEL:
    case TRACE_STATE_LOCK:
    case TRACE_STATE_NETWORK:
    case TRACE_STATE_SLEEP:
        return theme_mix(t->ground, t->series[series[state]], t->dark ? 0.36 : 0.5);
    default: return t->waiting;
    }
}
