// SPDX-License-Identifier: MIT
//
// Each mapping gets an image on its first unnamed location: by the descriptor that was held since
// the file was mapped, by path, or by build id alone; each location is then looked up once.

#include "collector/symbolize.h"

#include "collector/symbolize_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PACKAGES_MAX = 8 };

struct resolver { // of one mapping
    struct symbols_image *image;
    bool is_absolute; // addresses are run-time ones
    bool is_tried;
    bool has_named, has_lined;
    const char *why;
    int64_t unnamed_value;
};

struct job {
    struct pprof_profile *p;
    const struct symbolize_options *opts;
    struct symbols *symbols;
    struct resolver *resolvers; // [mapping_count + 1], by id; 0: no mapping
    struct symbolize_stats *stats;
};

static void resolver_open(struct job *j, const struct pprof_mapping *m, struct resolver *r)
{
    struct fscope_error err = {0};
    const struct symbolize_options *o = j->opts;
    const struct symbolize_source source = {
        .file = m ? m->file : "",
        .build_id = m ? m->build_id : "",
        .start = m ? m->start : 0,
        .fd = m && o->mapping_fd ? o->mapping_fd(o->arg, m) : -1,
        .pid = o->pid,
        .perf_map = o->perf_map,
        .root = o->symbols && o->symbols->root ? o->symbols->root : "",
    };
    r->is_tried = true;
    if (symbolize_open_image(j->symbols, &source, &r->image, &r->is_absolute, &err))
        r->why = pprof_string(j->p, err.text);
}

// --- Naming locations.

static bool is_named(const struct pprof_location *l)
{
    for (uint32_t i = 0; i < l->line_count; i++)
        if (*l->lines[i].function->name)
            return true;
    return false;
}

static uint64_t image_address(const struct resolver *r, const struct pprof_location *l)
{
    uint64_t address = l->address;
    const struct pprof_mapping *m = l->mapping;
    // google/pprof merges profiles onto mappings that start at 0: those addresses are file's own.
    if (!r->is_absolute && m && address >= m->start &&
        !symbols_address_of_offset(r->image, address - m->start + m->offset, &address))
        return address;
    return l->address;
}

static int name_location(struct job *j, struct resolver *r, struct pprof_location *l)
{
    struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
    struct pprof_line lines[SYMBOLS_FRAMES_MAX];
    int n = symbols_lookup(r->image, image_address(r, l), frames, SYMBOLS_FRAMES_MAX);
    if (n < 0)
        return n;
    uint32_t count = 0;
    for (int i = 0; i < n; i++) {
        const struct symbols_frame *f = &frames[i];
        if (!*f->name) // a line without a function: padding, which nothing executes
            continue;
        struct pprof_function *fn =
            pprof_intern_function(j->p, f->name, f->system_name, f->file, f->start_line);
        if (!fn)
            return -ENOMEM;
        lines[count++] = (struct pprof_line){.function = fn, .line = f->line, .column = f->column};
        r->has_named = true;
        r->has_lined |= f->line != 0;
    }
    return count ? pprof_set_lines(j->p, l, lines, count) : 0;
}

static int name_locations(struct job *j)
{
    for (size_t i = 0; i < j->p->location_count; i++) {
        struct pprof_location *l = j->p->locations[i];
        if (l->line_count && !j->opts->again)
            continue;
        struct resolver *r = &j->resolvers[l->mapping ? l->mapping->id : 0];
        if (!r->is_tried)
            resolver_open(j, l->mapping, r);
        int rc = r->image ? name_location(j, r, l) : 0;
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < j->p->mapping_count; i++) {
        struct pprof_mapping *m = j->p->mappings[i];
        const struct resolver *r = &j->resolvers[m->id];
        bool has_lines = r->has_lined && symbols_image_source(r->image) == SYMBOLS_DWARF;
        m->has_functions |= r->has_named;
        m->has_filenames |= has_lines;
        m->has_line_numbers |= has_lines;
        m->has_inline_frames |= has_lines;
    }
    return 0;
}

// --- Stats.

static int compare_files(const void *a, const void *b)
{
    const struct symbolize_file *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return strcmp(x->file, y->file);
}

static int64_t magnitude(int64_t v)
{
    return v < 0 ? (v == INT64_MIN ? INT64_MAX : -v) : v;
}

