// SPDX-License-Identifier: MIT
//
// Memory, and what the agent and the fiber runtime tell by their USDT sites: by which probes a recording sees what it was
// asked for, and what their samples say. See ebpf_internal.h.
//
//   --heap         by the sites of an agent that records the heap; else, with --malloc, by uprobes; else how the process grows
//   --block, --mutex   of fibers by the runtime's sites; of threads by those of an agent that records the same
//   --fiber-events     by the runtime's sites
//
// Uprobes of one process are that process' alone. Of a group, or of all processes, sites are those of the files that some
// process has mapped at the start: whoever maps them later is seen as well.

#include "collector/bpf/ebpf_internal.h"

#include "collector/launch.h"
#include "collector/perf_target.h"
#include "collector/processes.h"
#include "runtime/descriptor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SITE(name) (1u << BPF_SITE_##name)

enum {
    HEAP_SITES = SITE(HEAP_ALLOC) | SITE(HEAP_FREE),
    LOCK_SITES = SITE(BLOCK) | SITE(MUTEX) | SITE(THREAD_BLOCK) | SITE(THREAD_MUTEX),
    FIBER_SITES = (1u << BPF_SITES) - 1 - HEAP_SITES - LOCK_SITES,
    RUNTIME_SITES =
        SITE(BLOCK) | SITE(MUTEX), // of locks: threads that wait there are mostly schedulers
};

// --- Whose files.

static void add_all(struct probe_files *to, struct probe_files *from)
{
    for (size_t i = 0; i < from->count; i++) {
        bool is_known = !from->files[i].sites || to->count == PROBE_FILES_MAX;
        for (size_t j = 0; j < to->count; j++)
            is_known |= to->files[j].inode == from->files[i].inode &&
                        to->files[j].device == from->files[i].device;
        if (!is_known) {
            to->files[to->count++] = from->files[i];
            from->files[i].path = NULL;
        }
    }
}

// What the sites of these files tell of a process, whose agent records this; the agent's never fire where it records nothing
// of the kind.
static uint32_t told_by(const struct probe_files *files, const char *records)
{
    uint32_t sites = 0;
    for (size_t i = 0; i < files->count; i++)
        sites |= files->files[i].sites;
    return (sites & RUNTIME_SITES ? BPF_TOLD_BLOCK | BPF_TOLD_MUTEX : 0) |
           (sites & SITE(THREAD_BLOCK) && strstr(records, "block") ? BPF_TOLD_BLOCK : 0) |
           (sites & SITE(THREAD_MUTEX) && strstr(records, "mutex") ? BPF_TOLD_MUTEX : 0) |
           (sites & SITE(HEAP_ALLOC) && strstr(records, "heap") ? BPF_TOLD_HEAP : 0);
}

static int remember_told(struct ebpf *e, uint32_t pid, uint32_t what)
{
    struct ebpf_probes *p = &e->probes;
    if (!what)
        return 0;
    struct ebpf_told *grown = reallocarray(p->told, p->told_count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    p->told = grown;
    p->told[p->told_count++] = (struct ebpf_told){pid, what};
    return 0;
}

// Of all processes that have something of ours in them.
static int find_everyones(struct ebpf *e, const struct processes *all)
{
    struct probe_files *one = calloc(1, sizeof *one);
    int rc = one ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < all->count; i++) {
        const struct process *p = &all->list[i];
        if (!p->has_runtime && p->agent == PROCESS_NO_AGENT)
            continue;
        if (!probe_files_of_process(one, p->pid, bpf_site_names)) {
            rc = remember_told(e, p->pid, told_by(one, p->records));
            add_all(e->probes.files, one);
        }
        probe_files_free(one);
    }
    free(one);
    return rc;
}

static int find_targets(struct ebpf *e, const struct processes *all)
{
    const char *records = "";
    int rc = probe_files_of_process(e->probes.files, e->o->pid, bpf_site_names);
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i].pid == e->o->pid)
            records = all->list[i].records;
    return rc ? rc : remember_told(e, e->o->pid, told_by(e->probes.files, records));
}

