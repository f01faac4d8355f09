// SPDX-License-Identifier: MIT
//
// Reading the unwind tables out of a hostile ELF file: see perf_elf.h.

#include "collector/perf_elf.h"

#include "collector/go_frames.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Bounds on what a file may make us read. The largest .eh_frame seen in practice (browsers) is under
// 64 MiB.
#define TABLE_BYTES_MAX (UINT64_C(256) << 20)
#define NOTE_BYTES_MAX  (UINT64_C(64) << 10)
enum { SEGMENTS_MAX = 512, SECTIONS_MAX = 65280 };

static int read_at(const struct perf_elf_source *s, uint64_t offset, void *out, size_t n)
{
    if (s->fd < 0) {
        if (offset > s->size || n > s->size - offset)
            return -ENOEXEC;
        memcpy(out, (const uint8_t *)s->bytes + offset, n);
        return 0;
    }
    if (offset > INT64_MAX - n)
        return -ENOEXEC;
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(s->fd, (uint8_t *)out + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -EIO;
        if (got == 0)
            return -ENOEXEC; // shorter than its headers say
        done += (size_t)got;
    }
    return 0;
}

// How many of n bytes at offset there are.
static uint64_t available(const struct perf_elf_source *s, uint64_t offset, uint64_t n)
{
    uint64_t size = s->size;
    if (s->fd >= 0) {
        off_t end = lseek(s->fd, 0, SEEK_END);
        size = end < 0 ? 0 : (uint64_t)end;
    }
    if (offset >= size)
        return 0;
    return n < size - offset ? n : size - offset;
}

static int read_header(const struct perf_elf_source *s, Elf64_Ehdr *h)
{
    int rc = read_at(s, 0, h, sizeof *h);
    if (rc)
        return rc;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
        h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64 ||
        h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
        return -ENOEXEC;
    return 0;
}

