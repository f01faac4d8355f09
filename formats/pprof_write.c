// SPDX-License-Identifier: MIT
//
// Profile to bytes. Streams through one buffer into zlib, so that writing needs no memory beside
// the profile but the string table's map.
//
// The message is the one in profile.proto. Sizes of nested messages are computed before they are
// written; the size_* functions and their put_* twins must agree (tests compare with protobuf-c).

#include "formats/pprof_internal.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { BUFFER_BYTES = 64 * 1024, VARINT_MAX = 10 };
// What Go's runtime writes with, too.
enum { GZIP_LEVEL = 1, GZIP_WINDOW = 15 + 16, GZIP_MEMORY = 8 };

enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

struct string_slot {
    const char *s; // NULL: free. The key is the address, for equal strings are interned
    uint64_t index;
};

struct writer {
    int fd;
    bool gzip;
    int rc; // first failure; nothing is done after it
    z_stream z;
    unsigned char *in;  // [BUFFER_BYTES] plain bytes not yet compressed or written
    unsigned char *out; // [BUFFER_BYTES] compressed bytes
    size_t in_used;
    struct string_slot *slots; // [slot_count], a power of two
    size_t slot_count;
    const char **strings; // in order of their index
    uint64_t string_count;
};

// --- Bytes

static void drain(struct writer *w, int flush)
{
    w->z.next_in = w->in;
    w->z.avail_in = (uInt)w->in_used;
    w->in_used = 0;
    do {
        w->z.next_out = w->out;
        w->z.avail_out = BUFFER_BYTES;
        deflate(&w->z, flush);
        if (!w->rc)
            w->rc = file_write_all(w->fd, w->out, BUFFER_BYTES - w->z.avail_out);
    } while (w->z.avail_out == 0 && !w->rc);
}

static void flush_buffer(struct writer *w)
{
    if (w->rc) {
        w->in_used = 0;
    } else if (w->gzip) {
        drain(w, Z_NO_FLUSH);
    } else {
        w->rc = file_write_all(w->fd, w->in, w->in_used);
        w->in_used = 0;
    }
}

static inline void put_varint(struct writer *w, uint64_t v)
{
    if (w->in_used > BUFFER_BYTES - VARINT_MAX)
        flush_buffer(w);
    unsigned char *b = w->in + w->in_used;
    for (; v >= 0x80; v >>= 7)
        *b++ = (unsigned char)(v | 0x80);
    *b++ = (unsigned char)v;
    w->in_used = (size_t)(b - w->in);
}

static void put_bytes(struct writer *w, const char *bytes, size_t n)
{
    while (n) {
        if (w->in_used == BUFFER_BYTES)
            flush_buffer(w);
        size_t part = BUFFER_BYTES - w->in_used < n ? BUFFER_BYTES - w->in_used : n;
        memcpy(w->in + w->in_used, bytes, part);
        w->in_used += part;
        bytes += part;
        n -= part;
    }
}

static inline size_t size_varint(uint64_t v)
{
    // 7 bits a byte, without a division: 9/64 is just above 1/7 for 1..64 bits.
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1);
    return (bits * 9 + 64) / 64;
}

// --- Fields. All field numbers are below 16, so a key is one byte. Zero is the default and left
// out.

static inline size_t size_field(uint64_t v)
{
    return v ? 1 + size_varint(v) : 0;
}

static inline void put_key(struct writer *w, unsigned field, unsigned wire)
{
    put_varint(w, field << 3 | wire);
}

static inline void put_field(struct writer *w, unsigned field, uint64_t v)
{
    if (!v)
        return;
    put_key(w, field, WIRE_VARINT);
    put_varint(w, v);
}

static inline size_t size_bytes_field(size_t n)
{
    return 1 + size_varint(n) + n;
}

static inline void put_length(struct writer *w, unsigned field, size_t n)
{
    put_key(w, field, WIRE_BYTES);
    put_varint(w, n);
}

// --- Strings

static size_t slot_of(const struct writer *w, const char *s)
{
    size_t mask = w->slot_count - 1;
    size_t i = ptrtab_mix(0, (uintptr_t)s) & mask;
    while (w->slots[i].s && w->slots[i].s != s)
        i = (i + 1) & mask;
    return i;
}

