// SPDX-License-Identifier: MIT
//
// See loaded.h.

#include "collector/loaded.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    HEADERS_MAX = 64,
    DYNAMIC_MAX = 256,
    LINKS_MAX = 4096,
    AUX_MAX = 64,
};

static uint64_t page_of(uint64_t address)
{
    return address & ~(uint64_t)(PAGE - 1);
}

// --- The file's segments.

struct segments {
    Elf64_Phdr at[HEADERS_MAX]; // PT_LOAD alone
    size_t count;
};

static int read_segments(struct segments *out, int fd)
{
    Elf64_Ehdr h;
    Elf64_Phdr all[HEADERS_MAX];
    out->count = 0;
    if (pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h ||
        memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
        h.e_phentsize != sizeof *all || h.e_phoff > INT64_MAX - sizeof all)
        return -ENOEXEC;
    size_t n = h.e_phnum < HEADERS_MAX ? h.e_phnum : HEADERS_MAX;
    if (pread(fd, all, n * sizeof *all, (off_t)h.e_phoff) != (ssize_t)(n * sizeof *all))
        return -ENOEXEC;
    for (size_t i = 0; i < n; i++)
        if (all[i].p_type == PT_LOAD)
            out->at[out->count++] = all[i];
    return out->count ? 0 : -ENOEXEC;
}

static bool is_code(const Elf64_Phdr *p)
{
    return p->p_flags & PF_X;
}

// --- Places.

struct place {
    uint64_t bias;
    bool has_code;
    unsigned segments, maps; // so many lie there, in so many maps
};

static const struct loaded_map *map_at(const struct loaded_map *maps, size_t count,
                                       uint64_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (maps[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && maps[low].start <= address ? &maps[low] : NULL;
}

static struct place judge(const struct segments *s, const struct loaded_map *maps, size_t count,
                          uint64_t bias)
{
    struct place p = {.bias = bias};
    const struct loaded_map *last = NULL;
    for (size_t i = 0; i < s->count; i++) {
        uint64_t address = page_of(s->at[i].p_vaddr + bias);
        const struct loaded_map *m = map_at(maps, count, address);
        if (!m || m->offset + (address - m->start) != page_of(s->at[i].p_offset) ||
            m->is_code != is_code(&s->at[i]))
            continue;
        p.segments++;
        p.maps += m != last;
        p.has_code |= m->is_code;
        last = m;
    }
    return p;
}

// Code that was moved to huge pages belongs to no file any more: then other segments have to do, in a map each, as a plain
// file has not.
static bool is_loaded(const struct place *p)
{
    return p->has_code || p->maps > 1;
}

static bool is_better(const struct place *a, const struct place *b, uint32_t pid)
{
    if (a->has_code != b->has_code)
        return a->has_code;
    if (a->segments != b->segments)
        return a->segments > b->segments;
    return a->bias != b->bias && pid && !loaded_is_linked(pid, b->bias) &&
           loaded_is_linked(pid, a->bias);
}

static struct place best_place(const struct segments *s, const struct loaded_map *maps,
                               size_t count, bool of_code, uint32_t pid)
{
    struct place best = {0};
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < s->count; j++) {
            const Elf64_Phdr *p = &s->at[j];
            if (maps[i].is_code != of_code || is_code(p) != of_code ||
                maps[i].offset != page_of(p->p_offset))
                continue;
            struct place found = judge(s, maps, count, maps[i].start - page_of(p->p_vaddr));
            if (is_loaded(&found) && (!is_loaded(&best) || is_better(&found, &best, pid)))
                best = found;
        }
    return best;
}

int loaded_find(struct loaded *out, const struct loaded_map *maps, size_t count, int fd,
                uint32_t pid)
{
    struct segments s;
    int rc = read_segments(&s, fd);
    *out = (struct loaded){0};
    if (rc)
        return rc;
    count = count < LOADED_MAPS_MAX ? count : LOADED_MAPS_MAX;
    struct place best = best_place(&s, maps, count, true, pid);
    if (!is_loaded(&best))
        best = best_place(&s, maps, count, false, pid);
    if (!is_loaded(&best))
        return -ENOENT;
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < s.count; i++) {
        const Elf64_Phdr *p = &s.at[i];
        uint64_t end =
            p->p_memsz > UINT64_MAX - PAGE - p->p_vaddr ? p->p_vaddr : p->p_vaddr + p->p_memsz;
        low = page_of(p->p_vaddr) < low ? page_of(p->p_vaddr) : low;
        high = end > high ? end : high;
    }
    *out = (struct loaded){
        .bias = best.bias, .start = low + best.bias, .end = page_of(high + PAGE - 1) + best.bias};
    return 0;
}

// --- The dynamic linker's list.

static bool read_there(uint32_t pid, uint64_t address, void *out, size_t size)
{
    struct iovec here = {out, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static bool find_headers(uint32_t pid, uint64_t *address, uint64_t *count)
{
    char path[64];
    Elf64_auxv_t aux[AUX_MAX];
    *address = *count = 0;
    snprintf(path, sizeof path, "/proc/%u/auxv", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, aux, sizeof aux);
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *aux; i++) {
        if (aux[i].a_type == AT_PHDR)
            *address = aux[i].a_un.a_val;
        else if (aux[i].a_type == AT_PHNUM)
            *count = aux[i].a_un.a_val;
    }
    return *address && *count && *count <= HEADERS_MAX;
}

// Where the program's own dynamic section lies. 0: it has none.
static uint64_t find_dynamic(uint32_t pid)
{
    Elf64_Phdr p[HEADERS_MAX];
    uint64_t at, count, bias = 0, dynamic = 0;
    if (!find_headers(pid, &at, &count) || !read_there(pid, at, p, count * sizeof *p))
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (p[i].p_type == PT_PHDR)
            bias = at - p[i].p_vaddr;
        else if (p[i].p_type == PT_DYNAMIC)
            dynamic = p[i].p_vaddr;
    }
    return dynamic ? dynamic + bias : 0;
}

struct link { // as <link.h> has it
    uint64_t bias, name, dynamic, next, previous;
};

bool loaded_is_linked(uint32_t pid, uint64_t bias)
{
    struct {
        uint32_t version, unused;
        uint64_t first;
    } debug = {0};
    uint64_t at = find_dynamic(pid), where = 0;
    Elf64_Dyn d = {0};
    for (int i = 0; at && i < DYNAMIC_MAX && read_there(pid, at, &d, sizeof d) && d.d_tag;
         i++, at += sizeof d)
        if (d.d_tag == DT_DEBUG)
            where = d.d_un.d_ptr;
    if (!where || !read_there(pid, where, &debug, sizeof debug))
        return false;
    struct link l = {.next = debug.first};
    for (int i = 0; i < LINKS_MAX && l.next; i++) {
        if (!read_there(pid, l.next, &l, sizeof l))
            return false;
        if (l.bias == bias)
            return true;
    }
    return false;
}
