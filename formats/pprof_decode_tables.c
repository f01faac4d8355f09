// SPDX-License-Identifier: MIT
//
// The decoder's tables: mappings, functions, locations and samples.
//
// Invariant: what refers comes after what it refers to, so a reference is looked up once, in place.
// A message is read twice, to count and to fill, so that each thing is one exact allocation.

#include "formats/pprof_decode.h"

#include <errno.h>
#include <inttypes.h>

// Reads a message of numbers: numbers[i] is the last value of field i. 0 or -EINVAL.
static int read_numbers(struct decoder *d, struct wire w, uint64_t *numbers, unsigned count)
{
    struct wire_field f;
    int rc;
    while ((rc = decode_next_field(d, &w, &f)) > 0) {
        if (f.number < 1 || f.number >= count)
            continue;
        rc = decode_want(d, &f, WIRE_VARINT);
        if (rc)
            return rc;
        numbers[f.number] = f.value;
    }
    return rc;
}

static int add_id(struct decoder *d, struct idmap *map, const unsigned char *at, uint64_t id,
                  void *item)
{
    int rc = idmap_add(map, id, item);
    if (rc == -EINVAL)
        return decode_refuse(d, rc, at, "id is 0, which is reserved");
    if (rc == -EEXIST)
        return decode_refuse(d, -EINVAL, at, "id %" PRIu64 " is taken by another", id);
    return rc ? decode_no_memory(d) : 0;
}

int decode_mapping(struct decoder *d, const struct wire_field *f)
{
    enum { ID = 1, START, LIMIT, OFFSET, FILENAME, BUILD_ID, FUNCTIONS, FILENAMES, LINES, INLINE };
    uint64_t n[INLINE + 1] = {0};
    int rc = read_numbers(d, f->body, n, INLINE + 1);
    if (rc)
        return rc;
    struct pprof_mapping *m = pprof_append_mapping(d->p);
    if (!m)
        return decode_no_memory(d);
    m->start = n[START];
    m->limit = n[LIMIT];
    m->offset = n[OFFSET];
    m->has_functions = n[FUNCTIONS] != 0;
    m->has_filenames = n[FILENAMES] != 0;
    m->has_line_numbers = n[LINES] != 0;
    m->has_inline_frames = n[INLINE] != 0;
    rc = decode_string(d, f->start, "filename", n[FILENAME], &m->file);
    if (!rc)
        rc = decode_string(d, f->start, "build_id", n[BUILD_ID], &m->build_id);
    return rc ? rc : add_id(d, &d->mappings, f->start, n[ID], m);
}

int decode_function(struct decoder *d, const struct wire_field *f)
{
    enum { ID = 1, NAME, SYSTEM_NAME, FILENAME, START_LINE };
    uint64_t n[START_LINE + 1] = {0};
    int rc = read_numbers(d, f->body, n, START_LINE + 1);
    if (rc)
        return rc;
    struct pprof_function *fn = pprof_append_function(d->p);
    if (!fn)
        return decode_no_memory(d);
    fn->start_line = (int64_t)n[START_LINE];
    rc = decode_string(d, f->start, "name", n[NAME], &fn->name);
    if (!rc)
        rc = decode_string(d, f->start, "system_name", n[SYSTEM_NAME], &fn->system_name);
    if (!rc)
        rc = decode_string(d, f->start, "filename", n[FILENAME], &fn->filename);
    return rc ? rc : add_id(d, &d->functions, f->start, n[ID], fn);
}

// A function that a salvaged file no longer has; one for all of them.
static struct pprof_function *lost_function(struct decoder *d)
{
    d->lossy = true;
    return pprof_intern_function(d->p, "?", "?", "", 0);
}

static int on_line(struct decoder *d, const struct wire_field *f, struct pprof_line *line)
{
    enum { FUNCTION = 1, LINE, COLUMN };
    uint64_t n[COLUMN + 1] = {0};
    int rc = read_numbers(d, f->body, n, COLUMN + 1);
    if (rc)
        return rc;
    line->function = n[FUNCTION] ? idmap_find(&d->functions, n[FUNCTION]) : NULL;
    line->line = (int64_t)n[LINE];
    line->column = (int64_t)n[COLUMN];
    if (!line->function && d->in->salvage) {
        line->function = lost_function(d);
        if (!line->function)
            return decode_no_memory(d);
    }
    if (!line->function)
        return decode_refuse(d, -EINVAL, f->start,
                             "a line names function %" PRIu64 ", which is not there", n[FUNCTION]);
    return 0;
}

int decode_location(struct decoder *d, const struct wire_field *field)
{
    enum { ID = 1, MAPPING, ADDRESS, LINE, IS_FOLDED };
    uint64_t n[IS_FOLDED + 1] = {0};
    size_t lines = 0;
    struct wire w = field->body;
    struct wire_field f;
    int rc;
    while ((rc = decode_next_field(d, &w, &f)) > 0) {
        if (f.number < 1 || f.number > IS_FOLDED)
            continue;
        rc = decode_want(d, &f, f.number == LINE ? WIRE_BYTES : WIRE_VARINT);
        if (rc)
            return rc;
        n[f.number] = f.value;
        lines += f.number == LINE;
    }
    if (rc)
        return rc;
    if (lines > UINT32_MAX)
        return decode_refuse(d, -EFBIG, field->start, "has %zu lines", lines);
    struct pprof_location *l = pprof_append_location(d->p);
    if (l && lines)
        l->lines = arena_array(&d->p->arena, lines, sizeof *l->lines);
    if (!l || (lines && !l->lines))
        return decode_no_memory(d);
    for (w = field->body; lines && decode_next_field(d, &w, &f) > 0;)
        if (f.number == LINE) {
            rc = on_line(d, &f, &l->lines[l->line_count]);
            if (rc)
                return rc;
            l->line_count++;
        }
    // As in Go, a mapping that is not there means that it is not known.
    l->mapping = n[MAPPING] ? idmap_find(&d->mappings, n[MAPPING]) : NULL;
    l->address = n[ADDRESS];
    l->is_folded = n[IS_FOLDED] != 0;
    return add_id(d, &d->locations, field->start, n[ID], l);
}

