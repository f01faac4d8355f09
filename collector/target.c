// SPDX-License-Identifier: MIT
//
// See target.h: processes, and what they have in common with core files.

#include "collector/target_internal.h"

#include "collector/mapped_file.h"
#include "collector/perf_target.h"
#include "collector/permission.h"
#include "segment/consumer.h"
#include "symbols/symbols.h"
#include "unwind/step.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { STACK_BYTES_MAX = 1 << 20, PAGE = 4096 };

uint32_t target_pid(const struct target *t)
{
    return t->pid;
}

const char *target_name(const struct target *t)
{
    return t->name;
}

bool target_is_core(const struct target *t)
{
    return t->core_fd >= 0;
}

bool target_is_cut(const struct target *t)
{
    return t->is_cut;
}

void target_note_gap(struct target *t)
{
    t->has_gaps = true;
}

bool target_has_gaps(const struct target *t)
{
    return t->has_gaps;
}

size_t target_threads(const struct target *t, const struct target_thread **out)
{
    *out = t->threads;
    return t->thread_count;
}

bool target_end(const struct target *t, struct target_end *out)
{
    *out = t->end;
    return t->end.signal != 0;
}

void target_close(struct target *t)
{
    if (!t)
        return;
    for (struct target_file *f = t->files, *next; f; f = next) {
        next = f->next;
        if (f->fd >= 0)
            close(f->fd);
        perf_elf_finish(&f->elf);
        data_symbols_close(f->symbols);
        free(f->path);
        free(f);
    }
    if (t->core_fd >= 0)
        close(t->core_fd);
    free(t->maps);
    free(t->loads);
    free(t->threads);
    free(t);
}

// --- Maps.

static struct target_file *find_file(struct target *t, const char *path, uint64_t device,
                                     uint64_t inode)
{
    for (struct target_file *f = t->files; f; f = f->next)
        if (f->inode == inode && f->device == device && strcmp(f->path, path) == 0)
            return f;
    struct target_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return NULL;
    }
    f->fd = -1;
    f->device = device;
    f->inode = inode;
    f->next = t->files;
    t->files = f;
    return f;
}

