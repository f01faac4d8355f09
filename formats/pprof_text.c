// SPDX-License-Identifier: MIT
//
// See pprof_text.h. The frames of a stack are comments; they are aligned as Go's tabwriter does it with cells of at
// least 1, tabs of 8 and padding of 1: the lines that follow each other make a block, and in a block a column is as
// wide as its widest cell and one more, rounded up to tabs.

#include "formats/pprof_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TAB = 8, VALUES_MAX = 4 };

struct entry {
    const struct pprof_sample *sample;
    int64_t values[VALUES_MAX]; // in the order of the text's kind
    char *key;                  // counts: addresses and labels; else NULL
};

struct text_writer {
    const struct pprof_profile *p;
    const struct pprof_text_options *o;
    FILE *out;
    struct entry *entries; // [count]
    size_t count;
    int failed; // 0 or -ENOMEM
};

// --- Frames.

struct frame {
    char pc[24];
    char *function; // "name+0x12"; NULL: no name, and then nothing else
    char *place;    // "file:line"
};

static size_t width_of(const char *utf8)
{
    size_t n = 0;
    for (; *utf8; utf8++)
        n += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return n;
}

// A cell and the tabs up to the next column; the widest cell has one column of padding.
static void put_cell(FILE *out, const char *cell, size_t widest)
{
    size_t column = (widest + 1 + TAB - 1) / TAB * TAB;
    size_t tabs = (column - width_of(cell) + TAB - 1) / TAB;
    fputs(cell, out);
    while (tabs--)
        fputc('\t', out);
}

static void put_frames(FILE *out, const struct frame *frames, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (!frames[i].function) {
            fprintf(out, "#\t%s\n", frames[i++].pc);
            continue;
        }
        size_t end = i, pc_widest = 0, function_widest = 0;
        for (; end < n && frames[end].function; end++) {
            size_t pc = strlen(frames[end].pc), function = width_of(frames[end].function);
            pc_widest = pc > pc_widest ? pc : pc_widest;
            function_widest = function > function_widest ? function : function_widest;
        }
        for (; i < end; i++) {
            fputs("#\t", out);
            put_cell(out, frames[i].pc, pc_widest);
            put_cell(out, frames[i].function, function_widest);
            fprintf(out, "%s\n", frames[i].place);
        }
    }
}

static int make_frame(struct text_writer *w, const struct pprof_location *l,
                      const struct pprof_line *line, struct frame *f)
{
    uint64_t offset = 0;
    int rc;
    snprintf(f->pc, sizeof f->pc, "0x%" PRIx64, l->address);
    if (!line)
        return 0;
    if (w->o->offset && w->o->offset(w->o->arg, l, &offset))
        rc = asprintf(&f->function, "%s+0x%" PRIx64, line->function->name, offset);
    else
        rc = asprintf(&f->function, "%s", line->function->name);
    if (rc < 0) {
        f->function = NULL;
        return -ENOMEM;
    }
    if (asprintf(&f->place, "%s:%" PRId64, line->function->filename, line->line) < 0) {
        f->place = NULL;
        return -ENOMEM;
    }
    return 0;
}

static bool is_runtime(const char *name)
{
    return strncmp(name, "runtime.", 8) == 0 || strncmp(name, "internal/runtime/", 17) == 0;
}

// Go's own runtime at the leaf of a stack tells nobody anything; it is shown where there is nothing else.
static size_t make_frames(struct text_writer *w, const struct pprof_sample *s, bool show,
                          struct frame *frames)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->location_count; i++) {
        const struct pprof_location *l = s->locations[i];
        for (uint32_t j = 0; j < l->line_count || (j == 0 && !l->line_count); j++) {
            const struct pprof_line *line = l->line_count ? &l->lines[j] : NULL;
            const char *name = line ? line->function->name : "";
            if (*name && (strcmp(name, "runtime.goexit") == 0 || (!show && is_runtime(name))))
                continue;
            show = true;
            if (make_frame(w, l, *name ? line : NULL, &frames[n++]))
                w->failed = -ENOMEM;
        }
    }
    return n;
}

