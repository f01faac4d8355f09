// SPDX-License-Identifier: MIT
//
// Processes and their maps: see perf_code.h. Files, tables and walking are in perf_walk.c.

#include "collector/perf_code_internal.h"
#include "collector/perf_target.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

// Of all files together: anyone's, so that nobody's sparse files make us take all memory.
#define TABLE_BYTES_MAX (UINT64_C(1) << 30)
#define ENDED_STAYS_NS  UINT64_C(2000000000)

int perf_code_new(struct perf_code **out, struct builder *b)
{
    struct perf_code *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->builders[c->builder_count++] = b;
    c->table_bytes_max = TABLE_BYTES_MAX;
    c->next_generation = 1; // 0 marks an empty row
    *out = c;
    return 0;
}

void perf_code_free(struct perf_code *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++) {
        for (struct perf_process *p = c->processes[i], *next; p; p = next) {
            next = p->next;
            free(p->maps);
            free(p);
        }
    }
    code_files_free(c);
    free(c);
}

static struct perf_process *find_process(const struct perf_code *c, uint32_t pid)
{
    struct perf_process *p = c->processes[pid % PROCESS_BUCKETS];
    while (p && p->pid != pid)
        p = p->next;
    return p;
}

// A process without maps; an earlier one of this pid is forgotten.
static struct perf_process *put_process(struct perf_code *c, uint32_t pid, uint64_t when,
                                        const char *name)
{
    struct perf_process *p = find_process(c, pid);
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p)
            return NULL;
        p->pid = pid;
        p->next = c->processes[pid % PROCESS_BUCKETS];
        c->processes[pid % PROCESS_BUCKETS] = p;
    }
    p->map_count = 0;
    p->has_ended = false;
    p->ended_ns = 0;
    p->generation = c->next_generation++;
    p->code = c;
    p->start = when;
    snprintf(p->name, sizeof p->name, "%s", name ? name : "");
    memset(p->out, 0, sizeof p->out);
    if (!c->is_lazy)
        p->out[0] = builder_process(c->builders[0], pid, when, name);
    return p->out[0] || c->is_lazy ? p : NULL;
}

static void drop_process(struct perf_code *c, struct perf_process *p)
{
    struct perf_process **at = &c->processes[p->pid % PROCESS_BUCKETS];
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    free(p->maps);
    free(p);
}

int perf_code_add_builder(struct perf_code *c, struct builder *b)
{
    if (c->builder_count == PERF_BUILDERS_MAX)
        return -ENOSPC;
    c->builders[c->builder_count++] = b;
    return 0;
}

void perf_code_replace_builder(struct perf_code *c, const struct builder *old, struct builder *b)
{
    size_t at = 0;
    while (at < c->builder_count && c->builders[at] != old)
        at++;
    if (at == c->builder_count)
        return;
    c->builders[at] = b;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct perf_process *p = c->processes[i]; p; p = p->next)
            p->out[at] = NULL;
}

void perf_code_be_lazy(struct perf_code *c)
{
    c->is_lazy = true;
}

struct builder_process *perf_process_builder(struct perf_process *p)
{
    return perf_process_in(p, p->code->builders[0]);
}

struct builder_process *perf_process_in(struct perf_process *p, const struct builder *b)
{
    const struct perf_code *c = p->code;
    size_t at = 0;
    while (at < c->builder_count && c->builders[at] != b)
        at++;
    if (at == c->builder_count || p->out[at])
        return at == c->builder_count ? NULL : p->out[at];
    p->out[at] = builder_process(c->builders[at], p->pid, p->start, p->name[0] ? p->name : NULL);
    for (size_t i = 0; p->out[at] && i < p->map_count; i++)
        if (code_tell_builder_again(p->out[at], &p->maps[i], p->maps[i].when))
            return NULL;
    return p->out[at];
}

uint32_t perf_process_pid(const struct perf_process *p)
{
    return p->pid;
}

uint64_t perf_process_generation(const struct perf_process *p)
{
    return p->generation;
}

size_t perf_process_map_count(const struct perf_process *p)
{
    return p->map_count;
}

// --- Maps.