int target_add_map(struct target *t, const struct target_map *m, const char *path, uint64_t device,
                   uint64_t inode)
{
    if (t->map_count == t->map_capacity) {
        size_t n = t->map_capacity * 2 + 64;
        struct target_map *grown = reallocarray(t->maps, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        t->maps = grown;
        t->map_capacity = n;
    }
    t->maps[t->map_count] = *m;
    bool has_file = (path[0] == '/' && strncmp(path, "//", 2) != 0) || !strcmp(path, "[vdso]");
    if (has_file && !(t->maps[t->map_count].file = find_file(t, path, device, inode)))
        return -ENOMEM;
    t->map_count++;
    return 0;
}

static int compare_maps(const void *a, const void *b)
{
    const struct target_map *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

void target_sort_maps(struct target *t)
{
    if (t->map_count)
        qsort(t->maps, t->map_count, sizeof *t->maps, compare_maps);
}

const struct target_map *target_map_at(const struct target *t, uint64_t address)
{
    size_t low = 0, high = t->map_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (t->maps[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->map_count && t->maps[low].start <= address ? &t->maps[low] : NULL;
}

uint64_t target_map_end(const struct target *t, uint64_t address)
{
    const struct target_map *m = target_map_at(t, address);
    return m ? m->end : 0;
}

static int no_permission(const struct target *t, int rc, struct fscope_error *err)
{
    char why[256];
    permission_explain(t->pid, PERMISSION_READ, why, sizeof why);
    return error_set(err, rc, 0, "process %u (%s): its memory may not be read: %s", t->pid, t->name,
                     why);
}

static int read_maps(struct target *t, struct fscope_error *err)
{
    char path[64], *line = NULL;
    size_t size = 0;
    int rc = 0;
    snprintf(path, sizeof path, "/proc/%u/maps", t->reader);
    FILE *f = fopen(path, "re");
    if (!f && (errno == EACCES || errno == EPERM))
        return no_permission(t, -EPERM, err);
    if (!f)
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    while (!rc && getline(&line, &size, f) > 0) {
        unsigned long long start, end, offset, inode;
        unsigned major, minor;
        char access[5];
        int at = 0;
        if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu %n", &start, &end, access, &offset, &major,
                   &minor, &inode, &at) < 7)
            continue;
        line[strcspn(line, "\n")] = '\0';
        struct target_map m = {
            .start = start, .end = end, .offset = offset, .is_code = access[2] == 'x'};
        uint64_t device = ((uint64_t)(major & ~0xfffu) << 32) | ((uint64_t)(minor & ~0xffu) << 12) |
                          ((uint64_t)(major & 0xfff) << 8) | (minor & 0xff);
        rc = target_add_map(t, &m, at ? line + at : "", device, inode);
        struct target_file *file = rc ? NULL : t->maps[t->map_count - 1].file;
        if (file && file->fd < 0 && file->path[0] == '/') {
            struct mapped_file mf = {.pid = t->reader,
                                     .start = start,
                                     .end = end,
                                     .path = file->path,
                                     .build_id = "",
                                     .device = device,
                                     .inode = inode};
            file->fd = mapped_file_open(&mf);
            if (file->fd >= 0 &&
                symbols_build_id_of_fd(file->fd, file->build_id, sizeof file->build_id) < 0)
                file->build_id[0] = '\0';
        }
    }
    free(line);
    fclose(f);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

// Whether it may be read, and is there; that its first page is not to be read says nothing.
static int try_memory(const struct target *t, struct fscope_error *err)
{
    uint64_t word;
    int rc = t->map_count ? target_read(t, t->maps[0].start, &word, sizeof word) : 0;
    if (rc == -EPERM)
        return no_permission(t, rc, err);
    if (rc && rc != -EFAULT)
        return error_set(err, rc, 0, "process %u (%s): %s", t->pid, t->name, strerror(-rc));
    return 0;
}

static bool read_state(uint32_t pid, const char *tid, char *state, char *name, size_t size)
{
    char path[96], line[512];
    snprintf(path, sizeof path, "/proc/%u/task/%.20s/stat", pid, tid);
    FILE *f = fopen(path, "re");
    char *got = f ? fgets(line, sizeof line, f) : NULL;
    if (f)
        fclose(f);
    char *open_mark = got ? strchr(line, '(') : NULL, *end = got ? strrchr(line, ')') : NULL;
    if (!open_mark || !end || sscanf(end + 1, " %c", state) != 1)
        return false;
    *end = '\0';
    snprintf(name, size, "%s", open_mark + 1);
    return true;
}

static bool is_leader(uint32_t pid)
{
    char path[64], line[128];
    unsigned group = 0;
    snprintf(path, sizeof path, "/proc/%u/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "Tgid: %u", &group) != 1)
        ;
    if (f)
        fclose(f);
    return group == pid;
}

// A thread that lives on when the first one has ended: pthread_exit in main. 0: there is none. The name is the first
// one's.
static uint32_t find_survivor(uint32_t pid, char *name, size_t size)
{
    char path[64], own[16], other[64], state;
    uint32_t found = 0;
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    snprintf(own, sizeof own, "%u", pid);
    if (!read_state(pid, own, &state, name, size))
        return 0;
    for (char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && !found && (e = readdir(dir));)
        if (*e->d_name != '.' && read_state(pid, e->d_name, &state, other, sizeof other) &&
            state != 'Z' && state != 'X')
            found = (uint32_t)strtoul(e->d_name, NULL, 10);
    if (dir)
        closedir(dir);
    return found;
}

int target_open_pid(struct target **out, uint32_t pid, struct fscope_error *err)
{
    struct perf_target who;
    uint32_t reader = pid;
    *out = NULL;
    int rc = perf_target_look(&who, pid, err);
    if (rc == -ESRCH && is_leader(pid))
        rc = (reader = find_survivor(pid, who.name, sizeof who.name)) ? 0 : rc;
    if (rc)
        return rc;
    struct target *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, -ENOMEM, 0, "out of memory");
    t->core_fd = -1;
    t->pid = pid;
    t->reader = reader;
    snprintf(t->name, sizeof t->name, "%s", who.name);
    rc = read_maps(t, err);
    target_sort_maps(t);
    if (!rc)
        rc = try_memory(t, err);
    if (rc) {
        target_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

// --- Memory.

size_t target_read_some(const struct target *t, uint64_t address, void *out, size_t size)
{
    if (t->core_fd >= 0)
        return target_read_core(t, address, out, size);
    struct iovec here = {out, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t n = process_vm_readv((pid_t)t->reader, &here, 1, &there, 1, 0);
    return n > 0 ? (size_t)n : 0;
}

int target_read(const struct target *t, uint64_t address, void *out, size_t size)
{
    errno = EFAULT;
    size_t n = target_read_some(t, address, out, size);
    return n == size ? 0 : n ? -EFAULT : -errno;
}

// --- Files.

int target_loaded(const struct target *t, struct target_file *f, struct loaded *out)
{
    struct loaded_map maps[LOADED_MAPS_MAX];
    size_t n = 0;
    if (!f->is_placed) {
        for (size_t i = 0; i < t->map_count && n < LOADED_MAPS_MAX; i++) {
            const struct target_map *m = &t->maps[i];
            if (m->file == f)
                maps[n++] = (struct loaded_map){m->start, m->end, m->offset, m->is_code};
        }
        f->place_rc =
            f->fd < 0 ? -ENOENT
                      : loaded_find(&f->place, maps, n, f->fd, target_is_core(t) ? 0 : t->reader);
        f->is_placed = true;
    }
    *out = f->place;
    return f->place_rc;
}

int target_find_variable(struct target *t, const char *library, const char *name, uint64_t *address)
{
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < t->map_count; i++) {
            struct target_file *f = t->maps[i].file;
            struct loaded place;
            uint64_t at;
            if (!f || (i && t->maps[i - 1].file == f) ||
                (strstr(f->path, library) != NULL) != (round == 0) || target_loaded(t, f, &place))
                continue;
            const struct data_symbols *d = target_file_symbols(f);
            if (d && !data_symbols_address(d, name, &at)) {
                *address = at + place.bias;
                return 0;
            }
        }
    return -ENOENT;
}

bool target_file_range(const struct target *t, uint64_t address, const char *part, uint64_t *start,
                       uint64_t *end)
{
    const struct target_map *m = target_map_at(t, address);
    if (!m || !m->file)
        return false;
    const char *slash = strrchr(m->file->path, '/');
    *start = m->start;
    *end = m->end;
    return strstr(slash ? slash : m->file->path, part) != NULL;
}

int target_tell_builder(const struct target *t, struct builder_process *p)
{
    for (size_t i = 0; i < t->map_count; i++) {
        const struct target_map *m = &t->maps[i];
        if (!m->is_code || !m->file)
            continue;
        struct builder_module bm = {
            .start = m->start,
            .end = m->end,
            .offset = m->offset,
            .path = m->file->path,
            .build_id = m->file->build_id,
            .device = m->file->device,
            .inode = m->file->inode,
            .fd = m->file->fd >= 0 ? dup(m->file->fd) : -1,
        };
        int rc = builder_module(p, &bm);
        if (rc == -ENOMEM)
            return rc;
    }
    return 0;
}

// --- The agent's segment.

static int read_segment(void *arg, uint64_t offset, void *out, uint64_t n)
{
    const struct target *t = arg;
    return target_read(t, t->segment + offset, out, n);
}

int target_open_segment(struct target *t, const char *path, struct seg_reader **out,
                        struct fscope_error *err)
{
    struct seg_header h;
    *out = NULL;
    if (target_is_core(t)) {
        int rc = seg_reader_open_file(out, path, err);
        return rc == -EINVAL ? -ENODATA : rc;
    }
    for (size_t i = 0; i < t->map_count; i++) {
        const struct target_map *m = &t->maps[i];
        uint64_t magic = 0;
        if (!m->file || m->is_code || m->offset || target_read(t, m->start, &magic, sizeof magic) ||
            magic != SEG_MAGIC || target_read(t, m->start, &h, sizeof h))
            continue;
        t->segment = m->start;
        return seg_reader_open_memory(out, read_segment, t, h.total_bytes, err);
    }
    return -ENODATA;
}

// --- Walking.

struct walk_memory {
    struct target *t;
    uint64_t low, size;
    const uint8_t *bytes;
};

static int load_word(void *arg, uint64_t address, uint64_t *value)
{
    const struct walk_memory *w = arg;
    if (address >= w->low && w->size >= 8 && address - w->low <= w->size - 8) {
        memcpy(value, w->bytes + (address - w->low), sizeof *value);
        return 0;
    }
    return target_read(w->t, address, value, sizeof *value) ? -1 : 0;
}

// The vdso has no file; its one map is read from memory.
static void load_elf(struct target *t, const struct target_map *m)
{
    struct target_file *f = m->file;
    f->is_loaded = true;
    if (f->fd >= 0) {
        struct perf_elf_source source = {.fd = f->fd};
        perf_elf_load(&f->elf, &source);
    } else if (f->path[0] == '[' && m->end - m->start <= 16 * PAGE) {
        size_t size = m->end - m->start;
        uint8_t *bytes = malloc(size);
        if (bytes && !target_read(t, m->start, bytes, size)) {
            struct perf_elf_source source = {.fd = -1, .bytes = bytes, .size = size};
            perf_elf_load(&f->elf, &source);
        }
        free(bytes);
    }
}

static int find_row(void *arg, uint64_t pc, struct unwind_row *row)
{
    struct walk_memory *w = arg;
    const struct target_map *m = target_map_at(w->t, pc);
    uint64_t bias;
    if (!m || !m->is_code)
        return UNWIND_NOT_COVERED;
    if (!m->file)
        return UNWIND_DECLINED; // code without tables
    if (!m->file->is_loaded)
        load_elf(w->t, m);
    if (!m->file->elf.tables.eh_frame.size ||
        perf_elf_bias(&m->file->elf, m->start, m->offset, &bias))
        return UNWIND_DECLINED;
    return unwind_find_row(&m->file->elf.tables, pc - bias, row);
}

uint32_t target_walk_copy(struct target *t, const struct unwind_registers *regs, bool is_exact,
                          const void *stack, size_t size, uint64_t *pcs, uint32_t max,
                          enum unwind_end *end)
{
    struct walk_memory w = {.t = t, .low = regs->rsp, .bytes = stack, .size = size};
    struct unwind_remote remote = {.read = load_word, .row = find_row, .arg = &w};
    struct unwind_registers r = *regs;
    uint32_t n = unwind_walk_from(&remote, &r, is_exact, pcs, 0, max, end);
    if (n && !is_exact)
        pcs[0]--; // inside of the call
    return n;
}

uint32_t target_walk(struct target *t, const struct unwind_registers *regs, bool is_exact,
                     uint64_t high, uint64_t *pcs, uint32_t max, enum unwind_end *end)
{
    uint64_t top = high ? high : target_map_end(t, regs->rsp);
    uint64_t size = top > regs->rsp ? top - regs->rsp : 0;
    size = size < STACK_BYTES_MAX ? size : STACK_BYTES_MAX;
    uint8_t *bytes = malloc(size ? size : 1);
    size = bytes ? target_read_some(t, regs->rsp, bytes, size) : 0;
    uint32_t n = target_walk_copy(t, regs, is_exact, bytes, size, pcs, max, end);
    free(bytes);
    return n;
}
