// SPDX-License-Identifier: MIT
//
// Profiles by name: as they are, as text (debug=1), or what is added to them in so many seconds.

#include "collector/serve/internal.h"

#include "collector/lock_labels.h"
#include "collector/stack_report.h"
#include "formats/pprof_text.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STATS_MAX = 12 };

// Those that there always is, if perhaps not recorded.
static const struct known {
    const char *name;
    bool has_delta;
    enum pprof_text_kind text;
} known[] = {
    {"allocs", true, PPROF_TEXT_HEAP},     {"block", true, PPROF_TEXT_BLOCK},
    {"goroutine", true, PPROF_TEXT_COUNT}, {"heap", true, PPROF_TEXT_HEAP},
    {"mutex", true, PPROF_TEXT_MUTEX},     {"threadcreate", true, PPROF_TEXT_COUNT},
    {"threads", false, PPROF_TEXT_COUNT},
};

static const struct known *find_known(const char *name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return &known[i];
    return NULL;
}

struct lookup {
    const char *name;
    bool found;
};

static int look(void *arg, const char *name, uint64_t count)
{
    struct lookup *l = arg;
    (void)count;
    l->found |= strcmp(name, l->name) == 0;
    return 0;
}

static bool exists(struct request *r, const char *name)
{
    struct lookup l = {.name = name, .found = find_known(name) != NULL};
    if (!l.found)
        session_each_profile(r->serve->session, look, &l);
    return l.found;
}

static void refuse(struct request *r, int rc, const char *name, const struct fscope_error *err)
{
    if (rc == -ENOENT)
        reply_error(r, MHD_HTTP_NOT_FOUND, "Unknown profile");
    else if (rc == -EOPNOTSUPP)
        reply_error(r, MHD_HTTP_NOT_IMPLEMENTED, "%s: %s", name, err->text);
    else
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "failed to collect profile");
}

// --- What is added in so many seconds.

static int64_t real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int collect(struct request *r, const char *name, struct pprof_profile **out)
{
    struct fscope_error err = {0};
    int rc = session_profile(r->serve->session, name, out, &err);
    if (rc == -EOPNOTSUPP)
        refuse(r, rc, name, &err);
    else if (rc)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "failed to collect profile");
    else
        (*out)->time_nanos = real_ns();
    return rc;
}

// Of a charge that goes on the count is 0.
static bool is_below_zero(const struct pprof_profile *p, const struct pprof_sample *s)
{
    return s->values[0] < 0 || (p->sample_type_count == 2 && s->values[1] < 0);
}

// A lock that is no longer told apart (lock_labels.h) has less than before, and its stack as much more.
static int unite_locks(struct pprof_profile **delta)
{
    struct pprof_profile *united = NULL;
    bool is_any = false;
    for (size_t i = 0; i < (*delta)->sample_count; i++)
        if (is_below_zero(*delta, (*delta)->samples[i])) {
            lock_labels_take((*delta)->samples[i]);
            is_any = true;
        }
    int rc = is_any ? pprof_merge(&united, delta, 1, NULL) : 0;
    if (rc || !is_any)
        return rc;
    pprof_free(*delta);
    *delta = united;
    return 0;
}

static void reply_delta(struct request *r, const char *name, struct pprof_profile *before,
                        struct pprof_profile *after)
{
    struct pprof_profile *delta = NULL;
    char file[160];
    int64_t when = after->time_nanos, took = after->time_nanos - before->time_nanos;
    if (pprof_subtract(&delta, after, before, 0, NULL) || unite_locks(&delta)) {
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "failed to compute delta");
        pprof_free(delta);
        return;
    }
    delta->time_nanos = when;
    delta->duration_nanos = took;
    snprintf(file, sizeof file, "%.120s-delta", name);
    reply_profile(r, delta, file);
    pprof_free(delta);
}

