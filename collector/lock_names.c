// SPDX-License-Identifier: MIT
//
// See lock_names.h. The segment's modules are code alone, but a file's program headers tell from one
// mapping where its data is.

#include "collector/lock_names.h"

#include "collector/record_internal.h"
#include "symbols/data_symbols.h"
#include "symbols/symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 512, IMAGES_MAX = 4096 };
enum named { NAMED_BY_PLACE, NAMED_BY_VARIABLE, NAMED_BY_MAKER };

struct image { // a file that some process has mapped
    int fd;
    struct data_symbols *symbols; // NULL: unreadable
};

struct naming {
    struct builder *b;
    struct image *images;
    size_t image_count, image_capacity;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *type_word(enum seg_lock_type type)
{
    static const char *const words[] = {
        [SEG_LOCK_UNKNOWN] = "lock",   [SEG_LOCK_MUTEX] = "mutex",   [SEG_LOCK_RWLOCK] = "rwlock",
        [SEG_LOCK_COND] = "condition", [SEG_LOCK_SEM] = "semaphore", [SEG_LOCK_BARRIER] = "barrier",
        [SEG_LOCK_JOIN] = "join",      [SEG_LOCK_FUTEX] = "futex",
    };
    return words[type];
}

// The file's symbols; NULL if it has none to be read.
static const struct data_symbols *image_of(struct naming *n, const struct builder_module *m)
{
    if (m->fd < 0)
        return NULL;
    for (size_t i = 0; i < n->image_count; i++)
        if (n->images[i].fd == m->fd)
            return n->images[i].symbols;
    if (n->image_count == n->image_capacity) {
        size_t capacity = n->image_capacity * 2 + 16;
        struct image *grown =
            n->image_count < IMAGES_MAX ? reallocarray(n->images, capacity, sizeof *grown) : NULL;
        if (!grown)
            return NULL; // costs this file's names
        n->images = grown;
        n->image_capacity = capacity;
    }
    struct image *im = &n->images[n->image_count++];
    *im = (struct image){.fd = m->fd};
    if (data_symbols_open(&im->symbols, m->fd, m->path, NULL))
        im->symbols = NULL;
    return im->symbols;
}

// The file whose data the lock lies in, and the lock's address there. What is still mapped goes before
// what lay there once.
static const struct data_symbols *find_image(struct naming *n, const struct builder_lock_view *lock,
                                             struct builder_module *file, uint64_t *address)
{
    const struct data_symbols *best = NULL;
    struct builder_module m;
    for (size_t i = 0; builder_get_module(lock->process, i, &m); i++) {
        uint64_t bias;
        const struct data_symbols *d = best && m.until ? NULL : image_of(n, &m);
        if (!d || data_symbols_bias(d, m.start, m.offset, &bias) ||
            !data_symbols_cover(d, lock->object - bias))
            continue;
        best = d;
        *file = m;
        *address = lock->object - bias;
        if (!m.until)
            break;
    }
    return best;
}

// Where the lock lies in a file; true if that is a variable, and not only a place.
static bool name_by_place(struct naming *n, const struct builder_lock_view *lock, char *name)
{
    struct builder_module file, main_file;
    char variable[NAME_BYTES / 2] = "", suffix[NAME_BYTES / 4] = "", into_text[24] = "";
    const char *symbol;
    uint64_t address, into;
    const struct data_symbols *d = find_image(n, lock, &file, &address);
    if (!d) {
        snprintf(name, NAME_BYTES, "%s 0x%" PRIx64, type_word(lock->type), lock->object);
        return false;
    }
    if (data_symbols_find(d, address, &symbol, &into)) {
        snprintf(name, NAME_BYTES, "%s %.200s+0x%" PRIx64, type_word(lock->type),
                 base_name(file.path), address);
        return false;
    }
    symbols_demangle(symbol, variable, sizeof variable);
    if (builder_get_module(lock->process, 0, &main_file) && strcmp(main_file.path, file.path) != 0)
        snprintf(suffix, sizeof suffix, " (%.100s)", base_name(file.path));
    if (into)
        snprintf(into_text, sizeof into_text, "+0x%" PRIx64, into);
    snprintf(name, NAME_BYTES, "%s%s%s", variable, into_text, suffix);
    return true;
}

// Whether a frame of this file says nothing of who wanted the lock.
static bool is_library(const struct pprof_mapping *m)
{
    static const char *const names[] = {"libc.so",   "libc-2.",       "libstdc++.so",
                                        "libc++.so", "libpthread.so", "libgcc_s.",
                                        "ld-linux",  "libpthread-2.", "libfiberscope"};
    for (size_t i = 0; m && i < sizeof names / sizeof *names; i++)
        if (strncmp(base_name(m->file), names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool is_inlined_library(const char *function)
{
    return strncmp(function, "std::", 5) == 0 || strncmp(function, "__gnu_cxx::", 11) == 0;
}

// The innermost line of the innermost frame that is the program's own.
static const struct pprof_line *who_made(const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < s->location_count; i++) {
        const struct pprof_location *l = s->locations[i];
        for (uint32_t j = 0; j < l->line_count && !is_library(l->mapping); j++)
            if (!is_inlined_library(l->lines[j].function->name))
                return &l->lines[j];
    }
    for (uint32_t i = 0; i < s->location_count; i++)
        if (s->locations[i]->line_count)
            return &s->locations[i]->lines[0];
    return NULL;
}

// Of memory that was several locks: "mutex at A or B".
static int name_by_maker(struct builder *b, enum named *named, const struct pprof_sample *s)
{
    char maker[NAME_BYTES], offset[24] = "", name[NAME_BYTES * 3];
    struct builder_lock_view lock;
    uint32_t index = (uint32_t)(s->labels[0].num - 1);
    const struct pprof_line *line = who_made(s);
    if (!line || named[index] == NAMED_BY_VARIABLE)
        return 0;
    builder_get_lock(b, index, &lock);
    if (s->label_count > 1)
        snprintf(offset, sizeof offset, " +0x%" PRIx64, (uint64_t)s->labels[1].num);
    if (line->function->filename[0])
        snprintf(maker, sizeof maker, "%.300s %.100s:%" PRId64 "%s", line->function->name,
                 base_name(line->function->filename), line->line, offset);
    else
        snprintf(maker, sizeof maker, "%.300s%s", line->function->name, offset);
    if (named[index] != NAMED_BY_MAKER)
        snprintf(name, sizeof name, "%s at %s", type_word(lock.type), maker);
    else if (strstr(lock.name, maker) || strlen(lock.name) > NAME_BYTES)
        return 0;
    else
        snprintf(name, sizeof name, "%s or %s", lock.name, maker);
    named[index] = NAMED_BY_MAKER;
    return builder_name_lock(b, index, name);
}

static int name_by_makers(struct builder *b, enum named *named, uint32_t pid)
{
    struct pprof_profile *p = NULL;
    char summary[512];
    int rc = builder_finish_locks(b, &p);
    if (rc)
        return rc;
    if (p->sample_count)
        record_symbolize(b, p, pid, summary, sizeof summary);
    for (size_t i = 0; !rc && i < p->sample_count; i++)
        rc = name_by_maker(b, named, p->samples[i]);
    pprof_free(p);
    return rc;
}

int lock_names_find(struct builder *b, bool symbolize, uint32_t pid)
{
    uint32_t count = builder_lock_count(b);
    struct naming n = {.b = b};
    enum named *named = calloc(count + UINT64_C(1), sizeof *named);
    int rc = named ? 0 : -ENOMEM;
    for (uint32_t i = 0; !rc && i < count; i++) {
        char name[NAME_BYTES];
        struct builder_lock_view lock;
        builder_get_lock(b, i, &lock);
        named[i] = name_by_place(&n, &lock, name) ? NAMED_BY_VARIABLE : NAMED_BY_PLACE;
        rc = builder_name_lock(b, i, name);
    }
    if (!rc && count && symbolize)
        rc = name_by_makers(b, named, pid);
    for (size_t i = 0; i < n.image_count; i++)
        data_symbols_close(n.images[i].symbols);
    free(n.images);
    free(named);
    return rc;
}