static int strings_grow(struct writer *w)
{
    struct string_slot *old = w->slots;
    size_t old_count = w->slot_count;
    size_t count = old_count ? 2 * old_count : 1024;
    const char **strings = realloc(w->strings, count / 2 * sizeof *strings);
    if (!strings)
        return -ENOMEM;
    w->strings = strings;
    struct string_slot *slots = calloc(count, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    w->slots = slots;
    w->slot_count = count;
    for (size_t i = 0; i < old_count; i++)
        if (old[i].s)
            w->slots[slot_of(w, old[i].s)] = old[i];
    free(old);
    return 0;
}

// The index of s in the string table that is being made. "" is 0 whatever its address.
static uint64_t string_index(struct writer *w, const char *s)
{
    if (s[0] == '\0' || w->rc)
        return 0;
    size_t i = slot_of(w, s);
    if (w->slots[i].s)
        return w->slots[i].index;
    if (w->string_count + 1 >= w->slot_count / 2) {
        w->rc = strings_grow(w);
        if (w->rc)
            return 0;
        i = slot_of(w, s);
    }
    w->slots[i] = (struct string_slot){.s = s, .index = w->string_count};
    w->strings[w->string_count] = s;
    return w->string_count++;
}

// --- Messages

static void put_value_type(struct writer *w, unsigned field, const struct pprof_value_type *t)
{
    uint64_t type = string_index(w, t->type);
    uint64_t unit = string_index(w, t->unit);
    put_length(w, field, size_field(type) + size_field(unit));
    put_field(w, 1, type);
    put_field(w, 2, unit);
}

struct label_numbers {
    uint64_t key, str, num, unit;
};

static struct label_numbers label_numbers(struct writer *w, const struct pprof_label *l)
{
    struct label_numbers n = {.key = string_index(w, l->key), .str = string_index(w, l->str)};
    if (!n.str) {
        n.num = (uint64_t)l->num;
        n.unit = string_index(w, l->num_unit);
    }
    return n;
}

static size_t size_label(const struct label_numbers *n)
{
    return size_field(n->key) + size_field(n->str) + size_field(n->num) + size_field(n->unit);
}

static void put_sample(struct writer *w, const struct pprof_sample *s, size_t value_count)
{
    size_t locations = 0, values = 0, size = 0;
    for (uint32_t i = 0; i < s->location_count; i++)
        locations += size_varint(s->locations[i]->id);
    for (size_t i = 0; i < value_count; i++)
        values += size_varint((uint64_t)s->values[i]);
    size += locations ? size_bytes_field(locations) : 0;
    size += values ? size_bytes_field(values) : 0;
    for (uint32_t i = 0; i < s->label_count; i++) {
        struct label_numbers n = label_numbers(w, &s->labels[i]);
        size += size_bytes_field(size_label(&n));
    }
    put_length(w, 2, size);
    if (locations)
        put_length(w, 1, locations);
    for (uint32_t i = 0; i < s->location_count; i++)
        put_varint(w, s->locations[i]->id);
    if (values)
        put_length(w, 2, values);
    for (size_t i = 0; i < value_count; i++)
        put_varint(w, (uint64_t)s->values[i]);
    for (uint32_t i = 0; i < s->label_count; i++) {
        struct label_numbers n = label_numbers(w, &s->labels[i]);
        put_length(w, 3, size_label(&n));
        put_field(w, 1, n.key);
        put_field(w, 2, n.str);
        put_field(w, 3, n.num);
        put_field(w, 4, n.unit);
    }
}

static void put_mapping(struct writer *w, const struct pprof_mapping *m)
{
    uint64_t file = string_index(w, m->file);
    uint64_t build_id = string_index(w, m->build_id);
    // A flag is a field of value 1.
    put_length(w, 3,
               size_field(m->id) + size_field(m->start) + size_field(m->limit) +
                   size_field(m->offset) + size_field(file) + size_field(build_id) +
                   size_field(m->has_functions) + size_field(m->has_filenames) +
                   size_field(m->has_line_numbers) + size_field(m->has_inline_frames));
    put_field(w, 1, m->id);
    put_field(w, 2, m->start);
    put_field(w, 3, m->limit);
    put_field(w, 4, m->offset);
    put_field(w, 5, file);
    put_field(w, 6, build_id);
    put_field(w, 7, m->has_functions);
    put_field(w, 8, m->has_filenames);
    put_field(w, 9, m->has_line_numbers);
    put_field(w, 10, m->has_inline_frames);
}

static size_t size_line(const struct pprof_line *l)
{
    return size_field(l->function->id) + size_field((uint64_t)l->line) +
           size_field((uint64_t)l->column);
}

static void put_location(struct writer *w, const struct pprof_location *l)
{
    uint64_t mapping = l->mapping ? l->mapping->id : 0;
    size_t size =
        size_field(l->id) + size_field(mapping) + size_field(l->address) + size_field(l->is_folded);
    for (uint32_t i = 0; i < l->line_count; i++)
        size += size_bytes_field(size_line(&l->lines[i]));
    put_length(w, 4, size);
    put_field(w, 1, l->id);
    put_field(w, 2, mapping);
    put_field(w, 3, l->address);
    for (uint32_t i = 0; i < l->line_count; i++) {
        put_length(w, 4, size_line(&l->lines[i]));
        put_field(w, 1, l->lines[i].function->id);
        put_field(w, 2, (uint64_t)l->lines[i].line);
        put_field(w, 3, (uint64_t)l->lines[i].column);
    }
    put_field(w, 5, l->is_folded);
}

static void put_function(struct writer *w, const struct pprof_function *f)
{
    uint64_t name = string_index(w, f->name);
    uint64_t system_name = string_index(w, f->system_name);
    uint64_t filename = string_index(w, f->filename);
    put_length(w, 5,
               size_field(f->id) + size_field(name) + size_field(system_name) +
                   size_field(filename) + size_field((uint64_t)f->start_line));
    put_field(w, 1, f->id);
    put_field(w, 2, name);
    put_field(w, 3, system_name);
    put_field(w, 4, filename);
    put_field(w, 5, (uint64_t)f->start_line);
}

static void put_comments(struct writer *w, const struct pprof_profile *p)
{
    size_t size = 0;
    for (size_t i = 0; i < p->comment_count; i++)
        size += size_varint(string_index(w, p->comments[i]));
    if (!size)
        return;
    put_length(w, 13, size);
    for (size_t i = 0; i < p->comment_count; i++)
        put_varint(w, string_index(w, p->comments[i]));
}

static void put_string(struct writer *w, const char *s)
{
    size_t n = strlen(s);
    put_length(w, 6, n);
    put_bytes(w, s, n);
}

// Gives every string its index, so that the table can go before what uses it.
static void collect_strings(struct writer *w, const struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_type_count; i++) {
        string_index(w, p->sample_types[i].type);
        string_index(w, p->sample_types[i].unit);
    }
    for (size_t i = 0; i < p->mapping_count; i++) {
        string_index(w, p->mappings[i]->file);
        string_index(w, p->mappings[i]->build_id);
    }
    for (size_t i = 0; i < p->function_count; i++) {
        string_index(w, p->functions[i]->name);
        string_index(w, p->functions[i]->system_name);
        string_index(w, p->functions[i]->filename);
    }
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->label_count; j++)
            label_numbers(w, &p->samples[i]->labels[j]);
    for (size_t i = 0; i < p->comment_count; i++)
        string_index(w, p->comments[i]);
    string_index(w, p->period_type.type);
    string_index(w, p->period_type.unit);
    string_index(w, p->drop_frames);
    string_index(w, p->default_sample_type);
    string_index(w, p->doc_url);
}