static void serve_delta(struct request *r, const char *name, const char *text, size_t size)
{
    struct pprof_profile *before = NULL, *after = NULL;
    const struct known *k = find_known(name);
    int64_t seconds;
    if (query_parse_int(text, size, &seconds) || seconds <= 0)
        reply_error(r, MHD_HTTP_BAD_REQUEST,
                    "invalid value for \"seconds\" - must be a positive integer");
    else if (!k || !k->has_delta)
        reply_error(r, MHD_HTTP_BAD_REQUEST,
                    "\"seconds\" parameter is not supported for this profile type");
    else if (query_int(r->query, "debug") != 0)
        reply_error(r, MHD_HTTP_BAD_REQUEST, "seconds and debug params are incompatible");
    else if ((uint64_t)seconds > r->serve->o.duration_ns_max / 1000000000)
        reply_error(r, MHD_HTTP_BAD_REQUEST, "profile duration exceeds server's WriteTimeout");
    else if (collect(r, name, &before) == 0) {
        if (request_sleep(r, (uint64_t)seconds * 1000000000))
            reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "context canceled");
        else if (collect(r, name, &after) == 0)
            reply_delta(r, name, before, after);
    }
    pprof_free(before);
    pprof_free(after);
}

// --- Texts.

// A line of /proc/PID/status in bytes; 0: unknown.
static uint64_t status_bytes(uint32_t pid, const char *key)
{
    char path[40], line[160];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "/proc/%u/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
            kib = strtoull(line + strlen(key) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kib * 1024;
}

static uint64_t total_of(const struct pprof_profile *p, const char *type)
{
    uint64_t sum = 0;
    size_t at = 0;
    while (at < p->sample_type_count && strcmp(p->sample_types[at].type, type) != 0)
        at++;
    for (size_t i = 0; at < p->sample_type_count && i < p->sample_count; i++)
        sum += (uint64_t)p->samples[i]->values[at];
    return sum;
}

// Of Go's MemStats those that mean something here, estimated where the heap is sampled.
static size_t heap_stats(struct request *r, const struct pprof_profile *p,
                         struct pprof_text_stat *stats)
{
    struct session_counts c = {0};
    uint64_t live = total_of(p, "inuse_space"), total = total_of(p, "alloc_space");
    uint64_t objects = total_of(p, "inuse_objects"), mallocs = total_of(p, "alloc_objects");
    uint32_t pid = session_pid(r->serve->session);
    if (session_counts(r->serve->session, &c) == 0 && c.is_exact) {
        live = c.heap_live_bytes;
        total = c.heap_alloc_bytes;
        objects = c.heap_live_objects;
        mallocs = c.heap_alloc_objects;
    }
    const struct pprof_text_stat all[] = {
        {"Alloc", live},
        {"TotalAlloc", total},
        {"Mallocs", mallocs},
        {"Frees", mallocs > objects ? mallocs - objects : 0},
        {"HeapAlloc", live},
        {"HeapObjects", objects},
        {"Sys", status_bytes(pid, "VmRSS")},
        {"MaxRSS", status_bytes(pid, "VmHWM")},
    };
    memcpy(stats, all, sizeof all);
    return sizeof all / sizeof *all;
}

static void reply_text(struct request *r, const char *name, const struct pprof_profile *p)
{
    const struct known *k = find_known(name);
    struct pprof_text_stat stats[STATS_MAX];
    struct pprof_text_options o = {.size = sizeof o, .name = name, .stats = stats};
    struct fscope_error err = {0};
    FILE *out = reply_text_begin(r, TYPE_TEXT);
    if (!out)
        return;
    if (k && k->text == PPROF_TEXT_HEAP)
        o.stat_count = heap_stats(r, p, stats);
    int rc = pprof_text_write(p, k ? k->text : PPROF_TEXT_COUNT, &o, out, &err);
    reply_text_end(r, out);
    if (rc)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s: %s", name, err.text);
}

static void put_thread(FILE *out, const struct pprof_sample *s)
{
    const char *name = "", *state = "", *tid = "";
    char number[24] = "";
    for (uint32_t i = 0; i < s->label_count; i++) {
        const struct pprof_label *l = &s->labels[i];
        name = strcmp(l->key, "thread") == 0 ? l->str : name;
        state = strcmp(l->key, "state") == 0 ? l->str : state;
        if (strcmp(l->key, "tid") == 0 && !l->str[0]) {
            snprintf(number, sizeof number, "%" PRId64, l->num);
            tid = number;
        } else if (strcmp(l->key, "tid") == 0) {
            tid = l->str;
        }
    }
    fprintf(out, "goroutine %s [%s%s%s%s]:\n", *tid ? tid : "0", *state ? state : "thread",
            *name ? ", \"" : "", name, *name ? "\"" : "");
    for (uint32_t i = 0; i < s->location_count; i++) {
        const struct pprof_location *l = s->locations[i];
        if (!l->line_count)
            fprintf(out, "0x%" PRIx64 "(...)\n\t%s\n", l->address,
                    l->mapping ? l->mapping->file : "?");
        for (uint32_t j = 0; j < l->line_count; j++)
            fprintf(out, "%s(...)\n\t%s:%" PRId64 "\n", l->lines[j].function->name,
                    l->lines[j].function->filename, l->lines[j].line);
    }
}

// Of a program without fibers: its threads, one by one.
static int put_threads(struct request *r, FILE *out, struct fscope_error *err)
{
    struct pprof_profile *p = NULL;
    bool is_first = true;
    int rc = session_profile(r->serve->session, "threads", &p, err);
    for (size_t i = 0; !rc && i < p->sample_count; i++)
        for (int64_t n = p->samples[i]->values[0]; n > 0; n--) {
            fputs(is_first ? "" : "\n", out);
            is_first = false;
            put_thread(out, p->samples[i]);
        }
    pprof_free(p);
    return rc;
}

// Every fiber with its stack, as Go prints goroutines when it panics.
static void reply_stacks(struct request *r)
{
    const struct stack_options o = {.symbolize = true};
    struct fscope_error err = {0};
    struct target *t = NULL;
    size_t count = 0;
    FILE *out = reply_text_begin(r, TYPE_TEXT);
    if (!out)
        return;
    int rc = target_open_pid(&t, session_pid(r->serve->session), &err);
    if (!rc)
        rc = stack_report(t, &o, out, &count, &err);
    target_close(t);
    if (rc == -ENOENT)
        rc = put_threads(r, out, &err);
    reply_text_end(r, out);
    if (rc)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "goroutine: %s", err.text);
}

