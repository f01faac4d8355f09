// SPDX-License-Identifier: MIT
//
// Numbers of a session's process, for who scrapes them: see session.h. Each is read anew, and what cannot be had is left
// out.

#include "collector/session_internal.h"

#include "collector/cgroup_memory.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Neither sums nor what is made of them overflow.
#define VALUE_MAX    (UINT64_C(1) << 52)
#define ASK_AGAIN_NS UINT64_C(60000000000)

static uint64_t load(const _Atomic uint64_t *v)
{
    uint64_t value = atomic_load_explicit(v, memory_order_relaxed);
    return value < VALUE_MAX ? value : VALUE_MAX;
}

static size_t read_file(const struct session *s, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/%s", s->pid, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, size - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return n;
}

// --- The kernel's.

static double boot_time_s(void)
{
    struct timespec real, boot;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (double)(real.tv_sec - boot.tv_sec) + 1e-9 * (double)(real.tv_nsec - boot.tv_nsec);
}

// /proc/PID/stat: behind the name, which may hold anything, field 3 comes first.
static bool read_stat(const struct session *s, struct session_metrics *m)
{
    enum { UTIME = 14, STIME = 15, THREADS = 20, START = 22, VSIZE = 23, RSS = 24 };
    char text[4096], *at;
    uint64_t fields[RSS + 1] = {0};
    double per_s = (double)sysconf(_SC_CLK_TCK);
    if (!read_file(s, "stat", text, sizeof text) || !(at = strrchr(text, ')')))
        return false;
    at += strcspn(at, " ");
    at += strspn(at, " ");
    for (int i = 3; i <= RSS && *at; i++) {
        fields[i] = strtoull(at, NULL, 10);
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    m->cpu_s = (double)(fields[UTIME] + fields[STIME]) / per_s;
    m->start_s = boot_time_s() + (double)fields[START] / per_s;
    m->threads = fields[THREADS];
    m->virtual_bytes = fields[VSIZE];
    m->rss_bytes = fields[RSS] * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

static bool read_limit(const char *limits, const char *what, uint64_t *out)
{
    const char *at = strstr(limits, what);
    at = at ? at + strlen(what) : "";
    at += strspn(at, " ");
    bool ok = *at >= '0' && *at <= '9'; // "unlimited" is none
    if (ok)
        *out = strtoull(at, NULL, 10);
    return ok;
}

static void read_kernel(const struct session *s, struct session_metrics *m)
{
    char text[8192], path[64];
    struct cgroup_memory c;
    m->has_process = read_stat(s, m);
    read_file(s, "limits", text, sizeof text);
    m->has_fds_max = read_limit(text, "\nMax open files", &m->fds_max);
    m->has_virtual_max = read_limit(text, "\nMax address space", &m->virtual_max_bytes);
    snprintf(path, sizeof path, "/proc/%u/fd", s->pid);
    DIR *dir = opendir(path);
    m->has_fds = dir != NULL;
    for (struct dirent *e; dir && (e = readdir(dir));)
        m->fds += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    read_file(s, "cgroup", text, sizeof text);
    cgroup_memory_read(&c, text, "/sys/fs/cgroup");
    m->has_cgroup = c.has_current;
    m->has_cgroup_limit = c.has_limit;
    m->cgroup_bytes = c.current;
    m->cgroup_limit_bytes = c.limit;
    m->cgroup_headroom_bytes = c.headroom;
}

// --- The agent's.

struct adding {
    struct seg_reader *reader;
    struct session_metrics *m;
    uint64_t rate_bytes;
    struct {
        uint32_t id;
        uint32_t index; // of m->regions
    } ids[4 * SESSION_REGIONS_MAX];
    size_t id_count;
};

// As builder_values.c, entry by entry.
static void add_heap(struct adding *a, const struct seg_state *e)
{
    struct session_metrics *m = a->m;
    double objects = (double)load(&e->values[0]), bytes = (double)load(&e->values[1]), factor = 1;
    if (a->rate_bytes > 1 && objects > 0 && bytes > 0)
        factor = 1 / (1 - exp(-bytes / objects / (double)a->rate_bytes));
    m->heap_alloc_objects += factor * objects;
    m->heap_alloc_bytes += factor * bytes;
    m->heap_live_objects += factor * (objects - (double)load(&e->values[2]));
    m->heap_live_bytes += factor * (bytes - (double)load(&e->values[3]));
}

// The one for names that are too many is the first.
static struct session_region *region_named(struct session_metrics *m, const char *name)
{
    if (!m->region_count)
        m->region_count = 1;
    for (size_t i = 0; i < m->region_count; i++)
        if (strcmp(m->regions[i].name, name) == 0)
            return &m->regions[i];
    if (m->region_count > SESSION_REGIONS_MAX)
        return &m->regions[0];
    struct session_region *r = &m->regions[m->region_count++];
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static struct session_region *region_of(struct adding *a, uint32_t id)
{
    char name[SESSION_NAME] = "";
    for (size_t i = 0; i < a->id_count; i++)
        if (a->ids[i].id == id)
            return &a->m->regions[a->ids[i].index];
    if (!id || seg_reader_string(a->reader, id, name, sizeof name) < 0)
        name[0] = '\0';
    struct session_region *r = region_named(a->m, name);
    if (a->id_count < sizeof a->ids / sizeof *a->ids) {
        a->ids[a->id_count].id = id;
        a->ids[a->id_count++].index = (uint32_t)(r - a->m->regions);
    }
    return r;
}

static void add_region(struct adding *a, const struct seg_state *e)
{
    uint64_t count = load(&e->values[0]), bucket = e->object >> 32;
    if (!count)
        return;
    struct session_region *r = region_of(a, (uint32_t)e->object);
    r->count += count;
    r->ns += load(&e->values[1]);
    r->errors += load(&e->values[2]);
    // What found no place of its own is of any length.
    if (!e->object || bucket >= SESSION_BUCKETS)
        r->unmeasured += count;
    else
        r->buckets[bucket] += count;
}

static int add_state(void *arg, const struct seg_state *e, uint32_t index)
{
    struct adding *a = arg;
    (void)index;
    switch (e->kind) {
    case SEG_KIND_HEAP: add_heap(a, e); break;
    case SEG_KIND_REGION: add_region(a, e); break;
    case SEG_KIND_MUTEX:
        a->m->mutex_contentions += load(&e->values[0]);
        a->m->mutex_wait_s += 1e-9 * (double)load(&e->values[1]);
        break;
    case SEG_KIND_BLOCK:
        a->m->block_contentions += load(&e->values[0]);
        a->m->block_wait_s += 1e-9 * (double)load(&e->values[1]);
        break;
    default: break;
    }
    return 0;
}

// Under the lock: what is recorded; and regions are, from now on.
static int look(struct session *s, struct session_metrics *m, uint64_t *rate_bytes)
{
    const struct call_wish regions = {.what = SEG_ASK_REGIONS, .hold = 1u << SEG_HELD_REGIONS};
    struct seg_control *c = s->reader ? seg_reader_control(s->reader) : NULL;
    if (!c)
        return -EOPNOTSUPP;
    *rate_bytes = load(&c->heap_rate_bytes);
    m->has_heap = *rate_bytes != 0;
    m->has_block = load(&c->block_rate_ns) != 0;
    m->has_mutex = load(&c->mutex_fraction) != 0;
    m->has_regions = load(&c->region_times) != 0;
    bool is_held = seg_reader_is_holding(s->reader) & 1u << SEG_HELD_REGIONS;
    uint64_t now = record_now_ns(CLOCK_MONOTONIC);
    bool is_tried = s->regions_asked_ns && now - s->regions_asked_ns < ASK_AGAIN_NS;
    if (!is_held && !is_tried) { // one that does not answer is not asked at each scrape
        s->regions_asked_ns = now;
        call_ask(&s->call, s->reader, &regions, NULL);
        m->has_regions = load(&c->region_times) != 0;
    }
    return 0;
}

static void read_agent(struct session *s, struct session_metrics *m)
{
    struct adding a = {.m = m};
    m->has_counts = session_counts(s, &m->counts) == 0; // looks whether there is a new image, too
    pthread_mutex_lock(&s->lock);
    int rc = look(s, m, &a.rate_bytes);
    pthread_mutex_unlock(&s->lock);
    int fd = rc ? -1 : session_segment(s);
    if (fd < 0 || seg_reader_open_parts(&a.reader, fd, SEG_READER_STATE, NULL)) {
        m->has_heap = m->has_block = m->has_mutex = m->has_regions = false;
        return;
    }
    seg_reader_states(a.reader, add_state, &a);
    seg_reader_close(a.reader);
    m->heap_live_objects = fmax(m->heap_live_objects, 0);
    m->heap_live_bytes = fmax(m->heap_live_bytes, 0);
    if (m->counts.is_exact) {
        m->heap_alloc_objects = (double)m->counts.heap_alloc_objects;
        m->heap_alloc_bytes = (double)m->counts.heap_alloc_bytes;
        m->heap_live_objects = (double)m->counts.heap_live_objects;
        m->heap_live_bytes = (double)m->counts.heap_live_bytes;
    }
}

int session_metrics(struct session *s, struct session_metrics *out)
{
    memset(out, 0, sizeof *out);
    read_kernel(s, out);
    if (s->kernel)
        session_kernel_metrics(s, out);
    else
        read_agent(s, out);
    return out->has_process ? 0 : -ESRCH;
}
