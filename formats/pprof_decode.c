// SPDX-License-Identifier: MIT
//
// profile.proto from bytes, by hand: protobuf-c says neither where nor why it refused a file,
// cannot stop at a truncation and refuses other files than Go does. It is as fast
// (bench/bench_pprof). Accepted is what Go's reader accepts; tests compare with `go tool pprof` and
// with protobuf-c.
//
// Protobuf allows any order of fields, so the top level is walked once per kind of thing: framing
// and strings first, then each table before what refers to it. Walking skips whole messages.

#include "formats/pprof_decode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const field_names[F_COUNT] = {
    "profile",        "sample_type", "sample",      "mapping",     "location",
    "function",       "string",      "drop_frames", "keep_frames", "time",
    "duration_nanos", "period_type", "period",      "comment",     "default_sample_type",
    "doc_url",
};

__attribute__((format(printf, 4, 5))) int decode_refuse(struct decoder *d, int code,
                                                        const unsigned char *at, const char *fmt,
                                                        ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    uint64_t offset = (uint64_t)(at - d->in->data);
    bool many = d->field >= F_SAMPLE_TYPE && d->field <= F_STRING;
    if (many)
        return error_set(d->err, code, offset, "byte %" PRIu64 ": %s %zu: %s", offset,
                         field_names[d->field], d->index, why);
    // Nothing was understood so far: most likely it is another kind of file.
    const char *hint = offset == 0 && code == -EINVAL ? "; is it a profile at all?" : "";
    return error_set(d->err, code, offset, "byte %" PRIu64 ": %s: %s%s", offset,
                     field_names[d->field], why, hint);
}

int decode_refuse_problem(struct decoder *d, const unsigned char *at, enum wire_problem problem)
{
    switch (problem) {
    case WIRE_SHORT:
        return decode_refuse(d, -EINVAL, at, "a field runs over the end of its message");
    case WIRE_LONG_VARINT: return decode_refuse(d, -EINVAL, at, "a number of more than ten bytes");
    default: return decode_refuse(d, -EINVAL, at, "a wire type that profiles do not have");
    }
}

int decode_want(struct decoder *d, const struct wire_field *f, enum wire_type type)
{
    if (f->type == type)
        return 0;
    return decode_refuse(d, -EINVAL, f->start, "field %" PRIu64 " has wire type %d instead of %d",
                         f->number, (int)f->type, (int)type);
}

// --- The top level

// Salvage ends the message before what makes no sense.
static bool ends_before(struct decoder *d, const unsigned char *at)
{
    if (!d->in->salvage)
        return false;
    d->lossy = true;
    d->all.end = at;
    return true;
}

static int at_truncation(struct decoder *d, const struct wire *w)
{
    if (ends_before(d, w->at))
        return 0;
    size_t left = (size_t)(w->end - w->at);
    return decode_refuse(
        d, -ENODATA, w->at,
        "the file is cut off %zu bytes into a field (--salvage keeps what is whole)", left);
}

// Framing: finds the end of the last whole field and counts what there is.
static int scan(struct decoder *d)
{
    struct wire w = d->all;
    while (w.at < w.end) {
        struct wire_field f;
        d->field = 0;
        enum wire_problem problem = wire_next(&w, &f);
        if (problem == WIRE_SHORT)
            return at_truncation(d, &w);
        if (problem)
            return ends_before(d, f.start) ? 0 : decode_refuse_problem(d, f.start, problem);
        if (f.number == 0 || f.number >= F_COUNT)
            continue;
        d->field = (unsigned)f.number;
        d->index = d->counts[f.number];
        bool is_message = f.number <= F_STRING || f.number == F_PERIOD_TYPE;
        enum wire_type type = is_message ? WIRE_BYTES : WIRE_VARINT;
        if ((is_message || f.number != F_COMMENT) && f.type != type)
            return ends_before(d, f.start) ? 0 : decode_want(d, &f, type);
        d->counts[f.number]++;
        d->last[f.number] = f;
    }
    d->lossy = d->in->truncated;
    return 0;
}

typedef int each_fn(struct decoder *d, const struct wire_field *f);

// Salvage does without what is damaged inside; who refers to it has lost it. Not so what is found by its place.
static bool may_leave_out(struct decoder *d, unsigned number)
{
    if (!d->in->salvage || number == F_STRING || number == F_SAMPLE_TYPE)
        return false;
    d->lossy = true;
    return true;
}