static void put_stack(struct text_writer *w, const struct pprof_sample *s, bool all_frames)
{
    size_t lines = 0;
    for (uint32_t i = 0; i < s->location_count; i++)
        lines += s->locations[i]->line_count ? s->locations[i]->line_count : 1;
    struct frame *frames = calloc(lines + 1, sizeof *frames);
    if (!frames) {
        w->failed = -ENOMEM;
        return;
    }
    size_t n = make_frames(w, s, all_frames, frames);
    if (!n && !all_frames)
        n = make_frames(w, s, true, frames);
    if (!w->failed)
        put_frames(w->out, frames, n);
    fputc('\n', w->out);
    for (size_t i = 0; i < n; i++) {
        free(frames[i].function);
        free(frames[i].place);
    }
    free(frames);
}

// A stack of nothing is one at address 0: a line without addresses is not read everywhere.
static void put_addresses(FILE *out, const struct pprof_sample *s)
{
    fputc('@', out);
    for (uint32_t i = 0; i < s->location_count; i++)
        fprintf(out, " 0x%" PRIx64, s->locations[i]->address + 1);
    if (!s->location_count)
        fputs(" 0x1", out);
}

// With the maps a reader can look for the names itself.
static void put_maps(struct text_writer *w)
{
    const struct pprof_profile *p = w->p;
    if (p->mapping_count)
        fputs("--- Memory map: ---\n", w->out);
    for (size_t i = 0; i < p->mapping_count; i++) {
        const struct pprof_mapping *m = p->mappings[i];
        fprintf(w->out, "%08" PRIx64 "-%08" PRIx64 " r-xp %08" PRIx64 " 00:00 0 %s\n", m->start,
                m->limit, m->offset, m->file);
    }
}

// --- Entries.

static int find_type(const struct pprof_profile *p, const char *type, size_t *index)
{
    for (size_t i = 0; i < p->sample_type_count; i++)
        if (strcmp(p->sample_types[i].type, type) == 0) {
            *index = i;
            return 0;
        }
    return -EINVAL;
}

static int gather(struct text_writer *w, const char *const *types, size_t n,
                  struct fscope_error *err)
{
    size_t from[VALUES_MAX] = {0};
    for (size_t i = 0; i < n; i++)
        if (find_type(w->p, types[i], &from[i]))
            return error_set(err, -EINVAL, 0, "the profile has no sample type \"%s\"", types[i]);
    w->entries = calloc(w->p->sample_count + 1, sizeof *w->entries);
    if (!w->entries)
        return error_set(err, -ENOMEM, 0, "out of memory");
    for (size_t i = 0; i < w->p->sample_count; i++) {
        struct entry *e = &w->entries[w->count++];
        e->sample = w->p->samples[i];
        for (size_t j = 0; j < n; j++)
            e->values[j] = e->sample->values[from[j]];
    }
    return 0;
}

static int falling(int64_t a, int64_t b)
{
    return (a < b) - (a > b);
}

// Equal ones stay in the order that the profile has: qsort is told so.
static int in_order(const struct entry *a, const struct entry *b)
{
    return (a > b) - (a < b);
}

static int by_delay(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    int order = falling((*x)->values[1], (*y)->values[1]);
    return order ? order : in_order(*x, *y);
}

