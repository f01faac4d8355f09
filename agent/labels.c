// SPDX-License-Identifier: MIT
//
// fscope_label_set: label sets are interned in the segment, so that a sample carries one number.
//
// What always holds
//   - agent_tls.labels is an id of this process' segment; a forked child's begins with 0.
//   - What callers keep for fscope_labels_restore says from which process it is: in a forked child a
//     scope that the parent opened ends with no labels, not with a stranger's.
//   - In a fiber the labels are the runtime's: they move with it, and its children inherit them. What callers
//     keep is then the runtime's index of a set, which a forked child has as well.

#include "agent/api.h"

#include "fiberscope/profile.h"

#include "agent/agent.h"
#include "agent/capture.h"
#include "agent/fibers.h"

#include <string.h>

enum { LABELS_MAX = 16, TEXT_BYTES_MAX = 255, ID_BITS = 22 };

#define ID_MASK ((UINT32_C(1) << ID_BITS) - 1)

static uint32_t token(void)
{
    uint32_t id = agent_tls.labels;
    return id && id <= ID_MASK ? agent.forks << ID_BITS | id : 0;
}

static uint32_t intern(const char *text)
{
    return seg_string(&agent.space->seg, text, strnlen(text, TEXT_BYTES_MAX));
}

// One text may have two ids (segment/table.h).
static bool is_same_text(uint32_t a, uint32_t b)
{
    uint32_t n = 0, m = 0;
    if (a == b)
        return true;
    const void *x = seg_blob(&agent.space->seg, a, 0, &n);
    const void *y = seg_blob(&agent.space->seg, b, 0, &m);
    return x && y && n == m && !memcmp(x, y, n);
}

// Copies the set in force without the label of this key; the number of pairs.
static uint32_t others(uint32_t (*pairs)[2], uint32_t key)
{
    uint32_t bytes = 0, n = 0;
    const uint32_t(*set)[2] = seg_blob(&agent.space->seg, agent_tls.labels, 1, &bytes);
    for (uint32_t i = 0; set && i < bytes / sizeof *set && n < LABELS_MAX; i++) {
        if (is_same_text(set[i][0], key))
            continue;
        pairs[n][0] = set[i][0];
        pairs[n++][1] = set[i][1];
    }
    return n;
}

// --- In fibers.

int32_t fib_label_set(const char *key, const char *value) __attribute__((weak));
void fib_labels_restore(int32_t before) __attribute__((weak));

static inline bool is_in_fiber(struct fiber_here *f)
{
    return fibers_exist() &&
           fibers_look(f, (uint64_t)(uintptr_t)__builtin_frame_address(0), false) &&
           fib_label_set && fib_labels_restore;
}

EXPORTED uint32_t fscope_label_set(const char *key, const char *value)
{
    uint32_t pairs[LABELS_MAX][2];
    struct fiber_here fiber;
    if (!agent_here())
        return 0;
    if (is_in_fiber(&fiber)) {
        if (key && *key)
            fib_label_set(key, value);
        return (uint32_t)fiber.set;
    }
    uint32_t before = token();
    uint32_t key_id = key ? intern(key) : 0;
    if (!key_id) // no key, or no room
        return before;
    uint32_t n = others(pairs, key_id);
    if (value && n < LABELS_MAX) {
        pairs[n][0] = key_id;
        pairs[n][1] = intern(value);
        if (pairs[n][1] || !*value)
            n++;
    }
    uint32_t set = seg_labels(&agent.space->seg, pairs, n);
    if (set || !n)
        agent_tls.labels = set;
    return before;
}

EXPORTED void fscope_labels_restore(uint32_t before)
{
    struct fiber_here fiber;
    if (is_in_fiber(&fiber)) {
        fib_labels_restore((int32_t)before);
        return;
    }
    bool is_ours = before >> ID_BITS == (agent.forks & (UINT32_MAX >> ID_BITS));
    agent_tls.labels = is_ours && agent_live() ? before & ID_MASK : 0;
}
