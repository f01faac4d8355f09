// SPDX-License-Identifier: MIT

#include "symbols/elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A mapped file that shrinks under us is a SIGBUS, so files are read, except those that only root
// could shrink (package managers replace files by renaming) and those too big to read.
static const uint64_t READ_BYTES_MAX = 512ull << 20;

static bool may_be_mapped(const struct stat *st)
{
    return (st->st_uid == 0 && !(st->st_mode & (S_IWGRP | S_IWOTH))) ||
           (uint64_t)st->st_size > READ_BYTES_MAX;
}

static int read_loads(struct elf_file *f, struct fscope_error *err)
{
    size_t n = 0;
    if (elf_getphdrnum(f->elf, &n))
        return error_set(err, -ENOEXEC, 0, "%s: broken program headers", f->path);
    for (size_t i = 0; i < n && f->load_count < ELF_LOADS_MAX; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(f->elf, (int)i, &ph))
            return error_set(err, -ENOEXEC, 0, "%s: broken program header %zu", f->path, i);
        if (ph.p_type != PT_LOAD || ph.p_memsz > UINT64_MAX - ph.p_vaddr)
            continue;
        f->loads[f->load_count++] = (struct elf_load){
            .address = ph.p_vaddr,
            .size_bytes = ph.p_memsz,
            .offset = ph.p_offset,
            .file_bytes = ph.p_filesz,
            .is_executable = ph.p_flags & PF_X,
        };
    }
    return 0;
}

static bool notes_build_id(struct elf_file *f, Elf_Data *data)
{
    size_t at = 0, name_at, desc_at;
    GElf_Nhdr nh;
    if (!data || !data->d_buf)
        return false;
    while ((at = gelf_getnote(data, at, &nh, &name_at, &desc_at)) > 0) {
        const char *bytes = data->d_buf;
        if (nh.n_type != NT_GNU_BUILD_ID || nh.n_namesz != 4 || memcmp(bytes + name_at, "GNU", 4))
            continue;
        if (nh.n_descsz == 0 || nh.n_descsz > ELF_BUILD_ID_BYTES_MAX)
            continue;
        for (uint32_t i = 0; i < nh.n_descsz; i++)
            snprintf(f->build_id + 2 * i, 3, "%02x", (unsigned char)bytes[desc_at + i]);
        return true;
    }
    return false;
}

// Sections first: in a detached debug file the PT_NOTE points nowhere, its note section does.
static void read_build_id(struct elf_file *f)
{
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->elf, scn))) {
        GElf_Shdr sh;
        if (gelf_getshdr(scn, &sh) && sh.sh_type == SHT_NOTE &&
            notes_build_id(f, elf_getdata(scn, NULL)))
            return;
    }
    size_t n = 0;
    if (elf_getphdrnum(f->elf, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(f->elf, (int)i, &ph) || ph.p_type != PT_NOTE || ph.p_offset > f->size ||
            ph.p_filesz > f->size - ph.p_offset)
            continue;
        Elf_Type type = ph.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR;
        if (notes_build_id(f,
                           elf_getdata_rawchunk(f->elf, (int64_t)ph.p_offset, ph.p_filesz, type)))
            return;
    }
}

// dwz's files of what several debug files share are of type ET_REL, but hold nothing to relocate.
static bool is_dwz_file(struct elf_file *f)
{
    Elf_Scn *scn = NULL;
    GElf_Shdr sh;
    while ((scn = elf_nextscn(f->elf, scn)))
        if (!gelf_getshdr(scn, &sh) || (sh.sh_flags & SHF_EXECINSTR) || sh.sh_type == SHT_REL ||
            sh.sh_type == SHT_RELA)
            return false;
    return true;
}

static int check_header(struct elf_file *f, struct fscope_error *err)
{
    GElf_Ehdr eh;
    if (elf_kind(f->elf) != ELF_K_ELF || !gelf_getehdr(f->elf, &eh))
        return error_set(err, -ENOEXEC, 0, "%s: not an ELF file", f->path);
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB ||
        eh.e_machine != EM_X86_64)
        return error_set(err, -ENOEXEC, 0, "%s: not for 64-bit x86", f->path);
    if (eh.e_type != ET_EXEC && eh.e_type != ET_DYN && (eh.e_type != ET_REL || !is_dwz_file(f)))
        return error_set(err, -ENOEXEC, 0, "%s: neither an executable nor a shared object",
                         f->path);
    f->type = eh.e_type;
    return 0;
}

