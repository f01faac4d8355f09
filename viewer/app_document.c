// SPDX-License-Identifier: MIT
//
// Documents: read, with the views that they have. See document.h.

#include "viewer/app_internal.h"

#include "viewer/http.h"
#include "viewer/views/profiles.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_SPANS = 200000 };

unsigned document_kind(const struct document *d)
{
    return (d->trace ? VIEW_TRACE : 0u) | (d->profile ? VIEW_PROFILE : 0u);
}

unsigned document_digits(const struct document *d)
{
    unsigned digits = 0;
    for (int i = 0; views[i]; i++)
        if (views[i]->shows & document_kind(d) && views[i]->digit)
            digits |= 1u << views[i]->digit;
    return digits;
}

int document_show(struct document *d, int view)
{
    if (view < 0 || !(views[view]->shows & document_kind(d)))
        return -ENOENT;
    int rc = d->states[view] ? 0 : views[view]->open(&d->states[view], d);
    if (!rc)
        d->view = view;
    return rc;
}

static void name_trace(struct document *d)
{
    const char *slash = strrchr(d->path, '/');
    const char *name = slash && slash[1] && !http_is_url(d->path) ? slash + 1 : d->path;
    snprintf(d->title, sizeof d->title, "%.280s", name);
}

static void take(struct document *d, struct loaded *l)
{
    d->trace = l->trace;
    d->kernel = l->kernel;
    d->profile = l->profile;
    d->file = l->file;
    if (d->profile)
        snprintf(d->title, sizeof d->title, "%.280s", d->profile->title);
    else
        name_trace(d);
    snprintf(d->missing, sizeof d->missing, "%s", l->missing);
}

static void *free_there(void *model)
{
    trace_model_free(model);
    return NULL;
}

// A large one's memory takes a frame's time to give back, and more: 100 ms a GB.
static void free_trace(struct trace_model *m)
{
    pthread_t thread;
    if (m && m->spans->span_count >= MANY_SPANS && !pthread_create(&thread, NULL, free_there, m))
        pthread_detach(thread);
    else
        trace_model_free(m);
}

// More of the trace than there was, or all of it, for the views that are open. The old one's end.
static int more_trace(struct document *d, struct loaded *l)
{
    struct trace_model *old = d->trace;
    int rc = 0;
    d->trace = l->trace;
    d->kernel = l->kernel; // comes last: there was none
    for (int i = 0; views[i]; i++) {
        void *state = d->states[i];
        d->states[i] = NULL;
        if (state && !rc) {
            rc = views[i]->open(&d->states[i], d);
            if (!rc && views[i]->carry)
                views[i]->carry(d->states[i], state);
        }
        views[i]->close(state);
    }
    free_trace(old);
    return rc;
}

// The same of a profile. What was chosen stays; where a flame graph was gone into does not.
static int more_profile(struct document *d, struct loaded *l)
{
    bool was_open[VIEWS_MAX] = {false};
    int rc = 0;
    char *function = d->profiles && d->profiles->function ? strdup(d->profiles->function) : NULL;
    for (int i = 0; views[i]; i++) {
        was_open[i] = d->states[i];
        views[i]->close(d->states[i]);
        d->states[i] = NULL;
    }
    profiles_free(d->profiles);
    profile_model_free(d->profile);
    d->profiles = NULL;
    d->profile = l->profile;
    d->file = l->file;
    for (int i = 0; views[i]; i++)
        if (was_open[i] && !rc)
            rc = views[i]->open(&d->states[i], d);
    if (d->profiles && function)
        profiles_choose(d->profiles, function);
    free(function);
    return rc;
}

static int show_first(struct document *d, const char *id)
{
    int rc = id ? document_show(d, view_find(id)) : -ENOENT;
    for (int i = 0; views[i] && rc == -ENOENT; i++)
        rc = document_show(d, i);
    return rc;
}

// Why its view cannot be opened: what the view has said, of the file.
static void say_why(const struct document *d, int rc, struct fscope_error *err)
{
    const char *why = *d->error ? d->error : strerror(-rc);
    size_t n = strlen(d->path);
    if (!strncmp(why, d->path, n) && why[n] == ':')
        error_set(err, rc, 0, "%s", why);
    else
        error_set(err, rc, 0, "%s: %s", d->path, why);
}