static int64_t add_saturated(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

// Adds what one mapping left unnamed to its file's entry; several mappings share a file.
static int add_file(struct job *j, struct symbolize_file *files, size_t *count, size_t id)
{
    const struct pprof_mapping *m = id ? j->p->mappings[id - 1] : NULL;
    const struct resolver *r = &j->resolvers[id];
    if (!r->unnamed_value && !r->why)
        return 0;
    const char *name = pprof_string(j->p, m && *m->file ? m->file : "[anon]");
    if (!name)
        return -ENOMEM;
    struct symbolize_file *f = NULL;
    for (size_t i = 0; i < *count && !f; i++)
        if (!strcmp(files[i].file, name))
            f = &files[i];
    if (!f) {
        f = &files[(*count)++];
        *f = (struct symbolize_file){
            .file = name, .build_id = m ? m->build_id : "", .why = "", .package = ""};
    }
    if (r->why && !*f->why)
        f->why = r->why;
    f->value = add_saturated(f->value, r->unnamed_value);
    return 0;
}

static void add_packages(struct job *j)
{
    struct symbolize_stats *st = j->stats;
    for (size_t i = 0; i < st->file_count && i < PACKAGES_MAX; i++) {
        char name[256];
        struct symbolize_file *f = &st->files[i];
        if (f->value && !symbols_debian_package(f->file, name, sizeof name, &f->in_debug_archive))
            f->package = pprof_string(j->p, name);
        if (!f->package)
            f->package = "";
    }
}

static int sum_samples(struct job *j)
{
    struct symbolize_stats *st = j->stats;
    int index = pprof_sample_index(j->p, NULL, NULL);
    for (size_t i = 0; i < j->p->sample_count && index >= 0; i++) {
        const struct pprof_sample *s = j->p->samples[i];
        int64_t value = magnitude(s->values[index]);
        st->value = add_saturated(st->value, value);
        if (!s->location_count || is_named(s->locations[0]))
            continue;
        const struct pprof_mapping *m = s->locations[0]->mapping;
        struct resolver *r = &j->resolvers[m ? m->id : 0];
        r->unnamed_value = add_saturated(r->unnamed_value, value);
        st->unnamed_value = add_saturated(st->unnamed_value, value);
    }
    struct symbolize_file *files = calloc(j->p->mapping_count + 1, sizeof *files);
    size_t count = 0;
    int rc = files ? 0 : -ENOMEM;
    for (size_t i = 0; i <= j->p->mapping_count && !rc; i++)
        rc = add_file(j, files, &count, i);
    if (!rc && count) {
        qsort(files, count, sizeof *files, compare_files);
        st->file_count = count < SYMBOLIZE_FILES_MAX ? count : SYMBOLIZE_FILES_MAX;
        st->files_left_out = count - st->file_count;
        memcpy(st->files, files, st->file_count * sizeof *files);
        for (size_t i = 0; i < count; i++)
            st->warning_count += *files[i].why != '\0';
    }
    free(files);
    return rc;
}

static int fill_stats(struct job *j)
{
    struct symbolize_stats *st = j->stats;
    *st = (struct symbolize_stats){.location_count = j->p->location_count};
    for (size_t i = 0; i < j->p->location_count; i++) {
        const struct pprof_location *l = j->p->locations[i];
        st->named_count += is_named(l);
        st->lined_count += l->line_count && l->lines[0].line;
    }
    int rc = sum_samples(j);
    if (!rc)
        add_packages(j);
    return rc;
}

int symbolize_profile(struct pprof_profile *p, const struct symbolize_options *opts,
                      struct symbolize_stats *stats, struct fscope_error *err)
{
    struct symbolize_options o = {.size = sizeof o};
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    struct job j = {.p = p, .opts = &o, .stats = stats};
    int rc = symbols_new(&j.symbols, o.symbols, err);
    if (rc)
        return rc;
    j.resolvers = calloc(p->mapping_count + 1, sizeof *j.resolvers);
    rc = j.resolvers ? name_locations(&j) : -ENOMEM;
    if (!rc && stats)
        rc = fill_stats(&j);
    if (rc)
        error_set(err, rc, 0, "out of memory while symbolizing");
    free(j.resolvers);
    symbols_free(j.symbols);
    return rc;
}

// --- The closing line.

static size_t append(char *text, size_t size, size_t used, const char *s)
{
    if (used < size)
        snprintf(text + used, size - used, "%s", s);
    return used + strlen(s);
}

int symbolize_summary(const struct symbolize_stats *st, char *text, size_t size)
{
    char part[640];
    size_t used = 0, files = 0, packages = 0;
    if (size)
        text[0] = '\0';
    for (size_t i = 0; i < st->file_count; i++)
        files += st->files[i].value != 0;
    files += st->files_left_out;
    if (!st->unnamed_value || st->value <= 0 || !files)
        return 0;
    double share = 100.0 * (double)st->unnamed_value / (double)st->value;
    snprintf(part, sizeof part, share < 1 ? "<1 %%" : "%.0f %%", share);
    used = append(text, size, used, part);
    snprintf(part, sizeof part, " in %zu file%s without symbols: ", files, files > 1 ? "s" : "");
    used = append(text, size, used, part);
    // Packages of what matters: three at most, each once.
    for (size_t i = 0; i < st->file_count && packages < 3; i++) {
        const struct symbolize_file *f = &st->files[i];
        bool again = !*f->package;
        for (size_t k = 0; k < i && !again; k++)
            again = !strcmp(st->files[k].package, f->package);
        if (again)
            continue;
        snprintf(part, sizeof part, "%s%s%s", packages ? ", " : "install ", f->package,
                 f->in_debug_archive ? " (debian-debug archive)" : "");
        used = append(text, size, used, part);
        packages++;
    }
    if (packages)
        return (int)append(text, size, used, " or set DEBUGINFOD_URLS");
    const struct symbolize_file *first = &st->files[0];
    used = append(text, size, used, *first->why ? first->why : first->file);
    if (first->file[0] == '/' && first->file[1] != '/')
        used = append(text, size, used, "; set DEBUGINFOD_URLS or give --debug-dir");
    else if (symbolize_is_anonymous(first->file))
        used = append(text, size, used, " (JIT code? let it write /tmp/perf-PID.map)");
    return (int)used;
}