// The index of the first map that ends beyond address.
static size_t map_position(const struct perf_process *p, uint64_t address)
{
    size_t lo = 0, hi = p->map_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->maps[mid].end <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct code_map *code_find_map(const struct perf_process *p, uint64_t pc)
{
    size_t i = map_position(p, pc);
    return i < p->map_count && p->maps[i].start <= pc ? &p->maps[i] : NULL;
}

// Makes room for two more maps: what is replaced may be cut in two.
static int reserve_maps(struct perf_process *p)
{
    if (p->map_count + 2 <= p->map_capacity)
        return 0;
    size_t capacity = p->map_capacity ? 2 * p->map_capacity : 32;
    struct code_map *grown = reallocarray(p->maps, capacity, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    p->maps = grown;
    p->map_capacity = capacity;
    return 0;
}

static void insert_map(struct perf_process *p, size_t at, const struct code_map *m)
{
    memmove(&p->maps[at + 1], &p->maps[at], (p->map_count - at) * sizeof *p->maps);
    p->maps[at] = *m;
    p->map_count++;
}

// Cuts [start, end) out of the maps.
static void cut_maps(struct perf_process *p, uint64_t start, uint64_t end)
{
    size_t i = map_position(p, start);
    if (i < p->map_count && p->maps[i].start < start && p->maps[i].end > end) {
        struct code_map tail = p->maps[i];
        tail.offset += end - tail.start;
        tail.start = end;
        p->maps[i].end = start;
        insert_map(p, i + 1, &tail);
        return;
    }
    if (i < p->map_count && p->maps[i].start < start)
        p->maps[i++].end = start;
    size_t keep = i;
    while (keep < p->map_count && p->maps[keep].end <= end)
        keep++;
    memmove(&p->maps[i], &p->maps[keep], (p->map_count - keep) * sizeof *p->maps);
    p->map_count -= keep - i;
    if (i < p->map_count && p->maps[i].start < end) {
        p->maps[i].offset += end - p->maps[i].start;
        p->maps[i].start = end;
    }
}

int code_add_map(struct perf_code *c, struct perf_process *p, const struct mapping *m)
{
    struct code_map map = {.start = m->start, .end = m->end, .offset = m->offset, .when = m->when};
    if (m->start >= m->end)
        return 0;
    const struct code_map *known = code_find_map(p, m->start);
    struct code_file *file = code_file(c, p, m);
    if (!file && errno == ENOMEM)
        return -ENOMEM;
    if (known && known->start == m->start && known->end == m->end && known->offset == m->offset &&
        known->file == file)
        return 0; // seen in /proc and in a record
    if (reserve_maps(p))
        return -ENOMEM;
    map.file = file;
    cut_maps(p, m->start, m->end);
    insert_map(p, map_position(p, m->start), &map);
    p->generation = c->next_generation++;
    int rc = 0;
    for (size_t i = 0; !rc && i < c->builder_count; i++)
        rc = code_tell_builder(p->out[i], m, file);
    return rc;
}

// --- /proc.

// One line of /proc/PID/maps; false if it does not look like one or is not executable.
static bool parse_maps_line(char *line, struct mapping *m)
{
    unsigned long long start, end, offset, inode;
    unsigned major_number, minor_number;
    char protection[5];
    int path = 0;
    if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu %n", &start, &end, protection, &offset,
               &major_number, &minor_number, &inode, &path) < 7 ||
        protection[2] != 'x')
        return false;
    line[strcspn(line, "\n")] = '\0';
    *m = (struct mapping){
        .start = start,
        .end = end,
        .offset = offset,
        .device = makedev(major_number, minor_number),
        .inode = inode,
        .path = line + path,
    };
    return true;
}

// *is_read: there was something in it.
static int scan_maps(struct perf_code *c, struct perf_process *p, const char *path, uint64_t when,
                     bool *is_read)
{
    char *line = NULL;
    size_t size = 0;
    int rc = 0;
    FILE *f = fopen(path, "re");
    *is_read = false;
    while (f && !rc && getline(&line, &size, f) > 0) {
        struct mapping m;
        *is_read = true;
        if (!parse_maps_line(line, &m) || strcmp(m.path, "[vsyscall]") == 0)
            continue;
        m.when = when;
        rc = code_add_map(c, p, &m);
    }
    free(line);
    if (f)
        fclose(f);
    return rc;
}

int code_scan(struct perf_code *c, struct perf_process *p, uint64_t when)
{
    char path[320];
    bool is_read;
    snprintf(path, sizeof path, "/proc/%u/maps", p->pid);
    int rc = scan_maps(c, p, path, when, &is_read);
    if (is_read)
        return rc;
    // It is the first thread's, and empty once that has ended; the others still have theirs.
    snprintf(path, sizeof path, "/proc/%u/task", p->pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && !rc && !is_read && (e = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%u/task/%s/maps", p->pid, e->d_name);
        if (e->d_name[0] != '.')
            rc = scan_maps(c, p, path, when, &is_read);
    }
    if (d)
        closedir(d);
    return rc;
}

static bool read_comm(const char *path, char name[64])
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(name, 64, f);
    if (f)
        fclose(f);
    if (ok)
        name[strcspn(name, "\n")] = '\0';
    return ok;
}

static int scan_threads(struct perf_process *p)
{
    char path[320], name[64];
    int rc = 0;
    snprintf(path, sizeof path, "/proc/%u/task", p->pid);
    DIR *d = opendir(path);
    for (struct dirent *e; p->out[0] && d && !rc && (e = readdir(d));) {
        int tid = atoi(e->d_name);
        snprintf(path, sizeof path, "/proc/%u/task/%s/comm", p->pid, e->d_name);
        if (tid > 0 && read_comm(path, name))
            rc = builder_thread(p->out[0], (uint32_t)tid, name);
    }
    if (d)
        closedir(d);
    return rc;
}

