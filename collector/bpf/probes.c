// SPDX-License-Identifier: MIT
//
// See probes.h.

#include "collector/bpf/probes.h"

#include "collector/bpf/profile.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES_MAX = 8192, THREADS_MAX = 32768, LIVES_MAX = 65536, LIVES_EXACT_MAX = 1 << 19 };

const char *const bpf_site_names[BPF_SITES + 1] = {
    [BPF_SITE_BLOCK] = "block",
    [BPF_SITE_MUTEX] = "mutex",
    [BPF_SITE_THREAD_BLOCK] = "thread_block",
    [BPF_SITE_THREAD_MUTEX] = "thread_mutex",
    [BPF_SITE_HEAP_ALLOC] = "heap_alloc",
    [BPF_SITE_HEAP_FREE] = "heap_free",
    [BPF_SITE_SPAWN] = "spawn",
    [BPF_SITE_PARK] = "park",
    [BPF_SITE_UNPARK] = "unpark",
    [BPF_SITE_YIELD] = "yield",
    [BPF_SITE_PREEMPT] = "preempt",
    [BPF_SITE_CALL] = "syscall_enter",
    [BPF_SITE_STEAL] = "steal",
    [BPF_SITE_HANDOFF] = "handoff",
    [BPF_SITE_EXIT] = "exit",
};

static struct bpf_program *program_of(struct profile_bpf *k, enum bpf_site site)
{
    switch (site) {
    case BPF_SITE_BLOCK:
    case BPF_SITE_THREAD_BLOCK: return k->progs.site_block;
    case BPF_SITE_THREAD_MUTEX:
    case BPF_SITE_MUTEX: return k->progs.site_mutex;
    case BPF_SITE_HEAP_ALLOC: return k->progs.site_heap_alloc;
    case BPF_SITE_HEAP_FREE: return k->progs.site_heap_free;
    default: return k->progs.site_fiber;
    }
}

// --- Before loading.

static bool wants(const struct bpf_programs_options *o, uint32_t sites)
{
    return o->sites & sites;
}

#define SITE(name) (1u << BPF_SITE_##name)

int bpf_probes_configure(struct profile_bpf *k, const struct bpf_programs_options *o)
{
    const uint32_t heap = SITE(HEAP_ALLOC) | SITE(HEAP_FREE);
    const uint32_t block = SITE(BLOCK) | SITE(THREAD_BLOCK);
    const uint32_t mutex = SITE(MUTEX) | SITE(THREAD_MUTEX);
    const uint32_t fibers = ~(heap | block | mutex);
    bool tracks = o->malloc || wants(o, heap);
    const struct {
        struct bpf_program *program;
        bool is_wanted;
    } programs[] = {
        {k->progs.resident_changes, o->memory},    {k->progs.mapping_ends, o->memory},
        {k->progs.allocation_begins, o->malloc},   {k->progs.allocation_ends, o->malloc},
        {k->progs.free_begins, o->malloc},         {k->progs.site_block, wants(o, block)},
        {k->progs.site_mutex, wants(o, mutex)},    {k->progs.site_heap_alloc, wants(o, heap)},
        {k->progs.site_heap_free, wants(o, heap)}, {k->progs.site_fiber, wants(o, fibers)},
    };
    const struct {
        struct bpf_map *map;
        uint32_t entries;
    } maps[] = {
        {k->maps.resident, o->memory ? 2 * PROCESSES_MAX : 1},
        {k->maps.breaks, o->memory ? PROCESSES_MAX : 1},
        {k->maps.told, o->sites ? PROCESSES_MAX : 1},
        {k->maps.__bpf_usdt_specs, o->sites ? BPF_SITE_SPECS_MAX : 1},
        {k->maps.allocations, o->malloc ? THREADS_MAX : 1},
        {k->maps.lives, !tracks                     ? 1
                        : o->lives_max              ? o->lives_max
                        : o->config.heap_bytes <= 1 ? LIVES_EXACT_MAX
                                                    : LIVES_MAX},
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof programs / sizeof *programs; i++)
        rc = bpf_program__set_autoload(programs[i].program, programs[i].is_wanted);
    for (size_t i = 0; !rc && i < sizeof maps / sizeof *maps; i++)
        rc = bpf_map__set_max_entries(maps[i].map, maps[i].entries);
    return rc;
}