static int by_inuse(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    int order = falling((*x)->values[3], (*y)->values[3]);
    return order ? order : in_order(*x, *y);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int by_count(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    int order = falling((*x)->values[0], (*y)->values[0]);
    return order ? order : strcmp((*x)->key, (*y)->key);
}

static const struct entry **sorted(struct text_writer *w, int (*order)(const void *, const void *))
{
    const struct entry **list = calloc(w->count + 1, sizeof *list);
    if (!list) {
        w->failed = -ENOMEM;
        return NULL;
    }
    for (size_t i = 0; i < w->count; i++)
        list[i] = &w->entries[i];
    qsort(list, w->count, sizeof *list, order);
    return list;
}

// --- Counts.

// As Go's %q: what would break the line or the quotes is escaped.
static void put_quoted(FILE *out, const char *s)
{
    static const char plain[] = "\a\b\f\n\r\t\v\\\"", letters[] = "abfnrtv\\\"";
    fputc('"', out);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        const char *special = strchr(plain, c);
        if (special)
            fprintf(out, "\\%c", letters[special - plain]);
        else if (c < ' ' || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static int by_label(const void *a, const void *b)
{
    const struct pprof_label *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static int put_labels(FILE *out, const struct pprof_sample *s)
{
    const struct pprof_label **labels = calloc(s->label_count + 1, sizeof *labels);
    if (!labels)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->label_count; i++)
        labels[i] = &s->labels[i];
    qsort(labels, s->label_count, sizeof *labels, by_label);
    fputs("\n# labels: {", out);
    for (uint32_t i = 0; i < s->label_count; i++) {
        fputs(i ? ", " : "", out);
        put_quoted(out, labels[i]->key);
        fputc(':', out);
        if (labels[i]->str[0])
            put_quoted(out, labels[i]->str);
        else
            fprintf(out, "\"%" PRId64 "\"", labels[i]->num);
    }
    fputc('}', out);
    free(labels);
    return 0;
}

static int make_key(struct entry *e)
{
    size_t size;
    FILE *to = open_memstream(&e->key, &size);
    if (!to)
        return -ENOMEM;
    put_addresses(to, e->sample);
    int rc = e->sample->label_count ? put_labels(to, e->sample) : 0;
    return fclose(to) || !e->key ? -ENOMEM : rc;
}

// Makes the keys, leaves out what cannot be written, and adds up what reads the same.
static int unite(struct text_writer *w, int64_t *total)
{
    size_t kept = 0, n = 0;
    *total = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct entry e = w->entries[i];
        if (e.values[0] < 1)
            continue;
        if (make_key(&e)) {
            free(e.key);
            w->count = kept;
            return -ENOMEM;
        }
        w->entries[kept++] = e;
        if (__builtin_add_overflow(*total, e.values[0], total))
            *total = INT64_MAX;
    }
    if (kept)
        qsort(w->entries, kept, sizeof *w->entries, by_key);
    for (size_t i = 0; i < kept; i++) {
        if (n && strcmp(w->entries[n - 1].key, w->entries[i].key) == 0) {
            int64_t *sum = &w->entries[n - 1].values[0];
            if (__builtin_add_overflow(*sum, w->entries[i].values[0], sum))
                *sum = INT64_MAX;
            free(w->entries[i].key);
        } else {
            w->entries[n++] = w->entries[i];
        }
    }
    w->count = n;
    return 0;
}

static int write_counts(struct text_writer *w, struct fscope_error *err)
{
    int64_t total = 0;
    const char *type = w->p->sample_type_count ? w->p->sample_types[0].type : "";
    const char *const types[] = {type};
    int rc = gather(w, types, 1, err);
    if (rc)
        return rc;
    w->failed = unite(w, &total);
    const struct entry **list = w->failed ? NULL : sorted(w, by_count);
    if (!list)
        return 0;
    fprintf(w->out, "%s profile: total %" PRId64 "\n", w->o->name ? w->o->name : type, total);
    for (size_t i = 0; i < w->count; i++) {
        fprintf(w->out, "%" PRId64 " %s\n", list[i]->values[0], list[i]->key);
        put_stack(w, list[i]->sample, false);
    }
    free(list);
    return 0;
}

// --- The heap.

// Readers refuse bytes in no objects, and a minus sign in the heading.
static void clean_pair(int64_t *pair)
{
    if (!pair[0])
        pair[1] = 0;
}

static void put_heap_heading(struct text_writer *w)
{
    int64_t total[VALUES_MAX] = {0};
    for (size_t i = 0; i < w->count; i++)
        for (size_t j = 0; j < VALUES_MAX; j++)
            if (__builtin_add_overflow(total[j], w->entries[i].values[j], &total[j]))
                total[j] = INT64_MAX - 1;
    for (size_t j = 0; j < VALUES_MAX; j++)
        total[j] = total[j] < 0 ? 0 : total[j];
    total[1] += total[1] == total[3];
    fprintf(w->out, "heap profile: %" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @ heap/2\n",
            total[2], total[3], total[0], total[1]);
}

static bool is_negative(const struct entry *e)
{
    return e->values[0] < 0 || e->values[1] < 0;
}

static int write_heap(struct text_writer *w, struct fscope_error *err)
{
    static const char *const types[] = {"alloc_objects", "alloc_space", "inuse_objects",
                                        "inuse_space"};
    int rc = gather(w, types, VALUES_MAX, err);
    for (size_t i = 0; i < w->count; i++) {
        clean_pair(w->entries[i].values);
        clean_pair(w->entries[i].values + 2);
    }
    const struct entry **list = rc ? NULL : sorted(w, by_inuse);
    if (!list)
        return rc;
    put_heap_heading(w);
    for (size_t i = 0; i < w->count; i++) {
        const int64_t *v = list[i]->values;
        if (is_negative(list[i]))
            continue;
        fprintf(w->out, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] ", v[2], v[3], v[0],
                v[1]);
        put_addresses(w->out, list[i]->sample);
        fputc('\n', w->out);
        put_stack(w, list[i]->sample, false);
    }
    free(list);
    if (w->o->stat_count)
        fputs("\n# runtime.MemStats\n", w->out);
    for (size_t i = 0; i < w->o->stat_count; i++)
        fprintf(w->out, "# %s = %" PRIu64 "\n", w->o->stats[i].key, w->o->stats[i].value);
    return 0;
}

// --- Locks.

static int write_locks(struct text_writer *w, bool is_mutex, struct fscope_error *err)
{
    static const char *const types[] = {"contentions", "delay"};
    int rc = gather(w, types, 2, err);
    const struct entry **list = rc ? NULL : sorted(w, by_delay);
    if (!list)
        return rc;
    fprintf(w->out, "--- %s:\ncycles/second=1000000000\n", is_mutex ? "mutex" : "contention");
    if (is_mutex)
        fputs("sampling period=1\n", w->out);
    for (size_t i = 0; i < w->count; i++) {
        if (is_negative(list[i]))
            continue;
        fprintf(w->out, "%" PRId64 " %" PRId64 " ", list[i]->values[1], list[i]->values[0]);
        put_addresses(w->out, list[i]->sample);
        fputc('\n', w->out);
        put_stack(w, list[i]->sample, true);
    }
    free(list);
    return 0;
}

int pprof_text_write(const struct pprof_profile *p, enum pprof_text_kind kind,
                     const struct pprof_text_options *opts, FILE *out, struct fscope_error *err)
{
    static const struct pprof_text_options none = {.size = sizeof none};
    struct text_writer w = {.p = p, .o = opts ? opts : &none, .out = out};
    int rc;
    switch (kind) {
    case PPROF_TEXT_COUNT: rc = write_counts(&w, err); break;
    case PPROF_TEXT_HEAP: rc = write_heap(&w, err); break;
    case PPROF_TEXT_BLOCK:
    case PPROF_TEXT_MUTEX: rc = write_locks(&w, kind == PPROF_TEXT_MUTEX, err); break;
    default: rc = error_set(err, -EINVAL, 0, "no such kind of text"); break;
    }
    if (!rc && w.failed)
        rc = error_set(err, w.failed, 0, "out of memory");
    if (!rc) {
        put_maps(&w);
        if (fflush(out) || ferror(out))
            rc = error_set(err, -EIO, 0, "the text could not be written");
    }
    for (size_t i = 0; i < w.count; i++)
        free(w.entries[i].key);
    free(w.entries);
    return rc;
}