static int finish_open(struct elf_file *f, struct fscope_error *err)
{
    if (!f->elf)
        return error_set(err, -ENOEXEC, 0, "%s: %s", f->path, elf_errmsg(-1));
    int rc = check_header(f, err);
    if (!rc)
        rc = elf_check(f, err);
    if (!rc)
        rc = read_loads(f, err);
    if (!rc)
        read_build_id(f);
    return rc;
}

static struct elf_file *file_new(const char *path)
{
    elf_version(EV_CURRENT);
    struct elf_file *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->fd = -1;
    f->path = strdup(path);
    if (!f->path) {
        free(f);
        return NULL;
    }
    return f;
}

int elf_file_open_fd(struct elf_file **out, int fd, const char *path, struct fscope_error *err)
{
    *out = NULL;
    struct elf_file *f = file_new(path);
    if (!f)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    int rc;
    struct stat st;
    if (fstat(fd, &st)) {
        rc = error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = error_set(err, -ENOEXEC, 0, "%s: not a regular file", path);
        goto fail;
    }
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    f->mtime = st.st_mtim;
    f->size = (uint64_t)st.st_size;
    f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (f->fd < 0) {
        rc = error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
        goto fail;
    }
    f->is_mapped = may_be_mapped(&st);
    f->elf = elf_begin(f->fd, f->is_mapped ? ELF_C_READ_MMAP : ELF_C_READ, NULL);
    rc = finish_open(f, err);
    if (rc)
        goto fail;
    *out = f;
    return 0;
fail:
    elf_file_close(f);
    return rc;
}

int elf_file_open(struct elf_file **out, const char *path, struct fscope_error *err)
{
    *out = NULL;
    // O_NONBLOCK: a FIFO in the file's place must not hang us; check is fstat's.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    int rc = elf_file_open_fd(out, fd, path, err);
    close(fd);
    return rc;
}

int elf_file_open_memory(struct elf_file **out, void *data, size_t size, const char *path,
                         struct fscope_error *err)
{
    *out = NULL;
    struct elf_file *f = file_new(path);
    if (!f) {
        free(data);
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    }
    f->copy = data;
    f->copy_size = size;
    f->size = size;
    // elf_memory with less than an ident reads beyond it in some versions.
    if (size < EI_NIDENT) {
        elf_file_close(f);
        return error_set(err, -ENOEXEC, 0, "%s: not an ELF file", path);
    }
    f->elf = elf_memory(f->copy, size);
    int rc = finish_open(f, err);
    if (rc) {
        elf_file_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

void elf_file_close(struct elf_file *f)
{
    if (!f)
        return;
    elf_end(f->elf);
    if (f->fd >= 0)
        close(f->fd);
    free(f->copy);
    free(f->path);
    free(f);
}

Elf_Scn *elf_file_section(const struct elf_file *f, const char *name, GElf_Shdr *shdr)
{
    size_t strings;
    if (elf_getshdrstrndx(f->elf, &strings))
        return NULL;
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->elf, scn))) {
        if (!gelf_getshdr(scn, shdr) || shdr->sh_type == SHT_NOBITS)
            continue;
        const char *s = elf_strptr(f->elf, strings, shdr->sh_name);
        if (s && !strcmp(s, name))
            return scn;
    }
    return NULL;
}

Elf_Data *elf_file_section_data(const struct elf_file *f, const char *name, GElf_Shdr *shdr)
{
    Elf_Scn *scn = elf_file_section(f, name, shdr);
    if (!scn)
        return NULL;
    if ((shdr->sh_flags & SHF_COMPRESSED) && elf_compress(scn, 0, 0) < 0)
        return NULL;
    Elf_Data *d = elf_getdata(scn, NULL);
    return d && d->d_buf && d->d_size ? d : NULL;
}

// libdw unpacks every debug section it knows when it begins; these it never needs here.
void elf_file_hide_unused(const struct elf_file *f)
{
    static const char *const unused[] = {".debug_loclists", ".debug_loc",      ".debug_macro",
                                         ".debug_macinfo",  ".debug_aranges",  ".debug_frame",
                                         ".debug_pubnames", ".debug_pubtypes", ".debug_names"};
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) {
        GElf_Shdr sh;
        Elf_Scn *scn = elf_file_section(f, unused[i], &sh);
        if (!scn)
            continue;
        sh.sh_type = SHT_NOBITS;
        (void)gelf_update_shdr(scn, &sh); // in our copy of the headers; nothing is written back
    }
}

bool elf_file_has_dwarf(const struct elf_file *f)
{
    GElf_Shdr sh;
    return elf_file_section(f, ".debug_info", &sh) || elf_file_section(f, ".zdebug_info", &sh);
}
