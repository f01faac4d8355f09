// SPDX-License-Identifier: MIT
//
// Core files: memory from PT_LOAD, threads and mapped files from notes. Everything in it is checked against
// the file's size. What the kernel left out (file pages) is read from the files.
//
// Source: System V gABI chapter 5; the kernel's fs/binfmt_elf.c for NT_FILE.

#include "collector/arch/x86_64.h"
#include "collector/target_internal.h"
#include "symbols/symbols.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS_MAX = 1 << 20, NOTES_BYTES_MAX = 64 << 20, FILES_MAX = 1 << 20, HEAD_BYTES = 4096 };

static int read_at(int fd, uint64_t offset, void *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (uint8_t *)out + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOEXEC;
        done += (size_t)n;
    }
    return 0;
}

static const struct target_load *load_at(const struct target *t, uint64_t address)
{
    size_t low = 0, high = t->load_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (t->loads[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->load_count && t->loads[low].start <= address ? &t->loads[low] : NULL;
}

static size_t read_dumped(const struct target *t, uint64_t address, uint8_t *out, size_t size)
{
    const struct target_load *l = load_at(t, address);
    uint64_t into = l ? address - l->start : 0;
    if (!l || into >= l->file_bytes)
        return 0;
    size_t n = l->file_bytes - into < size ? l->file_bytes - into : size;
    return read_at(t->core_fd, l->offset + into, out, n) ? 0 : n;
}

// Pages of a file that were as they are in the file: left out of the core.
static size_t read_mapped(const struct target *t, uint64_t address, uint8_t *out, size_t size)
{
    const struct target_map *m = target_map_at(t, address);
    if (!m || !m->file || m->file->fd < 0)
        return 0;
    size_t n = m->end - address < size ? m->end - address : size;
    return read_at(m->file->fd, m->offset + (address - m->start), out, n) ? 0 : n;
}

size_t target_read_core(const struct target *t, uint64_t address, void *out, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t n = read_dumped(t, address + done, (uint8_t *)out + done, size - done);
        if (!n)
            n = read_mapped(t, address + done, (uint8_t *)out + done, size - done);
        if (!n)
            break;
        done += n;
    }
    return done;
}

// --- Notes.

// Those that end a program with a core file. Not SIGTRAP and SIGSTOP, which are a debugger's that wrote one.
static bool has_ended_it(int signal)
{
    static const int ends[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGABRT,
                               SIGSYS,  SIGQUIT, SIGXCPU, SIGXFSZ};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i] == signal)
            return true;
    return false;
}

// The first of them, which stands behind the thread that was ended.
static void take_signal(struct target *t, const uint8_t *data, size_t size)
{
    siginfo_t info;
    if (size < sizeof info || t->thread_count != 1)
        return;
    memcpy(&info, data, sizeof info);
    bool is_fault = info.si_signo == SIGSEGV || info.si_signo == SIGBUS;
    // SI_KERNEL: an address that is none, of which the kernel does not know more.
    t->end.has_address =
        is_fault && info.si_signo == t->end.signal && info.si_code > 0 && info.si_code != SI_KERNEL;
    t->end.address = (uint64_t)(uintptr_t)info.si_addr;
}

static int add_thread(struct target *t, const uint8_t *data, size_t size)
{
    struct elf_prstatus st;
    struct user_regs_struct regs;
    _Static_assert(sizeof regs == sizeof st.pr_reg, "the same registers");
    if (size < sizeof st)
        return 0;
    memcpy(&st, data, sizeof st);
    memcpy(&regs, &st.pr_reg, sizeof regs);
    struct target_thread *grown = reallocarray(t->threads, t->thread_count + 1, sizeof *t->threads);
    if (!grown)
        return -ENOMEM;
    t->threads = grown;
    struct target_thread *thread = &t->threads[t->thread_count++];
    thread->tid = (uint32_t)st.pr_pid;
    if (t->thread_count == 1 && has_ended_it(st.pr_cursig))
        t->end = (struct target_end){.tid = thread->tid, .signal = st.pr_cursig};
    thread->call = (struct target_call){0};
    arch_from_user(&thread->registers, &regs);
    thread->call.is_in = arch_call(&regs, &thread->call.number, thread->call.args);
    return 0;
}

