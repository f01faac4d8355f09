// SPDX-License-Identifier: MIT
//
// Which file is mapped where. A module enters the segment when a sampled pc first lies in it, so
// that a program that loads and unloads thousands of plugins costs what was seen of them.
//
// dlopen is not interposed: a wrapper would change the caller, by which libc finds RUNPATH and
// namespace. A pc on an unknown page makes the handler read /proc/self/maps once instead, by
// system calls alone. dlclose is interposed: the module leaves the table *before* its addresses can
// be used again, and returns at the next sample if it stayed mapped after all.
//
// Readers take no lock; one writer at a time holds modules_lock and nobody waits for it: a handler
// that finds it taken leaves the module to a later sample.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>

enum { PAGE_SHIFT = 12, QUIET_NS = 100000000, NOTE_BYTES = 1024, PHDR_MAX = 64 };

// One line of /proc/self/maps.
struct mapping {
    uint64_t start, end, offset, device, inode;
    bool is_code;
    const char *path;
    uint32_t path_size;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool try_lock(void)
{
    uint32_t free_word = 0;
    return atomic_compare_exchange_strong_explicit(&agent.space->modules_lock, &free_word, 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void unlock(void)
{
    // release: pairs with the acquire in try_lock
    atomic_store_explicit(&agent.space->modules_lock, 0, memory_order_release);
}

static bool is_known(uint64_t pc)
{
    struct agent_space *space = agent.space;
    // acquire: pairs with the release in remember
    uint32_t used = atomic_load_explicit(&space->modules_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        const struct agent_module *m = &space->modules[i];
        if (pc < atomic_load_explicit(&m->end, memory_order_relaxed) &&
            pc >= atomic_load_explicit(&m->start, memory_order_relaxed))
            return true;
    }
    return false;
}

static void remember(uint64_t start, uint64_t end, int segment_index)
{
    struct agent_space *space = agent.space;
    uint32_t used = atomic_load_explicit(&space->modules_used, memory_order_relaxed), i;
    for (i = 0; i < used; i++)
        if (!atomic_load_explicit(&space->modules[i].end, memory_order_relaxed))
            break;
    if (i == AGENT_MODULES_MAX)
        return;
    space->modules[i].segment_index = segment_index;
    atomic_store_explicit(&space->modules[i].start, start, memory_order_relaxed);
    atomic_store_explicit(&space->modules[i].end, end, memory_order_relaxed);
    if (i == used) // release: pairs with the acquire in is_known
        atomic_store_explicit(&space->modules_used, used + 1, memory_order_release);
}

// Reads our own memory through the kernel: a mapping may end behind its file's end, and must not
// cost the target a SIGBUS.
static bool peek(uint64_t address, void *out, size_t size)
{
    struct iovec here = {out, size}, there = {.iov_len = size};
    memcpy(&there.iov_base, &address, sizeof there.iov_base);
    return sys6(SYS_process_vm_readv, agent.space->pid, SYS_ARG(&here), 1, SYS_ARG(&there), 1, 0) ==
           (long)size;
}

static bool find_build_id(const uint8_t *notes, size_t size, struct seg_module *m)
{
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
        Elf64_Nhdr n;
        memcpy(&n, notes + at, sizeof n);
        size_t name = at + sizeof n, data = name + ((n.n_namesz + 3u) & ~3u);
        if (n.n_namesz > size || n.n_descsz > size || data + n.n_descsz > size)
            return false;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && !memcmp(notes + name, "GNU", 4) &&
            n.n_descsz <= SEG_BUILD_ID_BYTES) {
            memcpy(m->build_id, notes + data, n.n_descsz);
            m->build_id_size = n.n_descsz;
            return true;
        }
        at = data + ((n.n_descsz + 3u) & ~3u);
    }
    return false;
}

// The build id of the ELF file whose header is mapped at base.
static void read_build_id(uint64_t base, struct seg_module *m)
{
    Elf64_Ehdr e;
    Elf64_Phdr p[PHDR_MAX];
    uint8_t notes[NOTE_BYTES];
    uint64_t first = UINT64_MAX;
    if (!base || !peek(base, &e, sizeof e) || memcmp(e.e_ident, ELFMAG, SELFMAG) ||
        e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_phentsize != sizeof *p)
        return;
    uint32_t count = e.e_phnum < PHDR_MAX ? e.e_phnum : PHDR_MAX;
    if (!peek(base + e.e_phoff, p, count * sizeof *p)) // at once: each look is a system call
        return;
    for (uint32_t i = 0; i < count && first == UINT64_MAX; i++)
        if (p[i].p_type == PT_LOAD)
            first = p[i].p_vaddr & ~(uint64_t)4095;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = p[i].p_filesz < sizeof notes ? p[i].p_filesz : sizeof notes;
        if (p[i].p_type == PT_NOTE && peek(base + p[i].p_vaddr - first, notes, size) &&
            find_build_id(notes, size, m))
            return;
    }
}

static const char *take_hex(const char *p, const char *end, uint64_t *out)
{
    uint64_t n = 0;
    for (; p < end; p++) {
        uint32_t digit = *p >= '0' && *p <= '9'   ? (uint32_t)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (uint32_t)(*p - 'a' + 10)
                                                  : 16;
        if (digit == 16)
            break;
        n = n << 4 | digit;
    }
    *out = n;
    return p < end ? p + 1 : p; // past the separator
}