// --- Attaching.

static int keep(struct bpf_probes *p, struct bpf_link *link)
{
    if (!link)
        return -errno;
    if (p->count == p->capacity) {
        size_t capacity = 2 * p->capacity + 32;
        struct bpf_link **grown = reallocarray(p->links, capacity, sizeof *grown);
        if (!grown) {
            bpf_link__destroy(link);
            return -ENOMEM;
        }
        p->links = grown;
        p->capacity = capacity;
    }
    p->links[p->count++] = link;
    return 0;
}

static int attach_memory(struct bpf_probes *p, struct profile_bpf *k, struct fscope_error *err)
{
    int rc = keep(p, bpf_program__attach(k->progs.resident_changes));
    if (rc == -ENOENT)
        return error_set(err, rc, 0,
                         "the tracepoint kmem:rss_stat is not there: mount -t tracefs none "
                         "/sys/kernel/tracing");
    rc = rc ? rc : keep(p, bpf_program__attach(k->progs.mapping_ends));
    return rc ? error_set(err, rc, 0, "tracepoints of memory: %s", strerror(-rc)) : 0;
}

static int attach_site(struct bpf_probes *p, struct profile_bpf *k, const struct probe_file *f,
                       pid_t pid, enum bpf_site site)
{
    LIBBPF_OPTS(bpf_usdt_opts, opts);
    opts.usdt_cookie = site;
    return keep(p, bpf_program__attach_usdt(program_of(k, site), pid, f->path, "fiberscope",
                                            bpf_site_names[site], &opts));
}

static int attach_function(struct bpf_probes *p, struct profile_bpf *k, const struct probe_file *f,
                           pid_t pid, enum probe_function which)
{
    static const uint64_t cookies[PROBE_FUNCTIONS] = {
        [PROBE_MALLOC] = BPF_MALLOC,    [PROBE_CALLOC] = BPF_CALLOC,
        [PROBE_REALLOC] = BPF_REALLOC,  [PROBE_ALIGNED_ALLOC] = BPF_ALIGNED,
        [PROBE_MEMALIGN] = BPF_ALIGNED, [PROBE_POSIX_MEMALIGN] = BPF_POSIX_MEMALIGN,
        [PROBE_VALLOC] = BPF_MALLOC,    [PROBE_PVALLOC] = BPF_MALLOC,
    };
    LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = cookies[which]);
    uint64_t at = f->functions[which];
    if (which == PROBE_FREE)
        return keep(p,
                    bpf_program__attach_uprobe_opts(k->progs.free_begins, pid, f->path, at, &opts));
    // Returns first: a call that is seen to begin and not to end would hide all later ones of its thread.
    opts.retprobe = true;
    int rc =
        keep(p, bpf_program__attach_uprobe_opts(k->progs.allocation_ends, pid, f->path, at, &opts));
    opts.retprobe = false;
    return rc ? rc
              : keep(p, bpf_program__attach_uprobe_opts(k->progs.allocation_begins, pid, f->path,
                                                        at, &opts));
}

static int attach_malloc(struct bpf_probes *p, struct profile_bpf *k,
                         const struct bpf_programs_options *o, struct fscope_error *err)
{
    const struct probe_file *f = probe_files_malloc(o->files);
    int rc = f ? 0 : -ENOENT;
    // Frees first: what is seen allocated is seen freed.
    rc = rc ? rc : attach_function(p, k, f, o->uprobes_pid, PROBE_FREE);
    for (int i = 0; !rc && i < PROBE_FUNCTIONS; i++)
        if (i != PROBE_FREE && f->functions[i])
            rc = attach_function(p, k, f, o->uprobes_pid, (enum probe_function)i);
    return rc ? error_set(err, rc, 0, "uprobes on malloc in %.200s: %s", f ? f->path : "no file",
                          strerror(-rc))
              : 0;
}

