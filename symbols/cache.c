// SPDX-License-Identifier: MIT

#include "symbols/cache.h"

#include "base/arena.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char MAGIC[8] = {'F', 'S', 'S', 'Y', 'M', 0, 1, '\n'};

enum {
    PATH_BYTES = 4096,
    FILE_BYTES_MAX = 64 << 20,
    DIR_BYTES_MAX = 256 << 20,
    ENTRIES_MAX = 1 << 18,
};

struct header {
    char magic[8];
    uint64_t identity;
    uint32_t entry_count, frame_count, string_bytes, crc;
};
struct entry {
    uint64_t address;
    uint32_t first, count;
};
struct frame {
    uint32_t name, system_name, file, line, column, start_line, is_inlined;
};
_Static_assert(sizeof(struct header) == 32 && sizeof(struct entry) == 16 &&
                   sizeof(struct frame) == 28,
               "the layout in cache.h");

struct fresh { // an answer of this run
    uint64_t address;
    struct symbols_frame *frames;
    uint32_t count;
};

struct symbols_cache {
    char path[PATH_BYTES], dir[PATH_BYTES];
    uint64_t identity;
    void *bytes; // the validated file
    const struct header *header;
    const struct entry *entries;
    const struct frame *frames;
    const char *strings;
    struct arena arena;
    struct fresh *fresh;
    size_t fresh_count, fresh_capacity;
};

// --- Reading.

static bool is_valid(struct symbols_cache *c, size_t size)
{
    const struct header *h = c->bytes;
    if (size < sizeof *h || memcmp(h->magic, MAGIC, sizeof MAGIC) || h->identity != c->identity)
        return false;
    uint64_t want = sizeof *h + (uint64_t)h->entry_count * sizeof(struct entry) +
                    (uint64_t)h->frame_count * sizeof(struct frame) + h->string_bytes;
    if (want != size || !h->string_bytes ||
        crc32(crc32(0, NULL, 0), (const Bytef *)(h + 1), (uInt)(size - sizeof *h)) != h->crc)
        return false;
    const struct entry *e = (const struct entry *)(h + 1);
    const struct frame *f = (const struct frame *)(e + h->entry_count);
    const char *s = (const char *)(f + h->frame_count);
    if (s[h->string_bytes - 1] != '\0')
        return false;
    for (uint32_t i = 0; i < h->entry_count; i++)
        if ((i && e[i].address <= e[i - 1].address) || e[i].first > h->frame_count ||
            e[i].count > h->frame_count - e[i].first || e[i].count > SYMBOLS_FRAMES_MAX)
            return false;
    for (uint32_t i = 0; i < h->frame_count; i++)
        if (f[i].name >= h->string_bytes || f[i].system_name >= h->string_bytes ||
            f[i].file >= h->string_bytes)
            return false;
    c->header = h;
    c->entries = e;
    c->frames = f;
    c->strings = s;
    return true;
}

static void load(struct symbols_cache *c)
{
    struct stat st;
    int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    // Another user's file could tell us anything.
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_size <= 0 ||
        st.st_size > FILE_BYTES_MAX) {
        close(fd);
        return;
    }
    size_t size = (size_t)st.st_size, got = 0;
    c->bytes = malloc(size);
    ssize_t n = 1;
    while (c->bytes && got < size && n > 0) {
        n = read(fd, (char *)c->bytes + got, size - got);
        got += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (c->bytes && got == size && is_valid(c, size))
        return;
    free(c->bytes);
    c->bytes = NULL;
}

// dir/symbols, made with its parents; empty if there is no place.
static void find_dir(char *out, const char *dir)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[PATH_BYTES - 16];
    int n = -1;
    out[0] = '\0';
    if (dir)
        n = snprintf(base, sizeof base, "%s", dir);
    else if (xdg && xdg[0] == '/')
        n = snprintf(base, sizeof base, "%s/fiberscope", xdg);
    else if (home && home[0] == '/')
        n = snprintf(base, sizeof base, "%s/.cache/fiberscope", home);
    if (n > 0 && n < (int)sizeof base)
        snprintf(out, PATH_BYTES, "%s/symbols", base);
}

