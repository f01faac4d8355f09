// SPDX-License-Identifier: MIT
//
// Interns byte strings: equal bytes have one id. Ids count from 0 in order of first appearance, so a
// caller may keep an array beside the table.
//
// Invariant: an entry's bytes never move and are aligned for any type. One thread at a time.

#ifndef FIBERSCOPE_COLLECTOR_INTERN_H
#define FIBERSCOPE_COLLECTOR_INTERN_H

#include "base/arena.h"

#include <stdint.h>

#define INTERN_NONE UINT32_MAX // out of memory, or not there

struct intern_entry {
    const void *data;
    uint32_t size; // bytes
    uint32_t hash;
};

struct intern { // zeroed is empty
    struct arena arena;
    struct intern_entry *entries;
    uint32_t count, capacity;
    uint32_t *slots; // id + 1, 0 free
    uint32_t slot_count;
};

void intern_finish(struct intern *t); // accepts a zeroed one

// The id of these bytes, made if it is not there; INTERN_NONE when memory is exhausted.
uint32_t intern_put(struct intern *t, const void *data, size_t size);

// The id, or INTERN_NONE if it is not there.
uint32_t intern_find(const struct intern *t, const void *data, size_t size);

// NUL-terminated strings; NULL counts as "".
uint32_t intern_string(struct intern *t, const char *s);
const char *intern_text(const struct intern *t, uint32_t id);

#endif