// Calls fn for each field `number` of the top level, which scan has found whole.
static int each(struct decoder *d, unsigned number, each_fn *fn)
{
    struct wire w = d->all;
    struct wire_field f;
    d->field = number;
    d->index = 0;
    for (size_t left = d->counts[number]; left && !wire_next(&w, &f);) {
        if (f.number != number)
            continue;
        int rc = fn(d, &f);
        if (rc == -EINVAL && may_leave_out(d, number))
            rc = 0;
        if (rc)
            return rc;
        d->index++;
        left--;
    }
    return 0;
}

// Calls fn for the last of these fields, if there is one: what comes later replaces.
static int last(struct decoder *d, unsigned number, each_fn *fn)
{
    d->field = number;
    return d->counts[number] ? fn(d, &d->last[number]) : 0;
}

int decode_no_memory(struct decoder *d)
{
    return error_set(d->err, -ENOMEM, 0, "%s: out of memory", field_names[d->field]);
}

// --- Strings

// Strings are text; a NUL would cut one short without a word.
static const char *clean_string(struct decoder *d, const char *s, size_t n)
{
    if (!memchr(s, '\0', n))
        return pprof_stringn(d->p, s, n);
    char *copy = malloc(n);
    if (!copy)
        return NULL;
    for (size_t i = 0; i < n; i++)
        copy[i] = s[i] ? s[i] : '?';
    const char *interned = pprof_stringn(d->p, copy, n);
    free(copy);
    return interned;
}

static int on_string(struct decoder *d, const struct wire_field *f)
{
    size_t n = (size_t)(f->body.end - f->body.at);
    if (d->index == 0 && n)
        return decode_refuse(d, -EINVAL, f->start,
                             "must be empty, as the first of the table always is");
    const char *s = clean_string(d, (const char *)f->body.at, n);
    if (!s)
        return decode_no_memory(d);
    d->strings[d->string_count++] = s;
    return 0;
}

int decode_string(struct decoder *d, const unsigned char *at, const char *what, uint64_t index,
                  const char **out)
{
    if (index < d->string_count) {
        *out = d->strings[index];
        return 0;
    }
    if (d->in->salvage && index <= INT64_MAX) {
        char name[32];
        d->lossy = true;
        snprintf(name, sizeof name, "?%" PRIu64, index);
        *out = index ? pprof_string(d->p, name) : d->p->intern->empty;
        return *out ? 0 : decode_no_memory(d);
    }
    if (d->string_count == 0)
        return decode_refuse(d, -ENODATA, at,
                             "%s: the string table is missing; the file is cut off, or no profile",
                             what);
    return decode_refuse(d, -EINVAL, at, "%s names string %" PRIu64 " of %" PRIu64, what, index,
                         d->string_count);
}

// --- Types and tables

static int value_type(struct decoder *d, struct wire w, const unsigned char *start,
                      struct pprof_value_type *t)
{
    struct wire_field f;
    uint64_t numbers[3] = {0};
    int rc;
    while ((rc = decode_next_field(d, &w, &f)) > 0) {
        if (f.number < 1 || f.number > 2)
            continue;
        rc = decode_want(d, &f, WIRE_VARINT);
        if (rc)
            return rc;
        numbers[f.number] = f.value;
    }
    if (!rc)
        rc = decode_string(d, start, "type", numbers[1], &t->type);
    if (!rc)
        rc = decode_string(d, start, "unit", numbers[2], &t->unit);
    return rc;
}

static int on_sample_type(struct decoder *d, const struct wire_field *f)
{
    return value_type(d, f->body, f->start, &d->p->sample_types[d->p->sample_type_count++]);
}

static int on_period_type(struct decoder *d, const struct wire_field *f)
{
    return value_type(d, f->body, f->start, &d->p->period_type);
}

// --- What there is once

static int on_comment(struct decoder *d, const struct wire_field *field)
{
    struct wire_field f = *field;
    uint64_t index;
    int rc = f.type == WIRE_BYTES ? 0 : decode_want(d, &f, WIRE_VARINT);
    if (rc)
        return rc;
    while ((rc = decode_next_number(d, &f, &index)) > 0) {
        const char *s;
        rc = decode_string(d, field->start, "it", index, &s);
        if (rc)
            return rc;
        if (pprof_add_comment(d->p, s))
            return decode_no_memory(d);
    }
    return rc;
}

