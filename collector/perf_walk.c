// SPDX-License-Identifier: MIT
//
// Mapped files, their unwind tables, and walking the stacks of samples: see perf_code.h.

#include "collector/mapped_file.h"
#include "collector/perf_code_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POPPED_BYTES_MAX = 48 };  // six callee-saved registers
enum { VDSO_BYTES_MAX = 16384 }; // mapped without gaps on every x86-64 kernel so far: 1 to 3 pages

// --- Files.

void code_files_free(struct perf_code *c)
{
    for (struct code_file *f = c->files, *next; f; f = next) {
        next = f->next;
        if (f->fd >= 0)
            close(f->fd);
        perf_elf_finish(&f->elf);
        free(f->path);
        free(f);
    }
    c->files = NULL;
}

static bool has_build_id(const struct code_file *f, const uint8_t *id, uint32_t size)
{
    return size && size == f->build_id_size && memcmp(id, f->build_id, size) == 0;
}

// Whether it is what the kernel says of the mapping. A build id is what the file says of itself: root's own is believed.
static bool is_named_by(const struct code_file *f, const struct mapping *m)
{
    if (m->inode)
        return m->inode == f->inode && m->device == f->device;
    return f->is_owners && f->owner == 0 && has_build_id(f, m->build_id, m->build_id_size);
}

// Whether two that were looked at are the same, or say the same and have one owner, who can forge for himself alone.
static bool is_same_file(const struct code_file *a, const struct code_file *b, bool by_build_id)
{
    if (a->is_vdso || (a->fd < 0) != (b->fd < 0))
        return false;
    if (a->inode && a->inode == b->inode && a->device == b->device)
        return true;
    bool may_share =
        by_build_id && (a->fd < 0 || (a->is_owners && b->is_owners && a->owner == b->owner));
    return may_share && has_build_id(a, b->build_id, b->build_id_size);
}

static void hex_of(const uint8_t *bytes, uint32_t n, char hex[2 * PERF_BUILD_ID_MAX + 1])
{
    for (uint32_t i = 0; i < n; i++)
        snprintf(hex + (size_t)2 * i, 3, "%02x", bytes[i]);
    hex[2 * n] = '\0';
}

// The path without what /proc puts behind the name of a file that was unlinked.
static void plain_path(const char *path, char *out, size_t size)
{
    static const char deleted[] = " (deleted)";
    snprintf(out, size, "%s", path);
    size_t n = strlen(out), tail = sizeof deleted - 1;
    if (n > tail && strcmp(out + n - tail, deleted) == 0)
        out[n - tail] = '\0';
}

static void open_file(struct code_file *f, const struct perf_process *p, const struct mapping *m)
{
    char hex[2 * PERF_BUILD_ID_MAX + 1];
    hex_of(m->build_id, m->build_id_size, hex);
    struct mapped_file mf = {
        .pid = p->pid,
        .start = m->start,
        .end = m->end,
        .path = f->path,
        .build_id = hex,
        .device = m->device,
        .inode = m->inode,
    };
    f->fd = mapped_file_open(&mf);
    struct stat st;
    if (f->fd < 0 || fstat(f->fd, &st))
        return;
    // What the file says of itself, so that it is the same thing whoever mentions it.
    struct perf_elf_source source = {.fd = f->fd};
    f->device = st.st_dev;
    f->inode = st.st_ino;
    f->owner = st.st_uid;
    f->is_owners = !(st.st_mode & (S_IWGRP | S_IWOTH));
    if (!f->build_id_size)
        f->build_id_size = (uint32_t)perf_elf_build_id(&source, f->build_id, sizeof f->build_id);
}

static struct code_file *find_file(const struct perf_code *c, const struct mapping *m, bool is_vdso)
{
    struct code_file *f = c->files;
    while (f && (f->is_vdso != is_vdso || (!is_vdso && !is_named_by(f, m))))
        f = f->next;
    return f;
}

// Takes over the descriptor of `looked`, or closes it. NULL: out of memory.
static struct code_file *put_file(struct perf_code *c, const struct code_file *looked,
                                  bool by_build_id)
{
    struct code_file *f = c->files;
    while (f && !is_same_file(f, looked, by_build_id))
        f = f->next;
    struct code_file *made = f ? NULL : malloc(sizeof *made);
    if (made) {
        *made = *looked;
        made->path = strdup(looked->path);
        if (made->path) {
            made->number = ++c->file_count;
            made->next = c->files;
            return c->files = made;
        }
        free(made);
    }
    if (looked->fd >= 0)
        close(looked->fd);
    return f;
}