static int find_commands(struct ebpf *e)
{
    struct launch_program program;
    if (launch_look(&program, e->o->command[0], NULL))
        return 0;
    probe_files_of_command(e->probes.files, program.image, bpf_site_names);
    uint32_t what = told_by(e->probes.files, "");
    return remember_told(e, e->o->pid, what ? what | BPF_TOLD_AFTER_EXEC : 0);
}

static int find_files(struct ebpf *e, bool is_held)
{
    struct processes all;
    e->probes.files = calloc(1, sizeof *e->probes.files);
    if (!e->probes.files)
        return -ENOMEM;
    if (is_held && e->filter == BPF_FILTER_TARGETS)
        return find_commands(e);
    int rc = processes_find(&all);
    if (rc)
        return rc;
    rc = e->filter == BPF_FILTER_TARGETS ? find_targets(e, &all) : find_everyones(e, &all);
    processes_free(&all);
    return rc;
}

// --- Which probes.

struct telling {
    const struct ebpf *e;
    uint32_t what;
};

static int add_told(void *arg, uint32_t pid) // 0: all
{
    struct telling *t = arg;
    for (size_t i = 0; i < t->e->probes.told_count; i++)
        if (!pid || t->e->probes.told[i].pid == pid)
            t->what |= t->e->probes.told[i].what;
    return 0;
}

// What is told of those that are recorded.
static uint32_t told_of(const struct ebpf *e)
{
    struct telling t = {.e = e};
    if (e->filter == BPF_FILTER_CGROUP)
        control_group_each_pid(&e->group, add_told, &t);
    else
        add_told(&t, 0);
    return t.what;
}

static void choose_sites(struct ebpf *e)
{
    const struct record_options *o = e->o;
    uint32_t wanted = (o->block_ns ? SITE(BLOCK) : 0) | (o->mutex_fraction ? SITE(MUTEX) : 0) |
                      (o->fiber_fraction ? FIBER_SITES : 0);
    // Those of an agent that records nothing of the kind never fire; others may begin to.
    bool is_one = e->filter == BPF_FILTER_TARGETS;
    uint32_t told = told_of(e);
    if (o->heap_bytes && !o->malloc_uprobes && told & BPF_TOLD_HEAP)
        wanted |= HEAP_SITES;
    if (o->block_ns && (!is_one || told & BPF_TOLD_BLOCK))
        wanted |= SITE(THREAD_BLOCK);
    if (o->mutex_fraction && (!is_one || told & BPF_TOLD_MUTEX))
        wanted |= SITE(THREAD_MUTEX);
    for (size_t i = 0; i < e->probes.files->count; i++)
        e->probes.sites |= wanted & e->probes.files->files[i].sites;
}

static int check_malloc(const struct ebpf *e, struct fscope_error *err)
{
    if (e->filter != BPF_FILTER_TARGETS)
        return error_set(
            err, -EINVAL, 0,
            "--malloc is for one process (-p) or a command: uprobes in libc would stop "
            "all that map it");
    if (probe_files_malloc(e->probes.files))
        return 0;
    return error_set(err, -ENOENT, 0,
                     "--malloc: no file of the program has symbols malloc and free: a static "
                     "program without a symbol table, or an allocator of its own");
}