static int on_time(struct decoder *d, const struct wire_field *f)
{
    if (d->p->time_nanos)
        return decode_refuse(
            d, -EINVAL, f->start,
            "is there twice: two profiles one after the other; merge them instead");
    d->p->time_nanos = (int64_t)f->value;
    return 0;
}

static int on_duration(struct decoder *d, const struct wire_field *f)
{
    d->p->duration_nanos = (int64_t)f->value;
    return 0;
}

static int on_period(struct decoder *d, const struct wire_field *f)
{
    d->p->period = (int64_t)f->value;
    return 0;
}

static int on_drop_frames(struct decoder *d, const struct wire_field *f)
{
    return decode_string(d, f->start, "it", f->value, &d->p->drop_frames);
}

static int on_keep_frames(struct decoder *d, const struct wire_field *f)
{
    // Our own writer puts this string last, so that its absence shows a cut: usually it is "".
    if (d->in->salvage && f->value >= d->string_count) {
        d->lossy = true;
        return 0;
    }
    return decode_string(d, f->start, "it", f->value, &d->p->keep_frames);
}

static int on_default_type(struct decoder *d, const struct wire_field *f)
{
    return decode_string(d, f->start, "it", f->value, &d->p->default_sample_type);
}

static int on_doc_url(struct decoder *d, const struct wire_field *f)
{
    return decode_string(d, f->start, "it", f->value, &d->p->doc_url);
}

typedef int walk_fn(struct decoder *d, unsigned number, each_fn *fn);

static const struct {
    walk_fn *walk;
    unsigned field;
    each_fn *fn;
} stages[] = {
    {each, F_STRING, on_string},           {each, F_SAMPLE_TYPE, on_sample_type},
    {each, F_TIME_NANOS, on_time},         {each, F_COMMENT, on_comment},
    {last, F_PERIOD_TYPE, on_period_type}, {last, F_DROP_FRAMES, on_drop_frames},
    {last, F_KEEP_FRAMES, on_keep_frames}, {last, F_DURATION_NANOS, on_duration},
    {last, F_PERIOD, on_period},           {last, F_DEFAULT_SAMPLE_TYPE, on_default_type},
    {last, F_DOC_URL, on_doc_url},         {each, F_MAPPING, decode_mapping},
    {each, F_FUNCTION, decode_function},   {each, F_LOCATION, decode_location},
    {each, F_SAMPLE, decode_sample},
};

static int allocate(struct decoder *d)
{
    struct pprof_profile *p = d->p;
    d->strings = calloc(d->counts[F_STRING] + 1, sizeof *d->strings);
    p->sample_types = arena_array(&p->arena, d->counts[F_SAMPLE_TYPE] + 1, sizeof *p->sample_types);
    p->samples = arena_array(&p->arena, d->counts[F_SAMPLE] + 1, sizeof *p->samples);
    if (!d->strings || !p->sample_types || !p->samples ||
        idmap_init(&d->mappings, d->counts[F_MAPPING]) ||
        idmap_init(&d->functions, d->counts[F_FUNCTION]) ||
        idmap_init(&d->locations, d->counts[F_LOCATION]))
        return decode_no_memory(d);
    p->sample_capacity = d->counts[F_SAMPLE] + 1;
    return 0;
}

static int decode(struct decoder *d)
{
    int rc = scan(d);
    d->field = 0;
    if (!rc)
        rc = allocate(d);
    for (size_t i = 0; !rc && i < sizeof stages / sizeof stages[0]; i++)
        rc = stages[i].walk(d, stages[i].field, stages[i].fn);
    if (rc)
        return rc;
    d->field = 0;
    // Any few bytes may be a protobuf message with no field that we know.
    bool no_strings = d->string_count == 0 && !d->in->salvage;
    if (no_strings || d->p->sample_type_count == 0) {
        int code = d->lossy || no_strings ? -ENODATA : -EINVAL;
        return decode_refuse(d, code, d->all.end, "no %s: no profile, or nothing is left of it",
                             no_strings ? "string table" : "sample types");
    }
    if (d->lossy)
        d->in->salvaged_samples = d->p->sample_count;
    return 0;
}

int pprof_decode(struct pprof_profile *p, struct pprof_input *in, struct fscope_error *err)
{
    struct decoder d = {.p = p, .in = in, .err = err};
    d.all = (struct wire){.at = in->data, .end = in->data + in->size};
    in->format = "profile.proto";
    int rc = decode(&d);
    idmap_finish(&d.mappings);
    idmap_finish(&d.functions);
    idmap_finish(&d.locations);
    free(d.strings);
    return rc;
}