struct perf_process *perf_code_process(struct perf_code *c, uint32_t pid, uint64_t when)
{
    struct perf_process *p = find_process(c, pid);
    if (p)
        return p;
    char path[64], name[64];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    p = put_process(c, pid, when, read_comm(path, name) ? name : NULL);
    // What is mapped now is taken to have been there from the start: it was so for nearly all of it.
    if (!p || code_scan(c, p, 0) || scan_threads(p))
        return NULL;
    return p;
}

struct perf_process *perf_code_blank(struct perf_code *c, uint32_t pid, uint64_t when)
{
    return put_process(c, pid, when, NULL);
}

int perf_code_rescan(struct perf_code *c, uint64_t when)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct perf_process *p = c->processes[i]; p; p = p->next)
            if (!p->has_ended && code_scan(c, p, when))
                return -ENOMEM;
    return 0;
}

int perf_code_look_again(struct perf_code *c, struct perf_process *p, uint64_t when)
{
    return code_scan(c, p, when);
}

void perf_code_each_pid(const struct perf_code *c, void (*fn)(void *arg, uint32_t pid), void *arg)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct perf_process *p = c->processes[i]; p; p = p->next)
            if (!p->has_ended)
                fn(arg, p->pid);
}

// --- Records.

int perf_code_fork(struct perf_code *c, const struct perf_record *r)
{
    if (r->task.pid == r->task.parent_pid)
        return 0; // a thread; a COMM record gives it a name if it takes one of its own
    struct perf_process *parent = perf_code_process(c, r->task.parent_pid, r->time_ns);
    if (!parent)
        return -ENOMEM;
    struct perf_process *child = put_process(c, r->task.pid, r->time_ns, parent->name);
    if (!child)
        return -ENOMEM;
    memcpy(child->name, parent->name, sizeof child->name);
    for (size_t i = 0; i < parent->map_count; i++) {
        if (reserve_maps(child))
            return -ENOMEM;
        child->maps[child->map_count] = parent->maps[i];
        child->maps[child->map_count++].when = r->time_ns;
        if (code_tell_builder_again(child->out[0], &parent->maps[i], r->time_ns))
            return -ENOMEM;
    }
    child->generation = parent->generation; // the same code at the same addresses
    return 0;
}

// Samples that are older than its end may come later than this is known: a process stays for a while.
static void forget_ended(struct perf_code *c, uint64_t now)
{
    if (!c->is_lazy || now < c->forgot_ns + ENDED_STAYS_NS)
        return;
    c->forgot_ns = now;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct perf_process *p = c->processes[i], *next; p; p = next) {
            next = p->next;
            if (p->has_ended && now >= p->ended_ns + ENDED_STAYS_NS)
                drop_process(c, p);
        }
}

void perf_code_exit(struct perf_code *c, const struct perf_record *r)
{
    struct perf_process *p = find_process(c, r->task.pid);
    if (!p)
        return;
    // Other threads may outlive the first one: the maps stay for them.
    if (!c->is_lazy)
        p->has_ended |= r->task.tid == r->task.pid;
    else if (perf_target_has_ended(p->pid)) {
        p->has_ended = true;
        p->ended_ns = r->time_ns;
    }
    forget_ended(c, r->time_ns);
}

int perf_code_comm(struct perf_code *c, const struct perf_record *r)
{
    struct perf_process *p = r->comm.is_exec ? put_process(c, r->pid, r->time_ns, r->comm.name)
                                             : perf_code_process(c, r->pid, r->time_ns);
    if (!p)
        return -ENOMEM;
    if (r->pid == r->tid)
        snprintf(p->name, sizeof p->name, "%s", r->comm.name);
    int rc = 0;
    for (size_t i = 0; !rc && i < c->builder_count; i++)
        rc = p->out[i] ? builder_thread(p->out[i], r->tid, r->comm.name) : 0;
    return rc;
}

int perf_code_mmap(struct perf_code *c, const struct perf_record *r)
{
    if (!(r->mmap.protection & PROT_EXEC) ||
        (r->misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL)
        return 0;
    struct perf_process *p = perf_code_process(c, r->pid, r->time_ns);
    if (!p)
        return -ENOMEM;
    struct mapping m = {
        .start = r->mmap.start,
        .end = r->mmap.start + r->mmap.size,
        .offset = r->mmap.offset,
        .device = r->mmap.device,
        .inode = r->mmap.inode,
        .build_id = r->mmap.build_id,
        .build_id_size = r->mmap.build_id_size,
        .path = r->mmap.path,
        .when = r->time_ns,
    };
    return code_add_map(c, p, &m);
}
