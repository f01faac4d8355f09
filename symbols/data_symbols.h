// SPDX-License-Identifier: MIT
//
// Names of variables: which object of an ELF file's symbol tables lies at an address. For the locks of
// a lock profile, most of which are global variables or fields of them.
//
// Addresses are link-time addresses; data_symbols_bias says by how much a mapping moved them. The file
// itself is looked at (.symtab, else .dynsym), no separate debug file. Input is hostile, as in symbols.h.
//
// Invariant: symbols are sorted by address and point into the file, which stays open.

#ifndef FIBERSCOPE_SYMBOLS_DATA_SYMBOLS_H
#define FIBERSCOPE_SYMBOLS_DATA_SYMBOLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct data_symbols;

// fd is duplicated; name is what errors call it. 0 or -errno (-ENOEXEC: not ELF, or broken). The caller
// owns *out: data_symbols_close.
int data_symbols_open(struct data_symbols **out, int fd, const char *name,
                      struct fscope_error *err);
void data_symbols_close(struct data_symbols *d); // accepts NULL

// What has to be subtracted from an address, modulo 2^64, where `offset` of the file is mapped at
// `start` as code. -ENOENT: the file has nothing to be mapped there.
int data_symbols_bias(const struct data_symbols *d, uint64_t start, uint64_t offset,
                      uint64_t *bias);

// Whether the loaded image covers the address, its zero-initialized data too.
bool data_symbols_cover(const struct data_symbols *d, uint64_t address);

// The variable that covers the address, mangled as linked, and how far into it the address lies. -ENOENT:
// none. *name stays valid until data_symbols_close.
int data_symbols_find(const struct data_symbols *d, uint64_t address, const char **name,
                      uint64_t *into);

// The address of the variable with this linkage name. -ENOENT: there is none.
int data_symbols_address(const struct data_symbols *d, const char *name, uint64_t *address);

// The same for one name of a file, without a table of all others: .dynsym and .symtab are gone through. 0; -ENOENT; -errno
// as above.
int data_symbols_look_up(int fd, const char *file, const char *name, uint64_t *address);

#endif
