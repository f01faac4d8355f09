// SPDX-License-Identifier: MIT
//
// See trace_out.h.

#include "collector/trace_out.h"

#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int put_bytes(void *context, const void *bytes, size_t n)
{
    struct trace_bytes *b = context;
    if (n > b->capacity - b->size) {
        size_t capacity = b->capacity * 2 > b->size + n ? b->capacity * 2 : b->size + n + 4096;
        uint8_t *grown = realloc(b->data, capacity);
        if (!grown)
            return -ENOMEM;
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, bytes, n);
    b->size += n;
    return 0;
}

int trace_out_open(struct trace_out *o, int fd, uint32_t version, uint64_t units_per_second)
{
    const struct trace_writer_options wo = {
        .size = sizeof wo, .version = version, .frequency = units_per_second};
    *o = (struct trace_out){.fd = fd};
    int rc = trace_writer_open_callback(&o->writer, put_bytes, &o->made, &wo);
    if (!rc)
        rc = put_bytes(&o->header, o->made.data, o->made.size);
    if (rc)
        trace_out_close(o);
    return rc;
}

void trace_out_close(struct trace_out *o)
{
    trace_writer_close(o->writer);
    free(o->header.data);
    free(o->made.data);
    free(o->before.data);
    *o = (struct trace_out){0};
}

int trace_out_begin(struct trace_out *o)
{
    return trace_writer_begin(o->writer, ++o->number);
}

int trace_out_end(struct trace_out *o, const struct trace_writer_clock *clock)
{
    return trace_writer_end(o->writer, clock);
}

int trace_out_write(struct trace_out *o)
{
    int rc = file_write_all(o->fd, o->made.data, o->made.size);
    if (rc) {
        // A pipe's reader has it already; a file loses what would be half a generation.
        int cut = ftruncate(o->fd, (off_t)o->written);
        (void)cut;
        return rc;
    }
    struct trace_bytes spare = o->before;
    bool has_header = o->written == 0;
    o->written += o->made.size;
    o->before = o->made;
    o->made = spare;
    o->made.size = 0;
    if (has_header) {
        o->before.size -= o->header.size;
        memmove(o->before.data, o->before.data + o->header.size, o->before.size);
    }
    return 0;
}

// --- Checking: header, generation before, this one, as one trace.

struct parts {
    const struct trace_bytes *part[3];
    int at;
    size_t offset;
};

static int64_t read_parts(void *context, void *bytes, size_t n)
{
    struct parts *p = context;
    while (p->at < 3 && p->offset == p->part[p->at]->size) {
        p->at++;
        p->offset = 0;
    }
    if (p->at == 3)
        return 0;
    size_t left = p->part[p->at]->size - p->offset;
    n = n < left ? n : left;
    memcpy(bytes, p->part[p->at]->data + p->offset, n);
    p->offset += n;
    return (int64_t)n;
}

int trace_out_check(struct trace_out *o, char *why, size_t size)
{
    static const struct trace_bytes none;
    struct parts p = {{o->written ? &o->header : &none, &o->before, &o->made}, 0, 0};
    struct trace_reader *r = NULL;
    struct fscope_error err = {0};
    const struct trace_event *events;
    int rc = trace_reader_open_callback(&r, read_parts, &p, NULL, &err);
    if (rc) {
        snprintf(why, size, "%s", err.text);
        return rc;
    }
    do
        rc = trace_reader_next_many(r, &events);
    while (rc > 0);
    if (rc)
        snprintf(why, size, "%s", trace_reader_error(r) ? trace_reader_error(r)->text : "");
    trace_reader_close(r);
    return rc;
}