// --- As they are.

void page_profile(struct request *r)
{
    const char *name = r->path + strlen("/debug/pprof/");
    struct fscope_error err = {0};
    struct pprof_profile *p = NULL;
    size_t size;
    if (!exists(r, name)) {
        reply_error(r, MHD_HTTP_NOT_FOUND, "Unknown profile");
        return;
    }
    char *seconds = query_get(r->query, "seconds", &size);
    if (seconds && size) {
        serve_delta(r, name, seconds, size);
        free(seconds);
        return;
    }
    free(seconds);
    // gc=1 is taken and means nothing: what is freed here is so at once.
    int64_t debug = query_int(r->query, "debug");
    if (strcmp(name, "goroutine") == 0 && debug >= 2) {
        reply_stacks(r);
        return;
    }
    const struct known *k = find_known(name);
    int rc = session_profile(r->serve->session, name, &p, &err);
    if (rc)
        refuse(r, rc, name, &err);
    else if (debug > 0 || (debug < 0 && k && k->text == PPROF_TEXT_HEAP))
        reply_text(r, name, p);
    else
        reply_profile(r, p, name);
    // Go says so of the protobuf that it sends for debug=-1, too.
    if (!rc && debug < 0 && r->reply.status == MHD_HTTP_OK) {
        r->reply.type = TYPE_TEXT;
        r->reply.disposition[0] = '\0';
    }
    pprof_free(p);
}