static int read_segments(const struct perf_elf_source *s, const Elf64_Ehdr *h, Elf64_Phdr **out)
{
    Elf64_Phdr *p = calloc(h->e_phnum, sizeof *p);
    if (!p)
        return -ENOMEM;
    int rc = read_at(s, h->e_phoff, p, h->e_phnum * sizeof *p);
    if (rc) {
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

// The file offset of a link-time address and how many file bytes of its segment follow it.
static bool locate(const struct perf_elf *e, uint64_t address, uint64_t *offset, uint64_t *left)
{
    for (uint32_t i = 0; i < e->load_count; i++) {
        uint64_t into = address - e->loads[i].address;
        if (address < e->loads[i].address || into >= e->loads[i].size)
            continue;
        *offset = e->loads[i].offset + into;
        *left = e->loads[i].size - into;
        return true;
    }
    return false;
}

static uint64_t tables_max(const struct perf_elf_source *s)
{
    return s->tables_max && s->tables_max < TABLE_BYTES_MAX ? s->tables_max : TABLE_BYTES_MAX;
}

static int read_table(struct perf_elf *e, const struct perf_elf_source *s, uint64_t offset,
                      uint64_t size, uint8_t **bytes, size_t *got)
{
    size = available(s, offset, size);
    if (size == 0)
        return -ENOEXEC;
    if (size > tables_max(s) - e->tables.eh_frame_hdr.size) {
        e->had_no_room = true;
        return -ENOEXEC;
    }
    uint8_t *p = malloc((size_t)size);
    if (!p)
        return -ENOMEM;
    int rc = read_at(s, offset, p, (size_t)size);
    if (rc) {
        free(p);
        return rc;
    }
    *bytes = p;
    *got = (size_t)size;
    return 0;
}

// Where .eh_frame is by .eh_frame_hdr's own pointer. Only the two encodings that linkers write.
static bool frame_address(const struct unwind_section *header, uint64_t *address)
{
    if (header->size < 8 || header->data[0] != 1)
        return false;
    int32_t relative;
    switch (header->data[1]) {
    case 0x1b: // DW_EH_PE_pcrel | DW_EH_PE_sdata4
        memcpy(&relative, header->data + 4, sizeof relative);
        *address = header->address + 4 + (uint64_t)(int64_t)relative;
        return true;
    case 0x04: // DW_EH_PE_udata8
        if (header->size < 12)
            return false;
        memcpy(address, header->data + 4, sizeof *address);
        return true;
    default: return false;
    }
}

static bool has_name(const struct perf_elf_source *s, const Elf64_Shdr *names, const Elf64_Shdr *sh,
                     const char *name)
{
    char found[32];
    size_t size = strlen(name) + 1;
    return size <= sizeof found && sh->sh_name < names->sh_size &&
           names->sh_offset <= UINT64_MAX - sh->sh_name &&
           !read_at(s, names->sh_offset + sh->sh_name, found, size) &&
           memcmp(found, name, size) == 0;
}

// A section by its header, which may be stripped or lie. Static programs have no other sign of their .eh_frame. False if
// there is none.
static bool find_section(const struct perf_elf_source *s, const Elf64_Ehdr *h, const char *name,
                         Elf64_Shdr *out)
{
    Elf64_Shdr names;
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shnum > SECTIONS_MAX ||
        h->e_shstrndx >= h->e_shnum || h->e_shoff > INT64_MAX ||
        read_at(s, h->e_shoff + h->e_shstrndx * sizeof names, &names, sizeof names))
        return false;
    for (unsigned i = 0; i < h->e_shnum; i++) {
        if (read_at(s, h->e_shoff + i * sizeof *out, out, sizeof *out))
            return false;
        if ((out->sh_type == SHT_PROGBITS || out->sh_type == SHT_X86_64_UNWIND) &&
            (out->sh_flags & SHF_ALLOC) && has_name(s, &names, out, name))
            return true;
    }
    return false;
}

static int load_frame(struct perf_elf *e, const struct perf_elf_source *s, const Elf64_Ehdr *h,
                      uint64_t address)
{
    Elf64_Shdr section;
    uint64_t offset, left;
    bool has_section = find_section(s, h, ".eh_frame", &section);
    if (!address && has_section)
        address = section.sh_addr;
    if (!address || !locate(e, address, &offset, &left))
        return 0;
    if (has_section && section.sh_addr == address && section.sh_size < left)
        left = section.sh_size;
    int rc = read_table(e, s, offset, left, &e->frame_bytes, &e->tables.eh_frame.size);
    if (rc)
        return rc == -ENOMEM ? rc : 0;
    e->tables.eh_frame.data = e->frame_bytes;
    e->tables.eh_frame.address = address;
    return 0;
}

// header is NULL where there is no .eh_frame_hdr: then .eh_frame is searched from its start.
static int load_tables(struct perf_elf *e, const struct perf_elf_source *s, const Elf64_Ehdr *h,
                       const Elf64_Phdr *header)
{
    struct unwind_section *hdr = &e->tables.eh_frame_hdr;
    uint64_t offset, left, address = 0;
    if (header && locate(e, header->p_vaddr, &offset, &left)) {
        if (header->p_filesz < left)
            left = header->p_filesz;
        int rc = read_table(e, s, offset, left, &e->header_bytes, &hdr->size);
        if (rc == -ENOMEM)
            return rc;
        hdr->data = e->header_bytes;
        hdr->address = header->p_vaddr;
        if (rc || !frame_address(hdr, &address))
            return 0; // broken: its frames are walked by frame pointer
    }
    return load_frame(e, s, h, address);
}

struct by_address {
    const struct perf_elf *e;
    const struct perf_elf_source *s;
};

static int read_by_address(void *arg, uint64_t address, void *out, size_t n)
{
    const struct by_address *by = arg;
    uint64_t offset, left;
    if (!locate(by->e, address, &offset, &left) || left < n)
        return -ENOEXEC;
    return read_at(by->s, offset, out, n);
}

// A Go program's table, made into entries beside those of C code that it may have.
static int load_go(struct perf_elf *e, const struct perf_elf_source *s, const Elf64_Ehdr *h)
{
    Elf64_Shdr table, text = {0};
    struct go_frames frames;
    struct by_address by = {e, s};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (!find_section(s, h, ".gopclntab", &table) &&
        !find_section(s, h, ".data.rel.ro.gopclntab", &table))
        return 0;
    if (!find_section(s, h, ".text", &text))
        return 0;
    int rc = read_table(e, s, table.sh_offset, table.sh_size, &bytes, &size);
    if (rc)
        return rc == -ENOMEM ? rc : 0;
    struct go_frames_source source = {
        .bytes = bytes,
        .size = size,
        .text = text.sh_addr,
        .text_size = text.sh_size,
        .address = table.sh_addr,
        .bytes_max = tables_max(s),
        .beside = e->tables,
        .read = read_by_address,
        .arg = &by,
    };
    rc = go_frames_make(&frames, &source);
    free(bytes);
    e->had_no_room = e->had_no_room || rc == -ENOSPC;
    if (rc)
        return rc == -ENOMEM ? rc : 0;
    free(e->header_bytes);
    free(e->frame_bytes);
    e->header_bytes = frames.header_bytes;
    e->frame_bytes = frames.frame_bytes;
    e->tables = frames.tables;
    return 0;
}

int perf_elf_load(struct perf_elf *out, const struct perf_elf_source *source)
{
    Elf64_Ehdr h;
    Elf64_Phdr *p = NULL;
    const Elf64_Phdr *unwind = NULL;
    *out = (struct perf_elf){0};
    int rc = read_header(source, &h);
    if (!rc)
        rc = read_segments(source, &h, &p);
    if (rc)
        return rc;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        if (p[i].p_type == PT_GNU_EH_FRAME && !unwind)
            unwind = &p[i];
        if (p[i].p_type != PT_LOAD || out->load_count == PERF_ELF_LOADS_MAX ||
            p[i].p_filesz > UINT64_MAX - p[i].p_offset || p[i].p_filesz > UINT64_MAX - p[i].p_vaddr)
            continue;
        out->loads[out->load_count].is_code = p[i].p_flags & PF_X;
        out->loads[out->load_count].offset = p[i].p_offset;
        out->loads[out->load_count].address = p[i].p_vaddr;
        out->loads[out->load_count++].size = p[i].p_filesz;
    }
    rc = out->load_count ? 0 : -ENOEXEC;
    if (!rc)
        rc = load_tables(out, source, &h, unwind);
    if (!rc && !out->tables.eh_frame.size) {
        // A header without the table behind it is of no use, and would be searched for nothing.
        free(out->header_bytes);
        out->header_bytes = NULL;
        out->tables.eh_frame_hdr = (struct unwind_section){0};
    }
    if (!rc)
        rc = load_go(out, source, &h);
    free(p);
    if (rc)
        perf_elf_finish(out);
    return rc;
}

