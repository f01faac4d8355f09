// SPDX-License-Identifier: MIT
//
// Loading, attaching and reading the sampling BPF programs: see programs.h.

#include "collector/bpf/programs.h"

#include "collector/bpf/messages.h"
#include "collector/bpf/probes.h"
#include "collector/bpf/profile.skel.h"
#include "collector/bpf/slabs.h"
#include "collector/perf_event.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SUMS_BATCH = 4096 };

struct bpf_programs {
    struct profile_bpf *skeleton;
    struct bpf_slot *slots;
    struct bpf_chunk *chunks;
    struct ring_buffer *ring;
    struct bpf_link **links; // of the CPUs' events
    int *events;             // which the links own
    int cpu_count, link_count;
    bool is_hardware, is_running;
    struct bpf_programs_options opts;
    bpf_record_fn *record; // who is given records, while the ring is read
    void *record_arg;
    uint64_t taken, taken_max; // bytes of the ring, by this read
    int bank;                  // which sums are filled
    struct bpf_slabs *slabs;
    struct bpf_probes probes;
};

static int refuse(struct fscope_error *err, int rc, const char *what)
{
    if (rc == -EPERM || (rc == -EACCES && !bpf_messages_are_verifiers()))
        return error_set(err, rc, 0, "%s: %s: needs CAP_BPF and CAP_PERFMON: run as root (%s)",
                         what, strerror(-rc), bpf_messages_reason());
    return error_set(err, rc, 0, "%s: %s (%s)", what, strerror(-rc), bpf_messages_reason());
}

// What libbpf said, behind what was to be done.
static int add_reason(struct fscope_error *err, int rc)
{
    char text[sizeof err->text];
    if (!err || !bpf_messages_reason()[0])
        return rc;
    snprintf(text, sizeof text, "%s", err->text);
    return error_set(err, rc, 0, "%.250s (%.120s)", text, bpf_messages_reason());
}

// --- Loading.