static int attach_sites(struct bpf_probes *p, struct profile_bpf *k,
                        const struct bpf_programs_options *o, struct fscope_error *err)
{
    for (size_t i = 0; o->files && i < o->files->count; i++) {
        const struct probe_file *f = &o->files->files[i];
        // Of the heap frees first.
        for (int site = BPF_SITES - 1; site >= 0; site--) {
            if (!(f->sites & o->sites & (1u << site)))
                continue;
            int rc = attach_site(p, k, f, o->uprobes_pid, (enum bpf_site)site);
            if (o->uprobes_pid < 0 && (rc == -ENOENT || rc == -ESRCH))
                continue; // the process by whose root the file is opened has ended
            if (rc == -E2BIG)
                return error_set(err, rc, 0,
                                 "more than %d places of USDT sites, up to %.160s: record fewer "
                                 "kinds, or fewer processes (-p, --cgroup)",
                                 BPF_SITE_SPECS_MAX, f->path);
            if (rc)
                return error_set(err, rc, 0, "the USDT site %s of %.200s: %s", bpf_site_names[site],
                                 f->path, strerror(-rc));
        }
    }
    return 0;
}

int bpf_probes_attach(struct bpf_probes *p, struct profile_bpf *k,
                      const struct bpf_programs_options *o, struct fscope_error *err)
{
    int rc = o->memory ? attach_memory(p, k, err) : 0;
    rc = !rc && o->malloc ? attach_malloc(p, k, o, err) : rc;
    return !rc && o->sites ? attach_sites(p, k, o, err) : rc;
}

void bpf_probes_detach(struct bpf_probes *p)
{
    // What is told first goes last: no free is missed of what was told of.
    while (p->count)
        bpf_link__destroy(p->links[--p->count]);
    free(p->links);
    *p = (struct bpf_probes){0};
}

// --- What malloc's uprobes cost here.

enum { MEASURED_CALLS = 256 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// ns of a malloc and of a free, by our own.
static void time_calls(uint64_t *malloc_ns, uint64_t *free_ns)
{
    static void *volatile blocks[MEASURED_CALLS];
    uint64_t began = now_ns();
    for (int i = 0; i < MEASURED_CALLS; i++)
        blocks[i] = malloc(64);
    uint64_t between = now_ns();
    for (int i = 0; i < MEASURED_CALLS; i++)
        free(blocks[i]);
    *malloc_ns = (between - began) / MEASURED_CALLS;
    *free_ns = (now_ns() - between) / MEASURED_CALLS;
}

static int measure(struct profile_bpf *k, uint64_t *malloc_ns, uint64_t *free_ns)
{
    static const char *const no_sites[] = {NULL};
    struct bpf_probes p = {0};
    struct probe_files *files = calloc(1, sizeof *files);
    uint64_t plain_malloc, plain_free;
    int rc = files ? probe_files_of_process(files, (uint32_t)getpid(), no_sites) : -ENOMEM;
    const struct probe_file *f = rc ? NULL : probe_files_malloc(files);
    rc = rc || f ? rc : -ENOENT;
    time_calls(&plain_malloc, &plain_free);
    rc = rc ? rc : attach_function(&p, k, f, getpid(), PROBE_FREE);
    rc = rc ? rc : attach_function(&p, k, f, getpid(), PROBE_MALLOC);
    if (!rc) {
        time_calls(malloc_ns, free_ns);
        *malloc_ns -= *malloc_ns > plain_malloc ? plain_malloc : *malloc_ns;
        *free_ns -= *free_ns > plain_free ? plain_free : *free_ns;
    }
    bpf_probes_detach(&p);
    if (files)
        probe_files_free(files);
    free(files);
    return rc;
}

static int keep_quiet(enum libbpf_print_level level, const char *format, va_list args)
    FSCOPE_PRINTF(2, 0);
static int keep_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    (void)level, (void)format, (void)args;
    return 0;
}

int bpf_programs_measure_malloc(struct bpf_programs *p, uint64_t *malloc_ns, uint64_t *free_ns)
{
    libbpf_print_fn_t before = libbpf_set_print(keep_quiet);
    int rc = measure(bpf_programs_skeleton(p), malloc_ns, free_ns);
    libbpf_set_print(before);
    return rc;
}

