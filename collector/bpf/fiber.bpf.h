// SPDX-License-Identifier: MIT
//
// The fiber that the current thread runs, read as docs/descriptor.md says. What is read is the target's: believed for
// names and labels, and for nothing else.

#ifndef FIBERSCOPE_COLLECTOR_BPF_FIBER_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_FIBER_BPF_H

#include "collector/bpf/walk.bpf.h"

enum { FIBER_IS_THREAD = 1, FIBER_IS_SYSTEM = 2 }; // enum descriptor_* of runtime/descriptor.h

struct fiber {
    uint64_t g; // 0: none
    uint64_t id;
    int32_t labels; // index of a label set; 0: none. A set never changes while it has an index
};

static __always_inline uint64_t user_word(uint64_t address)
{
    uint64_t value = 0;
    bpf_probe_read_user(&value, sizeof value, (const void *)address);
    return value;
}

// Which fiber it is. Where there is no runtime this costs one comparison.
static __always_inline void fiber_look(struct fiber *out, const struct task_struct *task,
                                       const struct bpf_fibers *f)
{
    uint64_t tls[2]; // m, g
    uint8_t flags = FIBER_IS_SYSTEM;
    *out = (struct fiber){0};
    if (!f->is_there)
        return;
    uint64_t at = task->thread.fsbase + (uint64_t)f->tls_offset;
    if (bpf_probe_read_user(tls, sizeof tls, (const void *)at) || !tls[0] || !tls[1] ||
        tls[1] == tls[0] + f->m_g0)
        return; // a plain thread, or the scheduler
    bpf_probe_read_user(&flags, sizeof flags, (const void *)(tls[1] + f->g_flags));
    if (flags & (FIBER_IS_THREAD | FIBER_IS_SYSTEM))
        return;
    out->id = user_word(tls[1] + f->g_id);
    if (!out->id)
        return;
    out->g = tls[1];
    bpf_probe_read_user(&out->labels, sizeof out->labels, (const void *)(tls[1] + f->g_labels));
    if (out->labels < 0 || (uint32_t)out->labels >= f->label_sets)
        out->labels = 0;
}

// What the records tell of it, but for the labels.
static __always_inline void fiber_describe(struct bpf_fiber *out, const struct fiber *fiber,
                                           const struct bpf_fibers *f)
{
    *out = (struct bpf_fiber){0};
    if (!fiber->g)
        return;
    out->id = fiber->id;
    out->fn = user_word(fiber->g + f->g_fn);
    uint64_t live = user_word(fiber->g + f->g_live), name = 0;
    if (live)
        bpf_probe_read_user_str(out->name, sizeof out->name, (const void *)(live + f->live_name));
    if (!out->name[0] && (name = user_word(fiber->g + f->g_name)))
        bpf_probe_read_user_str(out->name, sizeof out->name, (const void *)name);
}

// Copies the label set to `out`, which has room. Bytes, 0 if there are none.
static __always_inline uint32_t fiber_labels(uint8_t *out, const struct fiber *fiber,
                                             const struct bpf_fibers *f)
{
    uint32_t size = f->label_set_size;
    if (!fiber->labels || !size || size > BPF_LABEL_BYTES_MAX)
        return 0;
    uint64_t at = f->labels + (uint64_t)(uint32_t)fiber->labels * size;
    return bpf_probe_read_user(out, size, (const void *)at) ? 0 : size;
}

#endif