static void take_program(struct target *t, const uint8_t *data, size_t size)
{
    struct elf_prpsinfo info;
    if (size < sizeof info)
        return;
    memcpy(&info, data, sizeof info);
    t->pid = (uint32_t)info.pr_pid;
    snprintf(t->name, sizeof t->name, "%.*s", (int)sizeof info.pr_fname, info.pr_fname);
    for (char *c = t->name; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
}

static uint64_t word(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

// count, page size, {start, end, offset in pages} each, then the names.
static int add_files(struct target *t, const uint8_t *data, size_t size)
{
    uint64_t count = size >= 16 ? word(data) : 0, page = size >= 16 ? word(data + 8) : 0;
    if (count > FILES_MAX || count > (size - 16) / 24)
        return 0;
    const char *name = (const char *)data + 16 + 24 * count, *end = (const char *)data + size;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *entry = data + 16 + 24 * i;
        size_t n = strnlen(name, (size_t)(end - name));
        if (name + n >= end)
            return 0;
        struct target_map m = {
            .start = word(entry), .end = word(entry + 8), .offset = word(entry + 16) * page};
        const struct target_load *l = load_at(t, m.start);
        m.is_code = !l || l->is_code; // gdb's gcore leaves code out altogether
        int rc = m.start < m.end ? target_add_map(t, &m, name, 0, 0) : 0;
        if (rc)
            return rc;
        name += n + 1;
    }
    return 0;
}

static int read_notes(struct target *t, uint64_t offset, uint64_t size)
{
    if (size > NOTES_BYTES_MAX)
        return -ENOEXEC;
    uint8_t *bytes = malloc(size ? size : 1);
    int rc = bytes ? read_at(t->core_fd, offset, bytes, size) : -ENOMEM;
    for (uint64_t at = 0; !rc && at + sizeof(Elf64_Nhdr) <= size;) {
        Elf64_Nhdr h;
        memcpy(&h, bytes + at, sizeof h);
        uint64_t name = at + sizeof h, data = name + ((h.n_namesz + 3u) & ~UINT64_C(3));
        uint64_t next = data + ((h.n_descsz + UINT64_C(3)) & ~UINT64_C(3));
        if (data > size || h.n_descsz > size - data)
            break;
        if (h.n_type == NT_PRSTATUS)
            rc = add_thread(t, bytes + data, h.n_descsz);
        else if (h.n_type == NT_SIGINFO)
            take_signal(t, bytes + data, h.n_descsz);
        else if (h.n_type == NT_PRPSINFO)
            take_program(t, bytes + data, h.n_descsz);
        else if (h.n_type == NT_FILE)
            rc = add_files(t, bytes + data, h.n_descsz);
        at = next;
    }
    free(bytes);
    return rc;
}

// --- Files.

// The core most often has a file's first page, with its build id.
static void open_files(struct target *t)
{
    for (size_t i = 0; i < t->map_count; i++) {
        struct target_file *f = t->maps[i].file;
        uint8_t head[HEAD_BYTES];
        if (!f || f->fd >= 0 || t->maps[i].offset != 0)
            continue;
        struct perf_elf_source memory = {.fd = -1, .bytes = head};
        memory.size = target_read_core(t, t->maps[i].start, head, sizeof head);
        uint8_t id[64], its[64];
        size_t n = perf_elf_build_id(&memory, id, sizeof id);
        for (size_t j = 0; j < n; j++)
            snprintf(f->build_id + 2 * j, 3, "%02x", id[j]);
        int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct perf_elf_source file = {.fd = fd};
        struct stat st;
        if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) ||
            (n && (perf_elf_build_id(&file, its, sizeof its) != n || memcmp(id, its, n) != 0))) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        f->fd = fd;
    }
}

static int compare_loads(const void *a, const void *b)
{
    const struct target_load *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int read_segments(struct target *t, const Elf64_Ehdr *h, uint64_t count)
{
    Elf64_Phdr *p = calloc(count, sizeof *p);
    t->loads = calloc(count, sizeof *t->loads);
    int rc = p && t->loads ? read_at(t->core_fd, h->e_phoff, p, count * sizeof *p) : -ENOMEM;
    for (uint64_t i = 0; !rc && i < count; i++)
        if (p[i].p_type == PT_LOAD && p[i].p_vaddr <= UINT64_MAX - p[i].p_memsz)
            t->loads[t->load_count++] = (struct target_load){
                .start = p[i].p_vaddr,
                .end = p[i].p_vaddr + p[i].p_memsz,
                .offset = p[i].p_offset,
                .file_bytes = p[i].p_filesz < p[i].p_memsz ? p[i].p_filesz : p[i].p_memsz,
                .is_code = p[i].p_flags & PF_X,
            };
    if (!rc)
        qsort(t->loads, t->load_count, sizeof *t->loads, compare_loads);
    struct stat st;
    uint64_t size = fstat(t->core_fd, &st) ? UINT64_MAX : (uint64_t)st.st_size;
    for (size_t i = 0; i < t->load_count; i++)
        t->is_cut = t->is_cut || t->loads[i].offset > size ||
                    t->loads[i].file_bytes > size - t->loads[i].offset;
    for (uint64_t i = 0; !rc && i < count; i++)
        if (p[i].p_type == PT_NOTE)
            rc = read_notes(t, p[i].p_offset, p[i].p_filesz);
    free(p);
    return rc;
}

static int read_core(struct target *t)
{
    Elf64_Ehdr h;
    int rc = read_at(t->core_fd, 0, &h, sizeof h);
    if (rc)
        return rc;
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
        h.e_type != ET_CORE || h.e_machine != EM_X86_64 || h.e_phentsize != sizeof(Elf64_Phdr))
        return -ENOEXEC;
    uint64_t count = h.e_phnum;
    if (count == PN_XNUM) {
        Elf64_Shdr first;
        rc = read_at(t->core_fd, h.e_shoff, &first, sizeof first);
        count = rc ? 0 : first.sh_info;
    }
    if (rc || count == 0 || count > SEGMENTS_MAX)
        return -ENOEXEC;
    return read_segments(t, &h, count);
}

int target_open_core(struct target **out, const char *path, struct fscope_error *err)
{
    *out = NULL;
    struct target *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, -ENOMEM, 0, "out of memory");
    t->core_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int rc = t->core_fd < 0 ? -errno : read_core(t);
    if (rc == -ENOEXEC)
        error_set(err, rc, 0, "%s: no core file of a 64-bit x86-64 program, or it is cut off",
                  path);
    else if (rc)
        error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
    if (rc) {
        target_close(t);
        return rc;
    }
    target_sort_maps(t);
    open_files(t);
    *out = t;
    return 0;
}