static size_t page_ceil(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

enum { SLOTS_BYTES = BPF_SLOTS_MAX * sizeof(struct bpf_slot) };
enum { CHUNKS_BYTES = BPF_CHUNKS * sizeof(struct bpf_chunk) };
_Static_assert(sizeof(struct bpf_slot) % 8 == 0 && sizeof(struct bpf_chunk) % 8 == 0,
               "the kernel lays elements out in multiples of 8 bytes");

static void *map_array(const struct bpf_map *map, size_t bytes)
{
    void *p = mmap(NULL, page_ceil(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
    return p == MAP_FAILED ? NULL : p;
}

static int on_record(void *arg, void *data, size_t size)
{
    struct bpf_programs *p = arg;
    const struct bpf_head *head = bpf_record_of(data, size);
    int rc = head && p->record ? p->record(p->record_arg, head) : 0;
    p->taken += BPF_RINGBUF_HDR_SZ + ((size + 7) & ~(size_t)7);
    return rc < 0 || p->taken < p->taken_max ? rc : -EAGAIN; // the ring is behind this record then
}

static int configure_futexes(struct bpf_programs *p)
{
    struct profile_bpf *k = p->skeleton;
    uint32_t locks = p->opts.config.futex_locks;
    int rc =
        bpf_map__set_max_entries(k->maps.futex_waits, locks ? p->opts.config.futex_threads : 1);
    rc = rc ? rc : bpf_map__set_max_entries(k->maps.futex_locks, locks ? locks : 1);
    rc = rc ? rc : bpf_program__set_autoload(k->progs.futex_enters, locks);
    return rc ? rc : bpf_program__set_autoload(k->progs.futex_exits, locks);
}

static int configure(struct bpf_programs *p)
{
    struct profile_bpf *k = p->skeleton;
    const struct bpf_programs_options *o = &p->opts;
    memcpy((void *)(uintptr_t)&k->rodata->config, &o->config, sizeof o->config);
    int rc = bpf_map__set_max_entries(k->maps.ring, (uint32_t)o->ring_bytes);
    rc = rc ? rc : bpf_map__set_max_entries(k->maps.sums_0, o->sums_max);
    rc = rc ? rc : bpf_map__set_max_entries(k->maps.sums_1, o->sums_max);
    rc = rc ? rc : bpf_map__set_max_entries(k->maps.waiting, o->offcpu ? o->waits_max : 1);
    rc = rc ? rc : bpf_program__set_autoload(k->progs.switch_tasks, o->offcpu);
    rc = rc ? rc : bpf_program__set_autoload(k->progs.waiting_tasks, o->offcpu);
    rc = rc ? rc : bpf_program__set_autoload(k->progs.wake, o->offcpu);
    rc = rc ? rc : bpf_probes_configure(k, o);
    return rc ? rc : configure_futexes(p);
}

static int load(struct bpf_programs *p)
{
    p->skeleton = profile_bpf__open();
    if (!p->skeleton)
        return -errno;
    int rc = configure(p);
    rc = rc ? rc : profile_bpf__load(p->skeleton);
    if (rc)
        return rc;
    p->slots = map_array(p->skeleton->maps.slots, SLOTS_BYTES);
    p->chunks = map_array(p->skeleton->maps.chunks, CHUNKS_BYTES);
    if (!p->slots || !p->chunks)
        return -errno;
    rc = bpf_slabs_new(&p->slabs, bpf_map__fd(p->skeleton->maps.slabs));
    if (rc)
        return rc;
    p->ring = ring_buffer__new(bpf_map__fd(p->skeleton->maps.ring), on_record, p, NULL);
    return p->ring ? 0 : -errno;
}

static void take_options(struct bpf_programs *p, const struct bpf_programs_options *opts)
{
    size_t size = opts->size < sizeof p->opts ? opts->size : sizeof p->opts;
    memcpy(&p->opts, opts, size);
    if (!p->opts.ring_bytes)
        p->opts.ring_bytes = UINT64_C(4) << 20;
    if (!p->opts.sums_max)
        p->opts.sums_max = 65536;
    if (!p->opts.waits_max)
        p->opts.waits_max = 32768;
    if (p->opts.config.stack_copy > BPF_STACK_COPY_MAX)
        p->opts.config.stack_copy = BPF_STACK_COPY_MAX;
    p->opts.config.offcpu = p->opts.offcpu;
    p->opts.config.wakeups = p->opts.wakeups;
    p->opts.config.has_sites = p->opts.sites != 0;
    if (!p->opts.config.block_ns && !p->opts.config.mutex_fraction)
        p->opts.config.futex_locks = 0;
    else if (!p->opts.config.futex_locks)
        p->opts.config.futex_locks = BPF_FUTEX_LOCKS_MAX;
    if (!p->opts.config.futex_threads)
        p->opts.config.futex_threads = BPF_FUTEX_THREADS_MAX;
    if (p->opts.cpu_hz)
        p->opts.config.cpu_ns = UINT64_C(1000000000) / p->opts.cpu_hz;
}

int bpf_programs_new(struct bpf_programs **out, const struct bpf_programs_options *opts,
                     struct fscope_error *err)
{
    struct bpf_programs *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, -ENOMEM, 0, "loading BPF programs: out of memory");
    take_options(p, opts);
    bpf_messages_begin();
    int rc = load(p);
    bpf_messages_end();
    if (rc) {
        refuse(err, rc, "loading BPF programs");
        bpf_programs_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void bpf_programs_free(struct bpf_programs *p)
{
    if (!p)
        return;
    bpf_programs_stop(p);
    ring_buffer__free(p->ring);
    bpf_slabs_free(p->slabs);
    if (p->slots)
        munmap(p->slots, page_ceil(SLOTS_BYTES));
    if (p->chunks)
        munmap(p->chunks, page_ceil(CHUNKS_BYTES));
    if (p->skeleton)
        profile_bpf__destroy(p->skeleton);
    free(p);
}

// --- Running.

static int open_event(const struct bpf_programs *p, int cpu, bool hardware)
{
    struct perf_event_attr attr = {
        .size = sizeof attr,
        .type = hardware ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = hardware ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK,
        .sample_freq = p->opts.cpu_hz,
        .freq = 1,
        .exclude_idle = 1,
        .exclude_hv = 1,
    };
    return perf_event_open_raw(&attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static int attach_cpu(struct bpf_programs *p, int cpu, struct fscope_error *err)
{
    int fd = open_event(p, cpu, p->is_hardware);
    if (fd < 0 && !p->link_count && p->is_hardware) {
        p->is_hardware = false; // no such counter: the clock on all of them
        fd = open_event(p, cpu, false);
    }
    if (fd == -ENODEV)
        return 0; // not online
    if (fd < 0)
        return error_set(err, fd, 0, "perf_event_open on CPU %d: %s", cpu, strerror(-fd));
    struct bpf_link *link = bpf_program__attach_perf_event(p->skeleton->progs.sample_cpu, fd);
    if (!link) {
        int rc = -errno;
        close(fd);
        return refuse(err, rc, "attaching to perf events");
    }
    p->events[p->link_count] = fd;
    p->links[p->link_count++] = link; // which owns fd
    return 0;
}

static int attach_waits(const struct bpf_programs *p)
{
    struct profile_bpf *k = p->skeleton;
    if ((k->links.wake = bpf_program__attach(k->progs.wake)))
        k->links.switch_tasks = bpf_program__attach(k->progs.switch_tasks);
    return k->links.switch_tasks ? 0 : -errno;
}

static int attach(struct bpf_programs *p, struct fscope_error *err)
{
    struct profile_bpf *k = p->skeleton;
    int rc = 0;
    p->cpu_count = libbpf_num_possible_cpus();
    size_t count = (size_t)(p->cpu_count > 0 ? p->cpu_count : 1);
    p->links = calloc(count, sizeof(struct bpf_link *));
    p->events = calloc(count, sizeof *p->events);
    if (!p->links || !p->events)
        return error_set(err, -ENOMEM, 0, "attaching BPF programs: out of memory");
    // Before the samples: no child of a target is missed.
    if (!(k->links.process_fork = bpf_program__attach(k->progs.process_fork)) ||
        !(k->links.process_exec = bpf_program__attach(k->progs.process_exec)) ||
        !(k->links.process_exit = bpf_program__attach(k->progs.process_exit)))
        return refuse(err, -errno, "attaching to the scheduler's tracepoints");
    if (p->opts.offcpu && (rc = attach_waits(p)))
        return refuse(err, rc, "attaching to the scheduler's tracepoints");
    if (p->opts.config.futex_locks &&
        (!(k->links.futex_exits = bpf_program__attach(k->progs.futex_exits)) ||
         !(k->links.futex_enters = bpf_program__attach(k->progs.futex_enters))))
        return refuse(err, -errno, "attaching to the tracepoints of system calls");
    p->is_hardware = true;
    for (int cpu = 0; !rc && p->opts.cpu_hz && cpu < p->cpu_count; cpu++)
        rc = attach_cpu(p, cpu, err);
    if (rc)
        return rc;
    rc = bpf_probes_attach(&p->probes, k, &p->opts, err);
    return rc && rc != -E2BIG ? add_reason(err, rc) : rc;
}

int bpf_programs_start(struct bpf_programs *p, struct fscope_error *err)
{
    if (p->is_running)
        return 0;
    p->is_running = true;
    bpf_messages_begin();
    int rc = attach(p, err);
    bpf_messages_end();
    if (rc)
        bpf_programs_stop(p);
    return rc;
}

// Records follow each other in what is read; a read may end in the middle of one.
static int read_waiting(int fd, bpf_record_fn *fn, void *arg)
{
    enum { CAPACITY = 1 << 17 };
    uint8_t *bytes = malloc(CAPACITY);
    size_t have = 0;
    int rc = bytes ? 0 : -ENOMEM;
    while (!rc) {
        ssize_t n = read(fd, bytes + have, CAPACITY - have);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0) {
            rc = n ? -errno : 0;
            break;
        }
        have += (size_t)n;
        size_t at = 0;
        while (!rc && have - at >= sizeof(struct bpf_head)) {
            const struct bpf_head *head = (const void *)(bytes + at);
            if (head->size < sizeof *head || head->size > CAPACITY)
                rc = -EPROTO;
            else if (have - at < head->size)
                break;
            else
                rc = fn(arg, head);
            at += head->size;
        }
        have = at < have ? have - at : 0;
        memmove(bytes, bytes + at, have);
    }
    free(bytes);
    return rc;
}

int bpf_programs_waiting(struct bpf_programs *p, bpf_record_fn *fn, void *arg)
{
    if (!p->opts.offcpu)
        return 0;
    struct bpf_link *link = bpf_program__attach_iter(p->skeleton->progs.waiting_tasks, NULL);
    int rc = link ? 0 : -errno, fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
    if (link && fd < 0)
        rc = -errno;
    if (fd >= 0) {
        rc = read_waiting(fd, fn, arg);
        close(fd);
    }
    bpf_link__destroy(link);
    return rc;
}

// Waits until no program that was running still runs.
static void wait_for_programs(void)
{
    // All CPUs pass through a state in which none does. Refused where some CPUs have no ticks: programs run for
    // microseconds with interrupts off.
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0)) {
        struct timespec t = {.tv_nsec = 20000000};
        nanosleep(&t, NULL);
    }
}

void bpf_programs_end(struct bpf_programs *p)
{
    for (int i = 0; i < p->link_count; i++)
        bpf_link__destroy(p->links[i]);
    p->link_count = 0;
    free(p->links);
    free(p->events);
    p->links = NULL;
    p->events = NULL;
    profile_bpf__detach(p->skeleton);
    wait_for_programs();
}

void bpf_programs_stop(struct bpf_programs *p)
{
    if (!p->is_running)
        return;
    p->is_running = false;
    bpf_probes_detach(&p->probes);
    bpf_programs_end(p);
}

int bpf_programs_sample_cpu(struct bpf_programs *p, bool on)
{
    int rc = 0;
    for (int i = 0; i < p->link_count; i++)
        if (ioctl(p->events[i], on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0))
            rc = -errno;
    return rc;
}

int bpf_programs_sample_waits(struct bpf_programs *p, bool on)
{
    struct profile_bpf *k = p->skeleton;
    int fd = bpf_map__fd(k->maps.waiting), rc = 0;
    uint32_t tid;
    if (!p->opts.offcpu || on == (k->links.switch_tasks != NULL))
        return p->opts.offcpu ? 0 : -EOPNOTSUPP;
    if (on) {
        bpf_messages_begin();
        rc = attach_waits(p);
        bpf_messages_end();
        if (!rc)
            return 0;
    }
    bpf_link__destroy(k->links.switch_tasks);
    bpf_link__destroy(k->links.wake);
    k->links.switch_tasks = k->links.wake = NULL;
    wait_for_programs();
    while (!rc && !bpf_map_get_next_key(fd, NULL, &tid))
        rc = bpf_map_delete_elem(fd, &tid) && errno != ENOENT ? -errno : 0;
    return rc;
}

bool bpf_programs_is_hardware(const struct bpf_programs *p)
{
    return p->is_hardware;
}

// --- Who is watched.

int bpf_programs_target(struct bpf_programs *p, pid_t pid, uint32_t slot)
{
    uint32_t key = (uint32_t)pid;
    return bpf_map_update_elem(bpf_map__fd(p->skeleton->maps.targets), &key, &slot, BPF_ANY)
               ? -errno
               : 0;
}

void bpf_programs_untarget(struct bpf_programs *p, pid_t pid)
{
    uint32_t key = (uint32_t)pid;
    bpf_map_delete_elem(bpf_map__fd(p->skeleton->maps.targets), &key);
}

int bpf_programs_slot_of(struct bpf_programs *p, pid_t pid, uint32_t *slot)
{
    uint32_t key = (uint32_t)pid;
    return bpf_map_lookup_elem(bpf_map__fd(p->skeleton->maps.targets), &key, slot) ? -ENOENT : 0;
}

// --- Code.

struct bpf_slot *bpf_programs_slots(struct bpf_programs *p)
{
    return p->slots;
}

struct bpf_chunk *bpf_programs_chunks(struct bpf_programs *p)
{
    return p->chunks;
}

struct unwind_rule_row *bpf_programs_rules(struct bpf_programs *p)
{
    return p->skeleton->bss->rules;
}

int bpf_programs_table(struct bpf_programs *p, uint32_t file, const uint32_t *words, uint32_t pages)
{
    uint32_t *first = p->skeleton->bss->table_first;
    if (!file || file >= BPF_FILES_MAX || first[file])
        return -EINVAL;
    return bpf_slabs_put(p->slabs, words, pages, &first[file]);
}

void bpf_programs_table_drop(struct bpf_programs *p, uint32_t file)
{
    uint32_t *first = p->skeleton->bss->table_first;
    if (file >= BPF_FILES_MAX || !first[file])
        return;
    bpf_slabs_drop(p->slabs, first[file]);
    first[file] = 0;
}

// --- What comes.

// What comes meanwhile may keep the ring full for as long as it lasts: it waits for the next turn.
static int64_t consume(struct bpf_programs *p, uint64_t bytes, bpf_record_fn *fn, void *arg)
{
    p->record = fn;
    p->record_arg = arg;
    p->taken = 0;
    p->taken_max = bytes < p->opts.ring_bytes ? bytes : p->opts.ring_bytes;
    int rc = ring_buffer__consume(p->ring);
    p->record = NULL;
    return rc == -EAGAIN ? 1 : rc;
}

int64_t bpf_programs_poll(struct bpf_programs *p, int timeout_ms, int extra_fd, bpf_record_fn *fn,
                          void *arg)
{
    int64_t n = consume(p, BPF_POLL_BYTES, fn, arg);
    if (n || !timeout_ms)
        return n;
    struct pollfd fds[2] = {
        {.fd = ring_buffer__epoll_fd(p->ring), .events = POLLIN},
        {.fd = extra_fd, .events = POLLIN},
    };
    if (poll(fds, 2, timeout_ms) < 0)
        return -errno;
    return consume(p, BPF_POLL_BYTES, fn, arg);
}

static int drain(int fd, bpf_sum_fn *fn, void *arg)
{
    uint64_t *keys = malloc(SUMS_BATCH * sizeof *keys);
    struct bpf_sum *sums = malloc(SUMS_BATCH * sizeof *sums);
    int rc = keys && sums ? 0 : -ENOMEM;
    uint32_t in = 0, out = 0;
    bool is_first = true, is_last = false;
    while (!rc && !is_last) {
        uint32_t n = SUMS_BATCH;
        int error =
            bpf_map_lookup_and_delete_batch(fd, is_first ? NULL : &in, &out, keys, sums, &n, NULL)
                ? errno
                : 0;
        is_first = false;
        is_last = error == ENOENT;
        if (error && !is_last)
            rc = -error;
        in = out;
        for (uint32_t i = 0; !rc && i < n; i++)
            rc = fn(arg, keys[i], &sums[i]);
    }
    free(keys);
    free(sums);
    return rc;
}

struct wait { // as profile.bpf.c has it
    uint64_t since, runnable_since, key;
};

static struct bpf_sum unended(const struct bpf_programs *p, const struct wait *w, uint64_t now)
{
    uint64_t weight = p->opts.offcpu, runnable = w->runnable_since;
    uint64_t ns = bpf_programs_counted_ns(p, w->since, now);
    return (struct bpf_sum){
        .count = ns ? weight : 0,
        .ns = ns * weight,
        .runnable_ns = runnable ? bpf_programs_counted_ns(p, runnable, now) * weight : 0,
    };
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int each_wait(const struct bpf_programs *p, uint64_t now, bpf_sum_fn *fn, void *arg)
{
    uint32_t *tids = malloc(SUMS_BATCH * sizeof *tids), in = 0, out = 0;
    struct wait *waits = malloc(SUMS_BATCH * sizeof *waits);
    bool is_first = true, is_last = false;
    int rc = tids && waits ? 0 : -ENOMEM, fd = bpf_map__fd(p->skeleton->maps.waiting);
    while (!rc && !is_last) {
        uint32_t n = SUMS_BATCH;
        int error = bpf_map_lookup_batch(fd, is_first ? NULL : &in, &out, tids, waits, &n, NULL)
                        ? errno
                        : 0;
        is_first = false;
        is_last = error == ENOENT;
        rc = error && !is_last ? -error : 0;
        in = out;
        for (uint32_t i = 0; !rc && i < n; i++) {
            struct bpf_sum sum = unended(p, &waits[i], now);
            rc = waits[i].key && waits[i].since ? fn(arg, waits[i].key, &sum) : 0;
        }
    }
    free(tids);
    free(waits);
    return rc;
}

int bpf_programs_waits(struct bpf_programs *p, bpf_sum_fn *fn, void *arg)
{
    return each_wait(p, now_ns(), fn, arg);
}

// A wait that still lasts after the banks were changed has its sum in the new one.
int bpf_programs_cut(struct bpf_programs *p, bpf_sum_fn *lasting, bpf_record_fn *record,
                     bpf_sum_fn *fn, void *arg, uint64_t *when)
{
    int full = p->bank;
    p->bank = !full;
    __atomic_store_n(&p->skeleton->bss->bank, (uint32_t)p->bank, __ATOMIC_SEQ_CST);
    *when = now_ns();
    int rc = lasting ? each_wait(p, *when, lasting, arg) : 0;
    if (rc)
        return rc;
    wait_for_programs();
    int64_t n = consume(p, UINT64_MAX, record, arg); // all that was in it
    if (n < 0)
        return (int)n;
    return drain(bpf_map__fd(full ? p->skeleton->maps.sums_1 : p->skeleton->maps.sums_0), fn, arg);
}

int bpf_programs_sums(struct bpf_programs *p, bpf_record_fn *record, bpf_sum_fn *fn, void *arg)
{
    uint64_t when;
    return bpf_programs_cut(p, NULL, record, fn, arg, &when);
}

struct profile_bpf *bpf_programs_skeleton(const struct bpf_programs *p)
{
    return p->skeleton;
}