// How it grows, where allocations cannot be seen: another kind of profile. Of some of many, it is beside theirs.
static int begin_growth(struct ebpf *e, int kind)
{
    struct builder_options bo = {
        .size = sizeof bo, .kind = BUILDER_KIND_GROWTH, .real_ns = record_now_ns(CLOCK_REALTIME)};
    builder_free(e->result->builders[kind]);
    e->result->builders[kind] = NULL;
    if (!e->o->quiet)
        fprintf(
            e->o->messages, "%s%s",
            e->filter != BPF_FILTER_TARGETS && kind == RECORD_HEAP
                ? "fiberscope: heap: as no agent in any of them records the heap, how they grow is "
                  "recorded: pages that became resident, and mappings; allocations need the "
                  "agent (record --heap COMMAND)"
            : kind == RECORD_GROWTH
                ? "fiberscope: heap: allocations are of the processes whose agent records the "
                  "heap; how all others grow is the profile growth"
                : "fiberscope: heap: as no agent in it records the heap, how it grows is "
                  "recorded: pages that became resident, and mappings; allocations need the "
                  "agent (record --heap COMMAND, or --method=inject), or --malloc",
            e->o->heap_bytes == 1 ? "; growth is always exact: --heap=exact changes nothing\n"
                                  : "\n");
    return builder_new(&e->result->builders[kind], &bo);
}

static int begin_heap(struct ebpf *e)
{
    struct builder_options bo = {.size = sizeof bo,
                                 .kind = SEG_KIND_HEAP,
                                 .rate_bytes = e->o->heap_bytes,
                                 .real_ns = record_now_ns(CLOCK_REALTIME),
                                 .is_outside = true};
    bool is_by_sites = e->probes.sites & HEAP_SITES;
    builder_free(e->result->builders[RECORD_HEAP]);
    e->result->builders[RECORD_HEAP] = NULL;
    e->probes.grows = !e->o->malloc_uprobes && (!is_by_sites || e->filter != BPF_FILTER_TARGETS);
    int rc = 0;
    if (is_by_sites || e->o->malloc_uprobes)
        rc = builder_new(&e->result->builders[RECORD_HEAP], &bo);
    return !rc && e->probes.grows ? begin_growth(e, is_by_sites ? RECORD_GROWTH : RECORD_HEAP) : rc;
}

int ebpf_probes_look(struct ebpf *e, bool is_held, struct fscope_error *err)
{
    const struct record_options *o = e->o;
    if (!o->heap_bytes && !o->block_ns && !o->mutex_fraction && !o->fiber_fraction)
        return 0;
    int rc = find_files(e, is_held);
    if (rc)
        return error_set(err, rc, 0, "files of the process: %s", strerror(-rc));
    choose_sites(e);
    if (o->malloc_uprobes && (rc = check_malloc(e, err)))
        return rc;
    if (o->fiber_fraction && !(e->probes.sites & FIBER_SITES))
        return error_set(
            err, -ENOENT, 0, "--fiber-events: no file of it has the sites of libfiberscope-rt%s",
            is_held ? " (looked at: the program and the libraries that it names)" : "");
    if (o->heap_bytes)
        rc = begin_heap(e);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

void ebpf_probes_choose(const struct ebpf *e, struct bpf_programs_options *po)
{
    po->memory = e->probes.grows;
    po->malloc = e->o->malloc_uprobes;
    po->sites = e->probes.sites;
    po->files = e->probes.files;
    po->uprobes_pid = e->filter == BPF_FILTER_TARGETS ? (pid_t)e->o->pid : -1;
    po->config.heap_bytes = e->o->heap_bytes;
    po->config.block_ns = e->o->block_ns;
    po->config.mutex_fraction = (uint32_t)e->o->mutex_fraction;
    po->config.fiber_fraction = e->o->fiber_fraction;
    // As long as a program's code is not known, each of its calls and faults sends a copy of the stack.
    if (!po->ring_bytes && (po->malloc || po->sites || po->memory))
        po->ring_bytes = EBPF_RING_MAX;
}

static void say_cost(const struct ebpf *e)
{
    uint64_t malloc_ns, free_ns;
    if (!e->o->malloc_uprobes || e->o->quiet ||
        bpf_programs_measure_malloc(e->programs, &malloc_ns, &free_ns))
        return;
    fprintf(e->o->messages,
            "fiberscope: --malloc: each call of the process stops in the kernel, which takes at "
            "least %.1f us more for a malloc and %.1f us for a free on this machine\n",
            (double)malloc_ns / 1e3, (double)free_ns / 1e3);
}

// Where the heap of brk ends now.
static void tell_break(struct ebpf *e)
{
    char path[64], line[512];
    unsigned long long end;
    snprintf(path, sizeof path, "/proc/%u/maps", e->o->pid);
    FILE *maps = e->o->pid && !e->held_pid ? fopen(path, "re") : NULL;
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "[heap]") && sscanf(line, "%*x-%llx", &end) == 1)
            bpf_programs_break(e->programs, (pid_t)e->o->pid, end);
    if (maps)
        fclose(maps);
}