static void put_header(struct writer *w, const struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_type_count; i++)
        put_value_type(w, 1, &p->sample_types[i]);
    put_field(w, 7, string_index(w, p->drop_frames));
    put_field(w, 8, w->string_count); // the one that put_profile writes last of all
    put_field(w, 9, (uint64_t)p->time_nanos);
    put_field(w, 10, (uint64_t)p->duration_nanos);
    if (p->period_type.type[0] || p->period_type.unit[0])
        put_value_type(w, 11, &p->period_type);
    put_field(w, 12, (uint64_t)p->period);
    put_comments(w, p);
    put_field(w, 14, string_index(w, p->default_sample_type));
    put_field(w, 15, string_index(w, p->doc_url));
}

// Protobuf does not mind the order of fields, so it serves truncated files: samples come last, so
// that what is cut off is samples. After them comes one more string, which keep_frames names even
// if it is empty: a reader that cannot resolve it knows that the end is missing.
static void put_profile(struct writer *w, const struct pprof_profile *p)
{
    collect_strings(w, p);
    put_header(w, p);
    for (uint64_t i = 0; i < w->string_count && !w->rc; i++)
        put_string(w, w->strings[i]);
    for (size_t i = 0; i < p->mapping_count; i++)
        put_mapping(w, p->mappings[i]);
    for (size_t i = 0; i < p->function_count && !w->rc; i++)
        put_function(w, p->functions[i]);
    for (size_t i = 0; i < p->location_count && !w->rc; i++)
        put_location(w, p->locations[i]);
    for (size_t i = 0; i < p->sample_count && !w->rc; i++)
        put_sample(w, p->samples[i], p->sample_type_count);
    put_string(w, p->keep_frames);
}

static void finish(struct writer *w)
{
    if (w->gzip && !w->rc)
        drain(w, Z_FINISH);
    else
        flush_buffer(w);
}

int pprof_write_fd(const struct pprof_profile *p, int fd, bool gzip, struct fscope_error *err)
{
    int rc = pprof_check(p, err);
    if (rc)
        return rc;
    struct writer w = {.fd = fd, .gzip = gzip, .rc = -ENOMEM};
    w.in = malloc(BUFFER_BYTES);
    w.out = malloc(BUFFER_BYTES);
    bool deflating = false;
    if (!w.in || !w.out || strings_grow(&w))
        goto done;
    w.strings[w.string_count++] = "";
    if (gzip) {
        deflating = deflateInit2(&w.z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
                                 Z_DEFAULT_STRATEGY) == Z_OK;
        if (!deflating)
            goto done;
    }
    w.rc = 0;
    put_profile(&w, p);
    finish(&w);

done:
    if (deflating)
        deflateEnd(&w.z);
    free(w.strings);
    free(w.slots);
    free(w.out);
    free(w.in);
    return w.rc ? error_set(err, w.rc, 0, "cannot write the profile: %s", strerror(-w.rc)) : 0;
}

int pprof_write_file(const struct pprof_profile *p, const char *path, struct fscope_error *err)
{
    struct file_replace f;
    int rc = file_begin(&f, path, err);
    if (rc)
        return rc;
    rc = pprof_write_fd(p, f.fd, true, err);
    if (rc) {
        file_abort(&f);
        error_prefix(err, "%s", path);
        return rc;
    }
    return file_commit(&f, err);
}
