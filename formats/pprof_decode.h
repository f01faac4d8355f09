// SPDX-License-Identifier: MIT
//
// What the two files of the profile.proto decoder share: pprof_decode.c walks the top level and
// reads what there is once, pprof_decode_tables.c reads mappings, functions, locations and samples.
//
// Each function returns 0 (or what it says), or -errno after it has filled d->err with the byte
// offset, the thing that is being read and the reason.

#ifndef FIBERSCOPE_FORMATS_PPROF_DECODE_H
#define FIBERSCOPE_FORMATS_PPROF_DECODE_H

#include "formats/idmap.h"
#include "formats/pprof_internal.h"
#include "formats/wire.h"

enum { // numbers of the fields of message Profile
    F_SAMPLE_TYPE = 1,
    F_SAMPLE,
    F_MAPPING,
    F_LOCATION,
    F_FUNCTION,
    F_STRING,
    F_DROP_FRAMES,
    F_KEEP_FRAMES,
    F_TIME_NANOS,
    F_DURATION_NANOS,
    F_PERIOD_TYPE,
    F_PERIOD,
    F_COMMENT,
    F_DEFAULT_SAMPLE_TYPE,
    F_DOC_URL,
    F_COUNT
};

struct decoder {
    struct pprof_profile *p;
    struct pprof_input *in;
    struct fscope_error *err;
    struct wire all;                 // the whole fields of the top level
    size_t counts[F_COUNT];          // of each field at the top level
    struct wire_field last[F_COUNT]; // of each number or type, where the last one counts
    const char **strings;            // [string_count]
    uint64_t string_count;
    struct idmap mappings, functions, locations;
    bool lossy; // salvaging, and something was missing
    // What is being read, for messages: "sample 17".
    unsigned field;
    size_t index;
};

int decode_refuse(struct decoder *d, int code, const unsigned char *at, const char *fmt, ...)
    FSCOPE_PRINTF(4, 5);
int decode_refuse_problem(struct decoder *d, const unsigned char *at, enum wire_problem problem);
int decode_want(struct decoder *d, const struct wire_field *f, enum wire_type type);
int decode_no_memory(struct decoder *d);

// The string with this index in the file's table; `what` names the field that refers to it. When
// salvaging, a string that is lost reads as "?INDEX".
int decode_string(struct decoder *d, const unsigned char *at, const char *what, uint64_t index,
                  const char **out);

int decode_mapping(struct decoder *d, const struct wire_field *f);
int decode_function(struct decoder *d, const struct wire_field *f);
int decode_location(struct decoder *d, const struct wire_field *f);
int decode_sample(struct decoder *d, const struct wire_field *f);

// The next field of a message: 1 if there is one, 0 at its end, -EINVAL.
static inline int decode_next_field(struct decoder *d, struct wire *w, struct wire_field *f)
{
    if (w->at == w->end)
        return 0;
    enum wire_problem problem = wire_next(w, f);
    return problem ? decode_refuse_problem(d, f->start, problem) : 1;
}

// One number of a repeated field, packed or not: 1 and *v, 0 at the end of f, -EINVAL.
static inline int decode_next_number(struct decoder *d, struct wire_field *f, uint64_t *v)
{
    *v = 0;
    if (f->type == WIRE_VARINT) {
        *v = f->value;
        f->type = WIRE_BYTES;
        f->body.at = f->body.end = f->start;
        return 1;
    }
    if (f->body.at == f->body.end)
        return 0;
    const unsigned char *at = f->body.at;
    enum wire_problem problem = wire_varint(&f->body, v);
    return problem ? decode_refuse_problem(d, at, problem) : 1;
}

#endif