void ebpf_probes_begin(struct ebpf *e)
{
    say_cost(e);
    if (e->probes.grows)
        tell_break(e);
    // Who finds no room there is counted by futexes as well.
    for (size_t i = 0; e->probes.sites && i < e->probes.told_count; i++)
        bpf_programs_told(e->programs, (pid_t)e->probes.told[i].pid, e->probes.told[i].what);
}

void ebpf_probes_mapped(const struct ebpf *e, const struct perf_record *r)
{
    const struct probe_files *files = e->probes.files;
    if (!(e->probes.sites & RUNTIME_SITES) ||
        (e->filter == BPF_FILTER_TARGETS && r->pid != e->o->pid))
        return;
    for (size_t i = 0; i < files->count; i++)
        if (files->files[i].sites & RUNTIME_SITES && files->files[i].inode == r->mmap.inode &&
            files->files[i].device == r->mmap.device)
            bpf_programs_told(e->programs, (pid_t)r->pid, BPF_TOLD_BLOCK | BPF_TOLD_MUTEX);
}

// --- What samples say.

static void fill_growth(uint32_t kind, const struct bpf_sum *sum, struct builder_growth *g)
{
    *g = (struct builder_growth){0};
    switch (kind) {
    case BPF_SAMPLE_RESIDENT:
        g->faults = sum->count;
        g->resident_bytes = sum->ns;
        break;
    case BPF_SAMPLE_RETURNED: g->returned_bytes = sum->ns; break;
    case BPF_SAMPLE_MAPPED:
        g->maps = sum->count;
        g->mapped_bytes = sum->ns;
        break;
    default: g->unmapped_bytes = sum->ns;
    }
}

// As the runtime says it.
static const char *reason_text(struct ebpf *e, uint32_t pid, uint32_t reason)
{
    const struct fib_descriptor *d = bpf_code_fibers(e->code, pid);
    if (!d || reason >= DESCRIPTOR_REASONS || reason >= d->reason_count)
        return "";
    snprintf(e->probes.reason, sizeof e->probes.reason, "%.*s", DESCRIPTOR_TEXT,
             d->reason_text[reason]);
    return e->probes.reason;
}

void ebpf_probes_fill(struct ebpf *e, const struct bpf_stack *r, const struct bpf_sum *sum,
                      bool is_freed, struct builder_process *process, struct builder_sample *s,
                      struct ebpf_values *v)
{
    switch (r->kind) {
    case BPF_SAMPLE_RESIDENT:
    case BPF_SAMPLE_RETURNED:
    case BPF_SAMPLE_MAPPED:
    case BPF_SAMPLE_UNMAPPED:
        fill_growth(r->kind, sum, &v->growth);
        s->growth = &v->growth;
        break;
    case BPF_SAMPLE_ALLOCATED:
        v->heap = is_freed
                      ? (struct builder_heap){.freed_objects = sum->count, .freed_bytes = sum->ns}
                      : (struct builder_heap){.alloc_objects = sum->count, .alloc_bytes = sum->ns};
        s->heap = &v->heap;
        if (process && r->hint)
            builder_process_rate(process, r->hint);
        break;
    case BPF_SAMPLE_FIBER: {
        uint32_t site = (uint32_t)r->object;
        snprintf(e->probes.part, sizeof e->probes.part, "fiber-%s",
                 site < BPF_SITES ? bpf_site_names[site] : "event");
        s->part = e->probes.part;
        s->object = 0;
        if (site == BPF_SITE_PARK && s->label_count < EBPF_LABELS_MAX)
            e->labels[s->label_count++] = (struct builder_label){
                .key = "reason", .value = reason_text(e, r->head.pid, (uint32_t)(r->object >> 32))};
        break;
    }
    default: break;
    }
}

