// SPDX-License-Identifier: MIT
//
// The fiber runtime's descriptor (docs/descriptor.md) of a process: where it is, and what BPF programs need of it.

#include "collector/bpf/code_internal.h"
#include "symbols/data_symbols.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { FIRST_PART = offsetof(struct fib_descriptor, p_status) };

static const char runtime_name[] = "libfiberscope-rt", descriptor_name[] = "fib_descriptor";

// --- Where it is.

// Link-time address of the descriptor in a file that may have it.
static bool look_into(struct code_table *t, const struct code_file *f)
{
    int fd = perf_file_fd(f);
    if (!t->has_looked && fd >= 0) {
        t->has_looked = true;
        t->has_descriptor =
            !data_symbols_look_up(fd, perf_file_path(f), descriptor_name, &t->descriptor);
    }
    return t->has_descriptor;
}

uint64_t code_find_descriptor(struct bpf_code *c, const struct perf_process *p)
{
    struct stat program = {0};
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/exe", perf_process_pid(p));
    bool has_program = stat(path, &program) == 0;
    for (size_t i = 0; i < perf_process_map_count(p); i++) {
        struct perf_map m;
        perf_process_map(p, i, &m);
        if (!m.file || code_table_grow(c, perf_file_number(m.file)))
            continue;
        const char *slash = strrchr(perf_file_path(m.file), '/');
        bool may_have = strstr(slash ? slash : perf_file_path(m.file), runtime_name) ||
                        (has_program && perf_file_is(m.file, program.st_dev, program.st_ino));
        struct code_table *t = &c->tables[perf_file_number(m.file)];
        if (may_have && look_into(t, m.file))
            return t->descriptor + m.bias;
    }
    return 0;
}

// --- What it says.

// Later versions append; what BPF programs need is in the first part.
static bool is_sound(const struct fib_descriptor *d)
{
    return memcmp(d->magic, "FIBRT\0\0", sizeof d->magic) == 0 &&
           d->version == DESCRIPTOR_VERSION && d->size >= FIRST_PART && d->is_ready == 1;
}

static bool read_descriptor(uint32_t pid, uint64_t at, struct fib_descriptor *d)
{
    struct iovec here = {d, sizeof *d};
    struct iovec there = {(void *)(uintptr_t)at, sizeof *d}; // NOLINT(performance-no-int-to-ptr)
    memset(d, 0, sizeof *d);
    ssize_t n = process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0);
    return n >= (ssize_t)FIRST_PART && is_sound(d);
}

void code_look_for_fibers(struct bpf_code *c, uint32_t slot)
{
    struct code_slot *s = &c->slots[slot];
    struct fib_descriptor d;
    if (s->descriptor || !s->descriptor_at)
        return;
    if (read_descriptor(s->pid, s->descriptor_at, &d))
        s->descriptor = malloc(sizeof d);
    if (!s->descriptor) {
        c->is_waiting = true;
        return;
    }
    *s->descriptor = d;
    code_slot_lock(c, slot);
    bpf_programs_slots(c->programs)[slot].fibers = (struct bpf_fibers){
        .tls_offset = d.tls_offset,
        .labels = d.labels,
        .is_there = 1,
        .m_g0 = d.m_g0,
        .g_id = d.g_id,
        .g_fn = d.g_fn,
        .g_labels = d.g_labels,
        .g_flags = d.g_flags,
        .g_live = d.g_live,
        .g_name = d.g_name,
        .live_name = d.live_name,
        .label_set_size = d.label_set_size,
        .label_sets = d.label_sets,
    };
    code_slot_unlock(c, slot);
}