// That of a mapping which the kernel's word alone does not find.
static struct code_file *look_at_file(struct perf_code *c, const struct perf_process *p,
                                      const struct mapping *m, bool is_vdso)
{
    char path[4096];
    struct code_file f = {.path = path, .fd = -1, .is_vdso = is_vdso};
    plain_path(m->path, path, sizeof path);
    f.device = m->device;
    f.inode = m->inode;
    if (m->build_id && m->build_id_size <= sizeof f.build_id) {
        memcpy(f.build_id, m->build_id, m->build_id_size);
        f.build_id_size = m->build_id_size;
    }
    if (!is_vdso)
        open_file(&f, p, m);
    return put_file(c, &f, m->build_id_size > 0);
}

struct code_file *code_file(struct perf_code *c, const struct perf_process *p,
                            const struct mapping *m)
{
    bool is_vdso = strcmp(m->path, "[vdso]") == 0;
    errno = ENOENT;
    if (!is_vdso && (m->path[0] != '/' || strncmp(m->path, "//", 2) == 0))
        return NULL;
    struct code_file *f = find_file(c, m, is_vdso);
    if (!f) {
        f = look_at_file(c, p, m, is_vdso);
        if (!f)
            errno = ENOMEM;
    } else if (f->fd < 0 && !is_vdso && !f->loaded) {
        open_file(f, p, m); // again, if its first process was gone before it could be opened
    }
    return f;
}

uint32_t perf_file_number(const struct code_file *f)
{
    return f->number;
}

const char *perf_file_path(const struct code_file *f)
{
    return f->path;
}

bool perf_file_is(const struct code_file *f, uint64_t device, uint64_t inode)
{
    return f->fd >= 0 && f->device == device && f->inode == inode; // open_file asked fstat
}

uint32_t perf_code_no_room(const struct perf_code *c)
{
    return c->no_room;
}

int perf_file_fd(const struct code_file *f)
{
    return f->fd;
}

const struct perf_elf *perf_file_elf(const struct code_file *f)
{
    return &f->elf;
}

int code_tell_builder(struct builder_process *out, const struct mapping *m,
                      const struct code_file *f)
{
    char hex[2 * PERF_BUILD_ID_MAX + 1] = "";
    if (!out)
        return 0;
    if (f)
        hex_of(f->build_id, f->build_id_size, hex);
    struct builder_module bm = {
        .start = m->start,
        .end = m->end,
        .offset = m->offset,
        .path = f                   ? f->path
                : m->path[0] == '[' ? m->path
                                    : "[anon]",
        .build_id = hex,
        .device = f && !f->is_vdso ? f->device : 0,
        .inode = f && !f->is_vdso ? f->inode : 0,
        .from = m->when,
        .fd = f && f->fd >= 0 ? fcntl(f->fd, F_DUPFD_CLOEXEC, 3) : -1,
    };
    int rc = builder_module(out, &bm);
    return rc == -ENOMEM ? rc : 0;
}

int code_tell_builder_again(struct builder_process *out, const struct code_map *map, uint64_t when)
{
    struct mapping m = {
        .start = map->start,
        .end = map->end,
        .offset = map->offset,
        .path = "",
        .when = when,
    };
    return code_tell_builder(out, &m, map->file);
}

// --- Rows.

static void load_tables(struct perf_code *c, struct code_file *f)
{
    struct perf_elf_source source = {.fd = f->fd};
    f->loaded = true;
    if (f->is_vdso) {
        // Every 64-bit process under this kernel has the same one.
        unsigned long address = getauxval(AT_SYSINFO_EHDR);
        if (!address)
            return;
        source.fd = -1;
        source.bytes = (const void *)address; // NOLINT(performance-no-int-to-ptr)
        source.size = VDSO_BYTES_MAX;
    } else if (f->fd < 0) {
        return;
    }
    uint64_t left = c->table_bytes_max - c->table_bytes;
    source.tables_max = left ? left : 1;
    // A file that cannot be used has no tables: its frames are walked by frame pointer.
    (void)perf_elf_load(&f->elf, &source);
    c->table_bytes += f->elf.tables.eh_frame_hdr.size + f->elf.tables.eh_frame.size;
    c->no_room += f->elf.had_no_room;
}

