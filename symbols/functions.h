// SPDX-License-Identifier: MIT
//
// The functions that an ELF file exports (.dynsym): where one lies, and which one covers an address. For calling libc's
// from outside, and for telling which of its functions a thread is in.
//
// Addresses are link-time addresses. Input is hostile, as in symbols.h.

#ifndef FIBERSCOPE_SYMBOLS_FUNCTIONS_H
#define FIBERSCOPE_SYMBOLS_FUNCTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct functions;

// fd is duplicated; name is what errors call it. 0 or -errno (-ENOEXEC: not ELF, or broken). The caller owns *out:
// functions_close.
int functions_open(struct functions **out, int fd, const char *name, struct fscope_error *err);
void functions_close(struct functions *f); // accepts NULL

// -ENOENT: it defines none of this name. size may be NULL.
int functions_find(const struct functions *f, const char *name, uint64_t *address, uint64_t *size);

// Where these bytes first stand in its code. -ENOENT.
int functions_find_code(const struct functions *f, const void *bytes, uint64_t size,
                        uint64_t *address);

// The file's bytes at an address of its code. -ENOENT: it has none there.
int functions_read(const struct functions *f, uint64_t address, void *out, uint64_t size);

#endif
