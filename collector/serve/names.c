// SPDX-License-Identifier: MIT
//
// What functions are at addresses of a process, inlined ones included: each address becomes a sample of a profile, with
// a number that says which one it is, so that the profile's symbolizer names it.

#include "collector/serve/internal.h"

#include "collector/record_internal.h"
#include "collector/target.h"

#include "collector/serve/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int add_all(struct builder_process *process, const uint64_t *addresses, size_t count)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        const struct builder_label label = {.key = "address", .number = (int64_t)i + 1};
        const struct builder_sample s = {.user = &addresses[i],
                                         .user_depth = 1,
                                         .count = 1,
                                         .when = 1,
                                         .labels = &label,
                                         .label_count = 1};
        rc = builder_add(process, &s);
    }
    return rc;
}

static const struct pprof_line *line_of(const struct pprof_sample *s)
{
    if (!s || !s->location_count || !s->locations[0]->line_count)
        return NULL;
    const struct pprof_line *line = &s->locations[0]->lines[0];
    return *line->function->name ? line : NULL;
}

// The samples in the order of the addresses.
static int tell_all(const struct pprof_profile *p, const uint64_t *addresses, size_t count,
                    void (*fn)(void *arg, uint64_t address, const struct pprof_line *line),
                    void *arg)
{
    const struct pprof_sample **by_index = calloc(count + 1, sizeof(struct pprof_sample *));
    if (!by_index)
        return -ENOMEM;
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->label_count; j++) {
            const struct pprof_label *l = &p->samples[i]->labels[j];
            if (strcmp(l->key, "address") == 0 && l->num >= 1 && (uint64_t)l->num <= count)
                by_index[l->num - 1] = p->samples[i];
        }
    for (size_t i = 0; i < count; i++) {
        const struct pprof_line *line = line_of(by_index[i]);
        if (line)
            fn(arg, addresses[i], line);
    }
    free(by_index);
    return 0;
}

int names_find(uint32_t pid, const uint64_t *addresses, size_t count,
               void (*fn)(void *arg, uint64_t address, const struct pprof_line *line), void *arg)
{
    const struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CUSTOM};
    struct builder *b = NULL;
    struct target *t = NULL;
    struct pprof_profile *p = NULL;
    char summary[512];
    int rc = target_open_pid(&t, pid, NULL);
    if (!rc)
        rc = builder_new(&b, &bo);
    struct builder_process *process = rc ? NULL : builder_process(b, pid, 0, target_name(t));
    if (!rc)
        rc = process ? target_tell_builder(t, process) : -ENOMEM;
    if (!rc)
        rc = add_all(process, addresses, count);
    if (!rc)
        rc = builder_finish(b, 0, &p);
    if (!rc) {
        record_symbolize(b, p, pid, summary, sizeof summary);
        rc = tell_all(p, addresses, count, fn, arg);
    }
    pprof_free(p);
    builder_free(b);
    target_close(t);
    return rc;
}

// --- Names that are kept, for pages that are asked for again and again.
//
// Invariant: a place holds the address that it is for, or 0; it is found by probing from the address' own place, and
// all is thrown away when it is half full, after a time, and when the program has executed another.

enum { PLACES = 8192, KEPT_S = 60 };

struct names {
    uint64_t image, since_ns;
    size_t count;
    struct {
        uint64_t address;
        struct name name;
    } places[PLACES];
};

static size_t place_of(const struct names *n, uint64_t address)
{
    size_t at = (size_t)((address * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % PLACES;
    while (n->places[at].address && n->places[at].address != address)
        at = (at + 1) % PLACES;
    return at;
}

static void keep(struct names *n, uint64_t address, const struct pprof_line *line)
{
    size_t at = place_of(n, address);
    struct name *name = &n->places[at].name;
    if (!n->places[at].address) {
        if (n->count >= PLACES / 2)
            return;
        n->count++;
        n->places[at].address = address;
    }
    if (!line) {
        snprintf(name->function, sizeof name->function, "0x%" PRIx64, address);
        return;
    }
    const char *file = line->function->filename, *slash = strrchr(file, '/');
    snprintf(name->function, sizeof name->function, "%s", line->function->name);
    if (*file)
        snprintf(name->place, sizeof name->place, "%s:%" PRId64, slash ? slash + 1 : file,
                 line->line);
}

static void keep_found(void *arg, uint64_t address, const struct pprof_line *line)
{
    keep(arg, address, line);
}

// s->names_lock held. NULL: no memory.
static struct names *fresh(struct serve *s)
{
    uint64_t image = session_image(s->session), now = serve_now_ns();
    if (!s->names)
        s->names = calloc(1, sizeof *s->names);
    struct names *n = s->names;
    if (!n)
        return NULL;
    if (n->image != image || n->count > PLACES / 4 ||
        now - n->since_ns > KEPT_S * UINT64_C(1000000000)) {
        memset(n, 0, sizeof *n);
        n->image = image;
        n->since_ns = now;
    }
    return n;
}

void names_want(struct serve *s, const uint64_t *addresses, size_t count)
{
    uint64_t *unknown = calloc(count + 1, sizeof *unknown);
    size_t more = 0;
    pthread_mutex_lock(&s->names_lock);
    struct names *n = unknown ? fresh(s) : NULL;
    for (size_t i = 0; n && i < count && n->count < PLACES / 2; i++)
        if (addresses[i] && !n->places[place_of(n, addresses[i])].address) {
            unknown[more++] = addresses[i];
            keep(n, addresses[i], NULL);
        }
    if (more)
        names_find(session_pid(s->session), unknown, more, keep_found, n);
    pthread_mutex_unlock(&s->names_lock);
    free(unknown);
}

void names_want_table(struct serve *s, const struct table *t)
{
    size_t n = 0;
    uint64_t *addresses = calloc(2 * t->count + t->group_count + 1, sizeof *addresses);
    for (size_t i = 0; addresses && i < t->count; i++) {
        addresses[n++] = t->rows[i].start;
        addresses[n++] = t->rows[i].created_at ? t->rows[i].created_at - 1 : 0;
    }
    for (size_t i = 0; addresses && !t->is_threads && i < t->group_count; i++) {
        bool is_call = t->group == TABLE_BY_SITE;
        addresses[n++] = t->groups[i].key ? t->groups[i].key - is_call : 0;
    }
    if (n)
        names_want(s, addresses, n);
    free(addresses);
}

void name_get(struct serve *s, uint64_t address, struct name *out)
{
    *out = (struct name){0};
    pthread_mutex_lock(&s->names_lock);
    if (s->names) {
        size_t at = place_of(s->names, address);
        if (s->names->places[at].address)
            *out = s->names->places[at].name;
    }
    pthread_mutex_unlock(&s->names_lock);
    if (!out->function[0])
        snprintf(out->function, sizeof out->function, "0x%" PRIx64, address);
}