// start-end perms offset major:minor inode      path
static void parse_line(const char *p, const char *end, struct mapping *m)
{
    uint64_t major_number, minor_number;
    p = take_hex(p, end, &m->start);
    p = take_hex(p, end, &m->end);
    m->is_code = end - p > 5 && p[2] == 'x';
    p = end - p > 5 ? p + 5 : end;
    p = take_hex(p, end, &m->offset);
    p = take_hex(p, end, &major_number);
    p = take_hex(p, end, &minor_number);
    m->device = makedev((unsigned)major_number, (unsigned)minor_number);
    for (m->inode = 0; p < end && *p >= '0' && *p <= '9'; p++)
        m->inode = m->inode * 10 + (uint64_t)(*p - '0');
    while (p < end && *p == ' ')
        p++;
    m->path = p;
    m->path_size = (uint32_t)(end - p);
}

// Walks /proc/self/maps. pc != 0: adds the one mapping that holds it; else all code. Whether
// anything was added. The caller holds the lock.
static bool scan(uint64_t pc)
{
    struct agent_space *space = agent.space;
    char *text = space->buffer;
    size_t filled = 0;
    uint64_t header_at = 0, header_inode = 0, header_device = 0;
    bool added = false;
    int fd = (int)sys4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    for (;;) {
        long n = sys3(SYS_read, fd, text + filled, sizeof space->buffer - filled);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        filled += (size_t)n;
        char *line = text, *newline;
        while ((newline = memchr(line, '\n', filled - (size_t)(line - text)))) {
            struct mapping m;
            parse_line(line, newline, &m);
            line = newline + 1;
            if (m.offset == 0) {
                header_at = m.start;
                header_inode = m.inode;
                header_device = m.device;
            }
            if (!m.is_code || !m.path_size || (pc && (pc < m.start || pc >= m.end)) ||
                is_known(m.start))
                continue;
            struct seg_module out = {.start = m.start,
                                     .end = m.end,
                                     .offset = m.offset,
                                     .device = m.device,
                                     .inode = m.inode,
                                     .path = seg_string(&space->seg, m.path, m.path_size)};
            if (header_inode == m.inode && header_device == m.device)
                read_build_id(header_at, &out);
            int index = seg_module_add(&space->seg, &out);
            if (index >= 0)
                remember(m.start, m.end, index);
            added = true;
        }
        size_t rest = filled - (size_t)(line - text);
        if (rest == sizeof space->buffer)
            rest = 0; // a line longer than any path can be
        memmove(text, line, rest);
        filled = rest;
    }
    sys1(SYS_close, fd);
    return added;
}

void modules_scan_all(void)
{
    if (!try_lock())
        return;
    scan(0);
    unlock();
}

void modules_cover(struct agent_pages *known, const uint64_t *pcs, uint32_t depth)
{
    struct agent_space *space = agent.space;
    uint32_t generation =
        atomic_load_explicit(&space->modules_generation, memory_order_acquire) + 1;
    if (known->generation != generation) {
        memset(known->pages, 0, sizeof known->pages);
        known->generation = generation;
    }
    for (uint32_t i = 0; i < depth; i++) {
        uint64_t page = pcs[i] >> PAGE_SHIFT;
        uint64_t *seen = &known->pages[page % AGENT_PAGES_KNOWN];
        if (*seen == page)
            continue;
        if (!is_known(pcs[i])) {
            uint64_t now = now_ns();
            // Generated code is never found: ask for it ten times a second at most.
            if (now < atomic_load_explicit(&space->modules_quiet_until_ns, memory_order_relaxed) ||
                !try_lock())
                continue;
            if (!scan(pcs[i]))
                atomic_store_explicit(&space->modules_quiet_until_ns, now + QUIET_NS,
                                      memory_order_relaxed);
            unlock();
        }
        *seen = page;
    }
}

// The end of the ELF image mapped from base: the extent of its loaded segments.
static uint64_t image_end(uint64_t base)
{
    Elf64_Ehdr e;
    Elf64_Phdr p;
    uint64_t first = UINT64_MAX, last = 0;
    if (!peek(base, &e, sizeof e) || memcmp(e.e_ident, ELFMAG, SELFMAG))
        return 0;
    for (uint32_t i = 0; i < e.e_phnum && i < PHDR_MAX; i++) {
        if (!peek(base + e.e_phoff + i * sizeof p, &p, sizeof p) || p.p_type != PT_LOAD)
            continue;
        if (first == UINT64_MAX)
            first = p.p_vaddr & ~(uint64_t)4095;
        if (p.p_vaddr + p.p_memsz > last)
            last = p.p_vaddr + p.p_memsz;
    }
    return first == UINT64_MAX ? 0 : base + last - first;
}

void modules_close(uint64_t address)
{
    struct agent_space *space = agent.space;
    uint64_t end = image_end(address);
    uint32_t used = atomic_load_explicit(&space->modules_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct agent_module *m = &space->modules[i];
        uint64_t start = atomic_load_explicit(&m->start, memory_order_relaxed);
        uint64_t old = atomic_load_explicit(&m->end, memory_order_relaxed);
        // Whoever takes the end away removes the module.
        if (old && start >= address && start < end &&
            atomic_compare_exchange_strong_explicit(&m->end, &old, 0, memory_order_relaxed,
                                                    memory_order_relaxed))
            seg_module_remove(&space->seg, m->segment_index);
    }
    // release: pairs with the acquire in modules_cover
    atomic_fetch_add_explicit(&space->modules_generation, 1, memory_order_release);
    unwind_invalidate();
}