void perf_elf_finish(struct perf_elf *e)
{
    free(e->header_bytes);
    free(e->frame_bytes);
    *e = (struct perf_elf){0};
}

int perf_elf_bias(const struct perf_elf *e, uint64_t start, uint64_t offset, uint64_t *bias)
{
    enum { PAGE = 4096 };
    for (int pass = 0; pass < 2; pass++) // code first
        for (uint32_t i = 0; i < e->load_count; i++) {
            // The kernel maps whole pages: a mapping starts at or below the segment's first byte.
            uint64_t first = e->loads[i].offset & ~(uint64_t)(PAGE - 1);
            if (e->loads[i].is_code != (pass == 0) || offset < first ||
                offset - first >= e->loads[i].size + (e->loads[i].offset - first))
                continue;
            *bias = start - offset + e->loads[i].offset - e->loads[i].address;
            return 0;
        }
    return -ENOENT;
}

static size_t build_id_of_notes(const uint8_t *notes, size_t size, uint8_t *id, size_t max)
{
    for (size_t at = 0; size - at >= sizeof(Elf64_Nhdr);) {
        Elf64_Nhdr n;
        memcpy(&n, notes + at, sizeof n);
        at += sizeof n;
        uint64_t name = ((uint64_t)n.n_namesz + 3) & ~UINT64_C(3);
        uint64_t desc = ((uint64_t)n.n_descsz + 3) & ~UINT64_C(3);
        if (name > size - at || desc > size - at - name)
            return 0;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && !memcmp(notes + at, "GNU", 4) &&
            n.n_descsz <= max) {
            memcpy(id, notes + at + name, n.n_descsz);
            return n.n_descsz;
        }
        at += name + desc;
    }
    return 0;
}

size_t perf_elf_build_id(const struct perf_elf_source *source, uint8_t *id, size_t max)
{
    Elf64_Ehdr h;
    Elf64_Phdr *p = NULL;
    size_t found = 0;
    if (read_header(source, &h) || read_segments(source, &h, &p))
        return 0;
    for (unsigned i = 0; i < h.e_phnum && !found; i++) {
        if (p[i].p_type != PT_NOTE || p[i].p_filesz > NOTE_BYTES_MAX || !p[i].p_filesz)
            continue;
        uint8_t *notes = malloc((size_t)p[i].p_filesz);
        if (notes && !read_at(source, p[i].p_offset, notes, (size_t)p[i].p_filesz))
            found = build_id_of_notes(notes, (size_t)p[i].p_filesz, id, max);
        free(notes);
    }
    free(p);
    return found;
}
