// SPDX-License-Identifier: MIT
//
// A hash table of pointers that somebody else owns, for finding the equal of something.
//
// Invariant: at most half of the slots are taken, so every probe ends. A zeroed struct ptrtab is an
// empty table. Not thread-safe.

#ifndef FIBERSCOPE_FORMATS_PTRTAB_H
#define FIBERSCOPE_FORMATS_PTRTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptrtab_slot {
    uint64_t hash;
    const void *item; // NULL: free
};

struct ptrtab {
    struct ptrtab_slot *slots; // [capacity], a power of two
    size_t count;
    size_t capacity;
};

typedef bool ptrtab_equal(const void *item, const void *key);

// The item with this hash that equals key, or NULL.
const void *ptrtab_find(const struct ptrtab *t, uint64_t hash, ptrtab_equal *equal,
                        const void *key);

// Adds item without looking for an equal one. 0 or -ENOMEM.
int ptrtab_add(struct ptrtab *t, uint64_t hash, const void *item);

// Takes out the very item that was added with this hash, if it is there.
void ptrtab_remove(struct ptrtab *t, uint64_t hash, const void *item);

// Frees the slots; the table is empty again.
void ptrtab_finish(struct ptrtab *t);

// A number of this process to start a hash with, so that nobody can write a file whose things all
// hash alike and make reading it take forever. [any thread]
uint64_t ptrtab_seed(void);

// Mixes v into hash: for fields, and for pointers to interned things.
static inline uint64_t ptrtab_mix(uint64_t hash, uint64_t v)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)(hash ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// Hash of n bytes.
uint64_t ptrtab_hash_bytes(const void *bytes, size_t n);

#endif