int document_open(struct document **out, const struct app_options *o, const char *path,
                  const char *kernel, struct fscope_error *err)
{
    struct load_options l = {.path = path,
                             .kernel = kernel,
                             .sample_type = o->sample_type,
                             .diff_base = o->diff_base,
                             .inverted = o->inverted,
                             .part_ms = o->part_ms,
                             .wake = o->wake,
                             .context = o->context};
    struct loaded loaded;
    struct document *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d || !(d->path = strdup(path))) {
        free(d);
        return error_set(err, -ENOMEM, 0, "out of memory");
    }
    d->fiber = UINT32_MAX;
    d->sample_type = o->sample_type;
    d->inverted = o->inverted;
    d->shown = o->shown;
    d->search = o->search;
    d->instances = o->task ? o->task : o->region;
    d->are_tasks = o->task;
    d->wake = o->wake;
    d->wake_context = o->context;
    d->function = o->function;
    d->refine = o->refine;
    d->source_path = o->source_path;
    snprintf(d->title, sizeof d->title, "%.280s", path);
    int rc = 0;
    if (!o->wake) {
        rc = load_now(&l, &loaded, err);
        if (!rc) {
            take(d, &loaded);
            rc = show_first(d, o->view);
            if (rc)
                say_why(d, rc, err);
        }
    } else if ((rc = load_start(&d->loading, &l)) != 0) {
        error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
    }
    if (rc)
        document_close(d);
    else
        *out = d;
    return rc;
}

static void drop_part(struct document *d)
{
    for (int i = 0; views[i]; i++) {
        views[i]->close(d->states[i]);
        d->states[i] = NULL;
    }
    profiles_free(d->profiles);
    profile_model_free(d->profile);
    profile_file_free(d->file);
    kernel_model_free(d->kernel);
    trace_model_free(d->trace);
    d->kernel = NULL;
    d->trace = NULL;
    d->profile = NULL;
    d->profiles = NULL;
    d->file = NULL;
}

// Cannot go on: what there was stays, if there was something.
static void fail(struct document *d, const struct fscope_error *err)
{
    bool has_part = document_kind(d) && d->states[d->view];
    if (has_part)
        snprintf(d->missing, sizeof d->missing, "%s", err->text);
    else
        snprintf(d->error, sizeof d->error, "%s", err->text);
    if (!has_part)
        drop_part(d);
}

static int more(struct document *d, struct loaded *l)
{
    return l->trace ? more_trace(d, l) : more_profile(d, l);
}

static void poll_part(struct document *d, const struct app_options *o)
{
    struct loaded part;
    if (!load_part(d->loading, &part))
        return;
    bool first = !document_kind(d);
    int rc = 0;
    if (first)
        take(d, &part);
    else
        rc = more(d, &part);
    if (first)
        rc = show_first(d, o->view);
    if (rc) { // the whole may do better
        drop_part(d);
        d->error[0] = 0;
    }
}

void document_poll(struct document *d, const struct app_options *o)
{
    struct load_progress p;
    struct loaded loaded;
    struct fscope_error err = {0};
    if (!d->loading)
        return;
    load_look(d->loading, &p);
    if (!p.done) {
        poll_part(d, o);
        return;
    }
    int rc = load_take(d->loading, &loaded, &err);
    bool had_part = document_kind(d);
    d->loading = NULL;
    if (!rc && had_part)
        rc = more(d, &loaded);
    if (!rc) {
        take(d, &loaded);
        if (!had_part)
            rc = show_first(d, o->view);
        if (rc)
            say_why(d, rc, &err);
    }
    if (rc)
        fail(d, &err);
}

void document_cancel(struct document *d)
{
    load_cancel(d->loading);
    d->loading = NULL;
    snprintf(d->missing, sizeof d->missing,
             "Reading was cancelled: this is the part that had been read.");
}

void document_close(struct document *d)
{
    if (!d)
        return;
    load_cancel(d->loading);
    for (int i = 0; views[i]; i++)
        views[i]->close(d->states[i]);
    kernel_model_free(d->kernel);
    trace_model_free(d->trace);
    profiles_free(d->profiles);
    profile_model_free(d->profile);
    profile_file_free(d->file);
    free(d->path);
    free(d);
}
