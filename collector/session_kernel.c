// SPDX-License-Identifier: MIT
//
// A session by BPF programs (bpf/ebpf_watch.h): see session_internal.h.

#include "collector/session_internal.h"

#include "collector/bpf/features.h"
#ifdef FSCOPE_BPF
#include "collector/bpf/ebpf_watch.h"
#endif

#include <errno.h>

enum { HZ = 100 }; // as Go's

#ifdef FSCOPE_BPF

int session_kernel_open(struct session *s, struct fscope_error *err)
{
    struct record_options o;
    record_options_init(&o);
    o.pid = s->pid;
    o.method = RECORD_EBPF;
    o.cpu_hz = o.wall_hz = HZ;
    o.offcpu_fraction = 1;
    o.block_ns = s->wished.block_ns;
    o.mutex_fraction = s->wished.mutex_fraction;
    o.inherit = false;
    error_set(&s->why, -EOPNOTSUPP, 0,
              "by eBPF there is CPU time, time off the processor, contention and threads; put the "
              "agent in: --method=inject");
    // What is missing altogether, before what this process asks for.
    int rc = record_check_kernel(&o, err);
    return rc ? rc : ebpf_watch_open(&s->kernel, &o, err);
}

int session_kernel_begin(struct session *s, struct fscope_error *err)
{
    return ebpf_watch_begin(s->kernel, err);
}

void session_kernel_close(struct session *s)
{
    ebpf_watch_close(s->kernel);
}

int session_kernel_sample(struct session *s, const struct session_stream *how,
                          struct pprof_profile **out, struct fscope_error *err)
{
    const struct ebpf_watch_stream stream = {.kind = how->wall     ? RECORD_WALL
                                                     : how->offcpu ? RECORD_OFFCPU
                                                                   : RECORD_CPU,
                                             .duration_ns = how->duration_ns,
                                             .is_over = how->is_over,
                                             .arg = how->arg};
    if (how->window || (how->hz && how->hz != HZ))
        return error_set(err, -EOPNOTSUPP, 0, "by eBPF a session has %d Hz and no windows", HZ);
    return ebpf_watch_sample(s->kernel, &stream, out, err);
}

static bool wished(const struct session *s, int kind)
{
    return kind == RECORD_BLOCK ? s->wished.block_ns : s->wished.mutex_fraction;
}

int session_kernel_state(struct session *s, int kind, struct pprof_profile **out,
                         struct fscope_error *err)
{
    const char *name = record_kind_name(kind);
    if (kind != RECORD_BLOCK && kind != RECORD_MUTEX)
        return error_set(err, -EOPNOTSUPP, 0, "no %s profile from outside: %s", name, s->why.text);
    if (!wished(s, kind))
        return error_set(err, -EOPNOTSUPP, 0,
                         "%s is not recorded in process %u: `fiberscope serve --method=ebpf --%s "
                         "-p %u` records it",
                         name, s->pid, name, s->pid);
    return ebpf_watch_state(s->kernel, (enum record_kind)kind, out, err);
}

uint64_t session_kernel_count(struct session *s, int kind)
{
    return wished(s, kind) ? ebpf_watch_stacks(s->kernel, (enum record_kind)kind) : 0;
}

void session_kernel_metrics(struct session *s, struct session_metrics *m)
{
    struct ebpf_watch_total totals[RECORD_KIND_COUNT];
    ebpf_watch_totals(s->kernel, totals);
    m->has_block = totals[RECORD_BLOCK].is_recorded;
    m->block_contentions = totals[RECORD_BLOCK].count;
    m->block_wait_s = 1e-9 * (double)totals[RECORD_BLOCK].ns;
    m->has_mutex = totals[RECORD_MUTEX].is_recorded;
    m->mutex_contentions = totals[RECORD_MUTEX].count;
    m->mutex_wait_s = 1e-9 * (double)totals[RECORD_MUTEX].ns;
}

#else

int session_kernel_open(struct session *s, struct fscope_error *err)
{
    (void)s;
    return bpf_features_check(err); // says that it was made without
}

int session_kernel_begin(struct session *s, struct fscope_error *err)
{
    (void)s, (void)err;
    return 0;
}

void session_kernel_close(struct session *s)
{
    (void)s;
}

int session_kernel_sample(struct session *s, const struct session_stream *how,
                          struct pprof_profile **out, struct fscope_error *err)
{
    (void)s, (void)how, (void)out;
    return bpf_features_check(err);
}

int session_kernel_state(struct session *s, int kind, struct pprof_profile **out,
                         struct fscope_error *err)
{
    (void)s, (void)kind, (void)out;
    return bpf_features_check(err);
}

uint64_t session_kernel_count(struct session *s, int kind)
{
    (void)s, (void)kind;
    return 0;
}

void session_kernel_metrics(struct session *s, struct session_metrics *m)
{
    (void)s, (void)m;
}

#endif

int session_begin(struct session *s, struct fscope_error *err)
{
    return s->kernel ? session_kernel_begin(s, err) : 0;
}
