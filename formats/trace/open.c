// SPDX-License-Identifier: MIT
//
// Beginning to read a trace: options, header, and for salvage a first reading that finds the
// damage.

#include "formats/ptrtab.h"
#include "formats/trace/foreign.h"
#include "formats/trace/v1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STOP_STEPS = 64 }; // of some events each

void trace_reader_close(struct trace_reader *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->cursor_capacity; i++)
        free(r->cursors[i].buffer);
    free(r->cursors);
    free(r->frontier);
    order_parked_finish(&r->parked);
    free(r->notes);
    generation_finish(&r->gen);
    state_finish(&r->state);
    trace_intern_finish(&r->intern);
    v1_finish(r->v1);
    input_finish(&r->input);
    free(r);
}

// "go 1.NN trace" and three NUL.
static int header_parse(const unsigned char *p, size_t n, uint32_t *version,
                        struct fscope_error *err)
{
    if (n < TRACE_HEADER_BYTES || memcmp(p, "go 1.", 5) != 0 ||
        memcmp(p + 7, " trace\0\0\0", 9) != 0 || p[5] < '0' || p[5] > '9' || p[6] < '0' ||
        p[6] > '9')
        return foreign_explain(p, n, err);
    *version = (uint32_t)(p[5] - '0') * 10 + (uint32_t)(p[6] - '0');
    static const uint8_t versions[] = {11, 19, 21, 22, 23, 25, 26};
    for (size_t i = 0; i < sizeof versions; i++)
        if (*version == versions[i])
            return 0;
    return error_set(err, -ENOTSUP, 0,
                     "a trace with the header go 1.%u, but 1.11, 1.19, 1.21, 1.22, 1.23, 1.25 and "
                     "1.26 are the versions that are read",
                     *version);
}

static int header_read(struct trace_reader *r, struct fscope_error *err)
{
    const unsigned char *p;
    int n = input_peek(&r->input, TRACE_HEADER_BYTES, &p);
    if (n >= 0 && (n < TRACE_HEADER_BYTES || memcmp(p, "go 1.", 5) != 0))
        n = input_peek(&r->input, FOREIGN_BYTES, &p);
    if (n < 0)
        return error_set(err, n, 0, "%s", strerror(-n));
    int rc = header_parse(p, (size_t)n, &r->version, err);
    if (rc)
        return rc;
    input_skip(&r->input, TRACE_HEADER_BYTES);
    for (unsigned wire = 0; wire < TRACE_EV_END; wire++) {
        bool permitted = r->lenient || trace_spec_permits(r->version, (uint8_t)wire);
        r->permits[wire] = trace_spec_of((uint8_t)wire)->is_timed && permitted;
    }
    return 0;
}

static struct trace_reader *reader_new(const struct trace_input *input,
                                       const struct trace_reader_options *o)
{
    struct trace_reader *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->input = *input;
    r->lenient = o->lenient;
    r->gives_rest = o->rest;
    r->generation_bytes_max = o->generation_bytes_max ? o->generation_bytes_max : UINT64_C(2) << 30;
    r->intern.bytes_max = o->intern_bytes_max ? o->intern_bytes_max : UINT64_C(64) << 20;
    r->intern.seed = ptrtab_seed();
    state_init(&r->state, o->state_bytes_max ? o->state_bytes_max : UINT64_C(4) << 30);
    r->sample_ns = INT64_MAX;
    r->where.thread = TRACE_NONE;
    return r;
}

// Reads all once: what is wrong with it (code 0: nothing), and how many generations come before.
static int find_damage(const struct trace_input *input, const struct trace_reader_options *o,
                       uint32_t *kept, struct trace_error *damage, struct fscope_error *err)
{
    struct trace_reader *r = reader_new(input, o);
    if (!r)
        return error_set(err, -ENOMEM, 0, "out of memory");
    r->input.owns_fd = false;
    int rc = header_read(r, err);
    if (rc == 0) {
        const struct trace_event *events;
        bool is_stopped = false;
        for (uint32_t n = 0; !is_stopped && trace_reader_next_many(r, &events) > 0; n++)
            is_stopped = o->stopped && n % STOP_STEPS == 0 && o->stopped(o->stopped_context);
        if (is_stopped)
            rc = error_set(err, -ECANCELED, 0, "cancelled");
        *damage = r->error;
        *kept = r->whole_count + r->has_rest;
    }
    trace_reader_close(r);
    return rc;
}

// Takes over input, also on failure.
static int reader_open(struct trace_reader **out, struct trace_input *input,
                       const struct trace_reader_options *opts, struct fscope_error *err)
{
    struct trace_reader_options o = {0};
    struct trace_error damage = {0};
    uint32_t kept = 0;
    *out = NULL;
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    int rc = 0;
    if (o.salvage && input->kind == INPUT_STREAM) {
        rc = input_spool(input);
        if (rc)
            error_set(err, rc, 0, "copying the trace to a temporary file: %s", strerror(-rc));
    }
    if (!rc && o.salvage)
        rc = find_damage(input, &o, &kept, &damage, err);
    struct trace_reader *r = rc ? NULL : reader_new(input, &o);
    if (!r) {
        input_finish(input);
        return rc ? rc : error_set(err, -ENOMEM, 0, "out of memory");
    }
    rc = header_read(r, err);
    if (rc) {
        trace_reader_close(r);
        return rc;
    }
    if (damage.code && kept) { // else there is nothing to keep: the error comes
        r->sync_limit = kept + 1;
        r->damage = damage;
    }
    *out = r;
    return 0;
}

int trace_reader_open_fd(struct trace_reader **out, int fd, const struct trace_reader_options *opts,
                         struct fscope_error *err)
{
    struct trace_input input = {.kind = INPUT_STREAM, .fd = fd};
    struct stat st;
    off_t base = lseek(fd, 0, SEEK_CUR);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && base >= 0) {
        input.kind = INPUT_FILE;
        input.base = (uint64_t)base;
    }
    return reader_open(out, &input, opts, err);
}

int trace_reader_open_memory(struct trace_reader **out, const void *data, size_t size,
                             const struct trace_reader_options *opts, struct fscope_error *err)
{
    struct trace_input input = {.kind = INPUT_MEMORY, .data = data, .size_bytes = size};
    return reader_open(out, &input, opts, err);
}

int trace_reader_open_callback(struct trace_reader **out, trace_read_fn *read, void *context,
                               const struct trace_reader_options *opts, struct fscope_error *err)
{
    struct trace_input input = {.kind = INPUT_STREAM, .read = read, .context = context};
    return reader_open(out, &input, opts, err);
}