struct symbols_cache *symbols_cache_open(const char *dir, const char *build_id, uint64_t identity)
{
    struct symbols_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->identity = identity;
    find_dir(c->dir, dir);
    // Hex only, so it is a file name.
    if (*c->dir && snprintf(c->path, sizeof c->path, "%s/%s", c->dir, build_id) < PATH_BYTES)
        load(c);
    else
        c->path[0] = '\0';
    return c;
}

int symbols_cache_find(const struct symbols_cache *c, uint64_t address,
                       struct symbols_frame *frames, uint32_t max)
{
    size_t low = 0, high = c->header ? c->header->entry_count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->entries[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    if (!c->header || low == c->header->entry_count || c->entries[low].address != address)
        return -ENOENT;
    const struct entry *e = &c->entries[low];
    uint32_t skip = e->count > max ? e->count - max : 0; // the outermost stay, as in dwarf_index.c
    for (uint32_t i = skip; i < e->count; i++) {
        const struct frame *f = &c->frames[e->first + i];
        frames[i - skip] = (struct symbols_frame){
            .name = c->strings + f->name,
            .system_name = c->strings + f->system_name,
            .file = c->strings + f->file,
            .line = f->line,
            .column = f->column,
            .start_line = f->start_line,
            .is_inlined = f->is_inlined != 0,
        };
    }
    return (int)(e->count - skip);
}

void symbols_cache_add(struct symbols_cache *c, uint64_t address,
                       const struct symbols_frame *frames, uint32_t count)
{
    if (!*c->path || c->fresh_count >= ENTRIES_MAX)
        return;
    if (c->fresh_count == c->fresh_capacity) {
        size_t capacity = c->fresh_capacity ? 2 * c->fresh_capacity : 256;
        struct fresh *more = realloc(c->fresh, capacity * sizeof *more);
        if (!more)
            return;
        c->fresh = more;
        c->fresh_capacity = capacity;
    }
    struct symbols_frame *copy = arena_array(&c->arena, count ? count : 1, sizeof *copy);
    if (!copy)
        return;
    memcpy(copy, frames, count * sizeof *copy);
    c->fresh[c->fresh_count++] = (struct fresh){.address = address, .frames = copy, .count = count};
}

// --- Writing.

struct buffer {
    char *bytes;
    size_t size, capacity;
    bool failed;
};

static uint32_t put(struct buffer *b, const void *data, size_t n)
{
    if (b->size + n > b->capacity) {
        size_t capacity = 2 * (b->size + n) + 4096;
        char *more = capacity <= FILE_BYTES_MAX ? realloc(b->bytes, capacity) : NULL;
        if (!more) {
            b->failed = true;
            return 0;
        }
        b->bytes = more;
        b->capacity = capacity;
    }
    memcpy(b->bytes + b->size, data, n);
    b->size += n;
    return (uint32_t)(b->size - n);
}

// Frames repeat their neighbours' strings; looking back a few is enough to keep files small.
struct strings {
    struct buffer out;
    struct {
        const char *text;
        uint32_t at;
    } recent[1024];
};

static uint32_t put_string(struct strings *s, const char *text)
{
    size_t slot = ((uintptr_t)text >> 3) % 1024;
    if (s->recent[slot].text != text) {
        s->recent[slot].text = text;
        s->recent[slot].at = put(&s->out, text, strlen(text) + 1);
    }
    return s->recent[slot].at;
}

static int compare_fresh(const void *a, const void *b)
{
    const struct fresh *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

// The old entries join the new ones, so that one pass writes both.
static void join_old(struct symbols_cache *c)
{
    uint32_t n = c->header ? c->header->entry_count : 0;
    for (uint32_t i = 0; i < n && c->fresh_count < ENTRIES_MAX; i++) {
        struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
        int count = symbols_cache_find(c, c->entries[i].address, frames, SYMBOLS_FRAMES_MAX);
        if (count >= 0)
            symbols_cache_add(c, c->entries[i].address, frames, (uint32_t)count);
    }
}

static void put_entry(const struct fresh *f, struct buffer *entries, struct buffer *frames,
                      struct strings *strings)
{
    struct entry e = {.address = f->address,
                      .first = (uint32_t)(frames->size / sizeof(struct frame)),
                      .count = f->count};
    put(entries, &e, sizeof e);
    for (uint32_t k = 0; k < f->count; k++) {
        const struct symbols_frame *s = &f->frames[k];
        struct frame out = {.name = put_string(strings, s->name),
                            .system_name = put_string(strings, s->system_name),
                            .file = put_string(strings, s->file),
                            .line = s->line,
                            .column = s->column,
                            .start_line = s->start_line,
                            .is_inlined = s->is_inlined};
        put(frames, &out, sizeof out);
    }
}

static bool write_all(int fd, const void *data, size_t n)
{
    while (n) {
        ssize_t k = write(fd, data, n);
        if (k <= 0)
            return false;
        data = (const char *)data + k;
        n -= (size_t)k;
    }
    return true;
}

static void make_dirs(const char *path)
{
    char part[PATH_BYTES];
    for (size_t i = 1; path[i] && i < sizeof part - 1; i++) {
        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        (void)mkdir(part, 0700);
    }
}

// Removes the oldest files while the directory holds too much. A race with another process removes
// one too many, which only costs time.
static void trim_dir(const char *path)
{
    for (int round = 0; round < 64; round++) {
        DIR *dir = opendir(path);
        if (!dir)
            return;
        char oldest[256] = "";
        struct timespec time = {0};
        uint64_t total = 0;
        for (struct dirent *e; (e = readdir(dir));) {
            struct stat st;
            if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
                continue;
            total += (uint64_t)st.st_size;
            if (!*oldest || st.st_mtim.tv_sec < time.tv_sec) {
                snprintf(oldest, sizeof oldest, "%s", e->d_name);
                time = st.st_mtim;
            }
        }
        bool done = total <= DIR_BYTES_MAX || !*oldest || unlinkat(dirfd(dir), oldest, 0);
        closedir(dir);
        if (done)
            return;
    }
}

static void save(struct symbols_cache *c)
{
    join_old(c);
    qsort(c->fresh, c->fresh_count, sizeof *c->fresh, compare_fresh);
    struct buffer entries = {0}, frames = {0};
    struct strings *strings = calloc(1, sizeof *strings);
    char temporary[PATH_BYTES + 16];
    sigset_t users;
    int fd = -1;
    if (!strings)
        return;
    for (size_t i = 0; i < c->fresh_count; i++)
        if (!i || c->fresh[i].address != c->fresh[i - 1].address)
            put_entry(&c->fresh[i], &entries, &frames, strings);
    struct header h = {.identity = c->identity,
                       .entry_count = (uint32_t)(entries.size / sizeof(struct entry)),
                       .frame_count = (uint32_t)(frames.size / sizeof(struct frame))};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    put(&strings->out, "", 1); // never empty
    h.string_bytes = (uint32_t)strings->out.size;
    if (entries.failed || frames.failed || strings->out.failed ||
        entries.size + frames.size + strings->out.size + sizeof h > FILE_BYTES_MAX)
        goto out;
    uLong crc = crc32(0, NULL, 0);
    crc = crc32(crc, (const Bytef *)entries.bytes, (uInt)entries.size);
    if (frames.size) // with NULL crc32 starts anew
        crc = crc32(crc, (const Bytef *)frames.bytes, (uInt)frames.size);
    h.crc = (uint32_t)crc32(crc, (const Bytef *)strings->out.bytes, (uInt)strings->out.size);

    make_dirs(c->path);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", c->path);
    file_signals_hold(&users);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd >= 0)
        file_temporary(temporary);
    file_signals_release(&users);
    if (fd < 0)
        goto out;
    bool good = write_all(fd, &h, sizeof h) && write_all(fd, entries.bytes, entries.size) &&
                write_all(fd, frames.bytes, frames.size) &&
                write_all(fd, strings->out.bytes, strings->out.size);
    if (close(fd) || !good || rename(temporary, c->path))
        unlink(temporary);
    else
        trim_dir(c->dir);
    file_temporary_gone(temporary);
out:
    free(entries.bytes);
    free(frames.bytes);
    free(strings->out.bytes);
    free(strings);
}

void symbols_cache_close(struct symbols_cache *c)
{
    if (!c)
        return;
    if (c->fresh_count && *c->path)
        save(c);
    arena_finish(&c->arena);
    free(c->fresh);
    free(c->bytes);
    free(c);
}
