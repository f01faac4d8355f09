// SPDX-License-Identifier: MIT
//
// An ELF file opened for symbols: libelf's handle plus what we checked ourselves.
//
// Invariant: an open elf_file is a 64-bit little-endian x86-64 executable, shared object or debug
// file; every section that it lists lies inside of the file, compressed ones claim no size that
// their bytes cannot expand to.

#ifndef FIBERSCOPE_SYMBOLS_ELF_FILE_H
#define FIBERSCOPE_SYMBOLS_ELF_FILE_H

#include "base/error.h"

#include <gelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    ELF_BUILD_ID_BYTES_MAX = 64,
    ELF_LOADS_MAX = 64,
    ELF_SECTIONS_MAX = 1 << 20,
};

struct elf_load {
    uint64_t address, size_bytes; // in memory
    uint64_t offset, file_bytes;
    bool is_executable;
};

struct elf_file {
    char *path; // for messages and debuglink
    int fd;     // -1 for memory
    Elf *elf;
    void *copy; // owned bytes behind a memory image
    size_t copy_size;
    uint64_t size;
    bool is_mapped; // by libelf; then the file must not shrink
    dev_t dev;
    ino_t ino;
    struct timespec mtime;
    uint16_t type;
    char build_id[2 * ELF_BUILD_ID_BYTES_MAX + 1]; // hex, "" if none
    uint32_t load_count;
    struct elf_load loads[ELF_LOADS_MAX];
};

// fd is duplicated. -ENOEXEC with a reason if it is no such file.
int elf_file_open_fd(struct elf_file **out, int fd, const char *path, struct fscope_error *err);
int elf_file_open(struct elf_file **out, const char *path, struct fscope_error *err);

// Takes data (malloc'd) in any case.
int elf_file_open_memory(struct elf_file **out, void *data, size_t size, const char *path,
                         struct fscope_error *err);
void elf_file_close(struct elf_file *f); // accepts NULL

// The section with this name and contents, NULL if there is none.
Elf_Scn *elf_file_section(const struct elf_file *f, const char *name, GElf_Shdr *shdr);

// Its bytes, uncompressed; NULL if unreadable.
Elf_Data *elf_file_section_data(const struct elf_file *f, const char *name, GElf_Shdr *shdr);

// To be called before libdw opens f.
void elf_file_hide_unused(const struct elf_file *f);

bool elf_file_has_dwarf(const struct elf_file *f);

// Whether every section can be handed to libdw; the reason in err otherwise. elf_check.c.
int elf_check(struct elf_file *f, struct fscope_error *err);

#endif