uint64_t bpf_programs_site_heap_bytes(const struct bpf_programs *p)
{
    return bpf_programs_skeleton(p)->bss->site_heap_bytes;
}

int bpf_programs_told(struct bpf_programs *p, pid_t pid, uint32_t what)
{
    int fd = bpf_map__fd(bpf_programs_skeleton(p)->maps.told);
    uint32_t key = (uint32_t)pid, known = 0;
    bpf_map_lookup_elem(fd, &key, &known);
    known |= what;
    return bpf_map_update_elem(fd, &key, &known, BPF_ANY) ? -errno : 0;
}

// --- What is over.

enum { LIVES_BATCH = 4096, PIDS_KNOWN = 1024 };

struct live_key { // as heap.bpf.h has it, as the next one
    uint64_t address;
    uint32_t pid, reserved;
};

struct live {
    uint64_t bytes, key;
};

struct ended { // what was found of processes, by their numbers
    uint32_t pid;
    bool is_ended;
};

static bool is_of_ended(struct ended *known, uint32_t pid, bool (*has_ended)(uint32_t pid))
{
    struct ended *k = &known[pid % PIDS_KNOWN];
    if (k->pid != pid)
        *k = (struct ended){pid, has_ended(pid)};
    return k->is_ended;
}

int64_t bpf_programs_forget(struct bpf_programs *p, bool (*has_ended)(uint32_t pid))
{
    int fd = bpf_map__fd(bpf_programs_skeleton(p)->maps.lives);
    struct live_key *keys = malloc(LIVES_BATCH * sizeof *keys);
    struct live *values = malloc(LIVES_BATCH * sizeof *values);
    struct ended *known = calloc(PIDS_KNOWN, sizeof *known);
    int64_t count = keys && values && known ? 0 : -ENOMEM;
    uint32_t in = 0, out = 0;
    bool is_first = true, is_last = count < 0;
    while (!is_last) {
        uint32_t n = LIVES_BATCH;
        int error = bpf_map_lookup_batch(fd, is_first ? NULL : &in, &out, keys, values, &n, NULL)
                        ? errno
                        : 0;
        is_first = false;
        is_last = error;
        count = error && error != ENOENT ? -error : count;
        in = out;
        for (uint32_t i = 0; i < n && count >= 0; i++)
            if (is_of_ended(known, keys[i].pid, has_ended))
                count += !bpf_map_delete_elem(fd, &keys[i]);
    }
    free(keys);
    free(values);
    free(known);
    return count;
}

void bpf_programs_break(struct bpf_programs *p, pid_t pid, uint64_t end)
{
    uint32_t key = (uint32_t)pid;
    bpf_map_update_elem(bpf_map__fd(bpf_programs_skeleton(p)->maps.breaks), &key, &end,
                        BPF_NOEXIST);
}

void bpf_programs_losses(struct bpf_programs *p, struct bpf_losses *out)
{
    *out = (struct bpf_losses){0};
    int count = libbpf_num_possible_cpus();
    uint32_t zero = 0;
    uint64_t *words = count > 0 ? calloc((size_t)count, sizeof *out) : NULL;
    if (words &&
        !bpf_map_lookup_elem(bpf_map__fd(bpf_programs_skeleton(p)->maps.losses), &zero, words))
        for (int cpu = 0; cpu < count; cpu++) {
            const uint64_t *l = words + (size_t)cpu * (sizeof *out / sizeof *l);
            for (size_t i = 0; i < sizeof *out / sizeof *l; i++)
                ((uint64_t *)out)[i] += l[i]; // it has nothing else
        }
    free(words);
}

int bpf_programs_cost(const struct bpf_programs *p, uint64_t *ns, uint64_t *runs)
{
    struct bpf_prog_info info = {0};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(bpf_programs_skeleton(p)->progs.sample_cpu), &info,
                               &size))
        return -errno;
    *ns = info.run_time_ns;
    *runs = info.run_cnt;
    return 0;
}