// --- Samples

struct sample_sizes {
    size_t locations, values, labels;
};

// First pass over a sample: what to allocate, and whether all is well formed down to the numbers.
static int size_sample(struct decoder *d, struct wire w, struct sample_sizes *sizes)
{
    enum { LOCATION = 1, VALUE, LABEL };
    struct wire_field f = {0};
    int rc;
    while ((rc = decode_next_field(d, &w, &f)) > 0) {
        if (f.number < LOCATION || f.number > LABEL)
            continue;
        if (f.number == LABEL) {
            rc = decode_want(d, &f, WIRE_BYTES);
            if (rc)
                return rc;
            sizes->labels++;
            continue;
        }
        size_t n = 1;
        if (f.type == WIRE_BYTES) {
            n = wire_count_varints(f.body);
        } else {
            rc = decode_want(d, &f, WIRE_VARINT);
            if (rc)
                return rc;
        }
        if (f.number == LOCATION)
            sizes->locations += n;
        else
            sizes->values += n;
    }
    return rc;
}

static int on_label(struct decoder *d, const struct wire_field *f, struct pprof_sample *s)
{
    enum { KEY = 1, STR, NUM, NUM_UNIT };
    uint64_t n[NUM_UNIT + 1] = {0};
    const char *empty = d->p->intern->empty;
    struct pprof_label label = {.str = empty, .num_unit = empty};
    int rc = read_numbers(d, f->body, n, NUM_UNIT + 1);
    if (!rc)
        rc = decode_string(d, f->start, "label key", n[KEY], &label.key);
    if (!rc && n[STR])
        rc = decode_string(d, f->start, "label str", n[STR], &label.str);
    if (!rc && !n[STR] && n[NUM_UNIT])
        rc = decode_string(d, f->start, "label num_unit", n[NUM_UNIT], &label.num_unit);
    if (rc)
        return rc;
    label.num = n[STR] ? 0 : (int64_t)n[NUM];
    // As in Go, a label that says nothing is none.
    if (label.str[0] || label.num || label.num_unit[0])
        s->labels[s->label_count++] = label;
    return 0;
}

static int on_location_id(struct decoder *d, const unsigned char *at, uint64_t id,
                          struct pprof_sample *s)
{
    struct pprof_location *l = idmap_find(&d->locations, id);
    if (!l)
        return decode_refuse(d, -ENOENT, at, "names location %" PRIu64 ", which is not there", id);
    s->locations[s->location_count++] = l;
    return 0;
}

static int fill_sample(struct decoder *d, struct wire w, struct pprof_sample *s)
{
    enum { LOCATION = 1, VALUE, LABEL };
    struct wire_field f;
    size_t values = 0;
    uint64_t v;
    int rc = 0;
    while (decode_next_field(d, &w, &f) > 0) {
        if (f.number == LOCATION)
            while ((rc = decode_next_number(d, &f, &v)) > 0) {
                rc = on_location_id(d, f.start, v, s);
                if (rc)
                    return rc;
            }
        else if (f.number == VALUE)
            while ((rc = decode_next_number(d, &f, &v)) > 0)
                s->values[values++] = (int64_t)v;
        else if (f.number == LABEL)
            rc = on_label(d, &f, s);
        if (rc)
            return rc;
    }
    return 0;
}

int decode_sample(struct decoder *d, const struct wire_field *f)
{
    struct sample_sizes n = {0};
    struct arena *a = &d->p->arena;
    int rc = size_sample(d, f->body, &n);
    if (rc)
        return rc;
    if (n.values != d->p->sample_type_count)
        return decode_refuse(d, -EINVAL, f->start,
                             "has %zu values; the profile has %zu sample types", n.values,
                             d->p->sample_type_count);
    if (n.values == 0)
        return decode_refuse(d, -EINVAL, f->start, "the profile has samples but no sample types");
    if (n.locations > UINT32_MAX || n.labels > UINT32_MAX)
        return decode_refuse(d, -EFBIG, f->start, "has %zu locations and %zu labels", n.locations,
                             n.labels);
    // Sizes are at most the file's, so the sum cannot overflow.
    char *block = arena_alloc(
        a, sizeof(struct pprof_sample) + n.labels * sizeof(struct pprof_label) +
               n.locations * sizeof(struct pprof_location *) + n.values * sizeof(int64_t));
    if (!block)
        return decode_no_memory(d);
    struct pprof_sample *s = (struct pprof_sample *)(void *)block;
    s->labels = (struct pprof_label *)(void *)(s + 1);
    s->locations = (struct pprof_location **)(void *)(s->labels + n.labels);
    s->values = (int64_t *)(void *)(s->locations + n.locations);
    rc = fill_sample(d, f->body, s);
    if (rc == -ENOENT && d->in->salvage) {
        d->lossy = true; // not a whole sample
        return 0;
    }
    if (rc == -ENOENT) {
        rc = -EINVAL;
        if (d->err)
            d->err->code = rc;
    }
    if (rc)
        return rc;
    return pprof_push_sample(d->p, s) ? decode_no_memory(d) : 0;
}