// Where code without tables (JIT, a broken file) is mapped, *file is NULL.
static void resolve_map(struct perf_code *c, const struct code_map *m, struct code_file **file,
                        uint64_t *bias)
{
    *bias = 0;
    *file = NULL;
    if (m->file && !m->file->loaded)
        load_tables(c, m->file);
    if (m->file && m->file->elf.tables.eh_frame.size &&
        !perf_elf_bias(&m->file->elf, m->start, m->offset, bias))
        *file = m->file;
}

static int find_row(const struct perf_process *p, uint64_t pc, struct unwind_row *row)
{
    uint64_t bias;
    struct code_file *file;
    const struct code_map *m = code_find_map(p, pc);
    if (!m)
        return UNWIND_NOT_COVERED;
    resolve_map(p->code, m, &file, &bias);
    // Without tables the walker goes by frame pointer, and may take an address in it for a return address.
    return file ? unwind_find_row(&file->elf.tables, pc - bias, row) : UNWIND_DECLINED;
}

void perf_process_map(const struct perf_process *p, size_t index, struct perf_map *out)
{
    const struct code_map *m = &p->maps[index];
    out->start = m->start;
    out->end = m->end;
    resolve_map(p->code, m, &out->file, &out->bias);
}

struct walk_context {
    struct perf_code *code;
    struct perf_process *process;
    const struct perf_sample *sample;
    bool beyond; // a read above the copied part of the stack
};

static int cached_row(void *arg, uint64_t pc, struct unwind_row *row)
{
    struct walk_context *w = arg;
    uint64_t hash = (pc ^ w->process->generation << 40) * UINT64_C(0x9e3779b97f4a7c15);
    struct code_row *r = &w->code->rows[hash >> 50];
    if (r->pc != pc || r->generation != w->process->generation) {
        r->pc = pc;
        r->generation = w->process->generation;
        r->row = (struct unwind_row){0};
        r->status = find_row(w->process, pc, &r->row);
        // In the kernel the leaf's pc is behind its `syscall`, which for rt_sigreturn ends the code
        // that its table covers.
        if (r->status == UNWIND_NOT_COVERED && pc == w->sample->registers.rip)
            r->status = find_row(w->process, pc - 1, &r->row);
    }
    *row = r->row;
    return r->status;
}
_Static_assert(ROW_CACHE == 1 << (64 - 50), "the hash's upper bits index the rows");

static int no_tables(void *arg, uint64_t pc, struct unwind_tables *out)
{
    (void)arg;
    (void)pc;
    (void)out;
    return -1; // cached_row is asked instead
}

static int read_stack(void *arg, uint64_t address, uint64_t *value)
{
    struct walk_context *w = arg;
    const struct unwind_registers *regs = &w->sample->registers;
    uint64_t at = address - regs->rsp;
    if (address < regs->rsp && regs->rsp - address <= POPPED_BYTES_MAX) {
        // An epilogue that has popped rbp: rows go on naming its slot, which lies below the stack
        // pointer now and is not copied, but the register is its caller's again.
        *value = regs->rbp;
        return 0;
    }
    if (address < regs->rsp || w->sample->stack_bytes < sizeof *value)
        return -1;
    if (at > w->sample->stack_bytes - sizeof *value) {
        w->beyond = true;
        return -1;
    }
    memcpy(value, w->sample->stack + at, sizeof *value);
    return 0;
}

void perf_code_walk(struct perf_code *c, struct perf_process *p, const struct perf_sample *s,
                    struct perf_walk *walk)
{
    struct walk_context context = {.code = c, .process = p, .sample = s};
    struct unwind_remote remote = {
        .read = read_stack,
        .tables = no_tables,
        .row = cached_row,
        .arg = &context,
        .is_entry = s->is_entry,
    };
    walk->end = UNWIND_END_NO_ROW;
    walk->flags = 0;
    walk->depth =
        unwind_walk_remote(&remote, &s->registers, walk->pcs, SEG_STACK_DEPTH_MAX, &walk->end);
    if (walk->end == UNWIND_END_DEPTH)
        walk->flags = SEG_FLAG_TRUNCATED;
    else if (walk->end != UNWIND_END_ROOT)
        walk->flags = SEG_FLAG_BROKEN;
    walk->wants_more =
        walk->end == UNWIND_END_BAD_MEMORY && context.beyond && s->stack_bytes == s->stack_asked;
}