// The file of ours that holds this pc, by its name: as long as the runtime's descriptor has not been read, and of the agent.
static bool find_ours(struct builder_process *process, uint64_t pc, struct builder_module *m)
{
    for (size_t i = 0; builder_get_module(process, i, m); i++) {
        const char *slash = m->path ? strrchr(m->path, '/') : NULL;
        if (pc >= m->start && pc <= m->end && slash && strncmp(slash, "/libfiberscope", 14) == 0)
            return true;
    }
    return false;
}

static bool is_runtimes(const struct builder_module *m)
{
    return strstr(m->path, "/libfiberscope-rt.so");
}

// Of the file that holds the first of them.
static uint32_t frames_in(const struct builder_module *m, const uint64_t *pcs, uint32_t depth)
{
    uint32_t n = 0;
    while (n < depth && pcs[n] >= m->start && pcs[n] <= m->end)
        n++;
    return n;
}

// How many frames of a site's stack are ours.
static uint32_t frames_of_site(struct builder_process *process, const struct ebpf_fibers *f,
                               const uint64_t *pcs, uint32_t *depth)
{
    uint32_t n = 0;
    struct builder_module m;
    if (!f->is_there && *depth > 1 && find_ours(process, pcs[*depth - 1], &m) && is_runtimes(&m))
        --*depth;
    while (f->is_there && n < *depth && pcs[n] > f->text && pcs[n] <= f->text_end)
        n++;
    if (n)
        return n -
               (n > 1); // the function that was called stays, but for one that has left for another
    if (find_ours(process, pcs[0], &m)) {
        n = frames_in(&m, pcs, *depth);
        n -= is_runtimes(&m) && n > 1;
    }
    return n;
}

// The agent's malloc calls the program's own, where uprobes are.
static uint32_t frames_of_agent(struct builder_process *process, const uint64_t *pcs,
                                uint32_t depth)
{
    struct builder_module m;
    return find_ours(process, pcs[0], &m) && !is_runtimes(&m) ? frames_in(&m, pcs, depth) : 0;
}

void ebpf_probes_strip(struct ebpf *e, struct builder_process *process, const struct ebpf_fibers *f,
                       const struct bpf_stack *r, struct builder_sample *s)
{
    uint32_t depth = s->user_depth;
    if (r->kind < BPF_SAMPLE_BLOCK)
        return;
    s->tid = 0; // as the agent has it
    s->thread = NULL;
    if ((!e->probes.sites && !e->o->malloc_uprobes) || !process || !depth)
        return;
    uint32_t n = e->probes.sites ? frames_of_site(process, f, r->pcs, &depth)
                                 : frames_of_agent(process, r->pcs, depth);
    n = n < depth ? n : 0;
    s->user += n;
    s->user_depth = depth - n;
    if (!n)
        return;
    memcpy(e->caller_pcs, s->user, s->user_depth * sizeof *e->caller_pcs);
    e->caller_pcs[0]--; // a return address; the first one is taken for exact
    s->user = e->caller_pcs;
}

void ebpf_probes_forget(const struct ebpf *e)
{
    if (e->o->malloc_uprobes || e->probes.sites & HEAP_SITES)
        bpf_programs_forget(e->programs, perf_target_has_ended);
}

// --- The end.

void ebpf_probes_finish(struct ebpf *e)
{
    uint64_t rate = bpf_programs_site_heap_bytes(e->programs);
    if (rate && e->result->builders[RECORD_HEAP])
        builder_set_rate(e->result->builders[RECORD_HEAP], rate);
}

void ebpf_probes_free(struct ebpf *e)
{
    if (e->probes.files)
        probe_files_free(e->probes.files);
    free(e->probes.files);
    free(e->probes.told);
}
