// SPDX-License-Identifier: MIT
//
// What the pages show and how that changes; profiles_frame.c draws. See profiles.h.

#include "viewer/views/profiles.h"

#include "viewer/views/profiles_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void finish_views(struct profiles *p)
{
    flame_finish(&p->flame);
    sandwich_finish(&p->sandwich);
    top_finish(&p->top);
    tree_finish(&p->tree);
    source_finish(&p->source);
    profile_lines_free(p->lines);
    p->lines = NULL;
}

// The views on p->model, which is new.
static int init_views(struct profiles *p)
{
    char search[sizeof p->flame.search];
    memcpy(search, p->flame.search, sizeof search);
    finish_views(p);
    int rc = flame_init(&p->flame, p->model);
    if (!rc)
        rc = tree_init(&p->tree, p->model);
    if (rc)
        return rc;
    p->flame.upward = p->upward;
    flame_find(&p->flame, search);
    sandwich_init(&p->sandwich, p->model);
    return 0;
}

// The functions and what needs them. Without memory there are none, and a message.
static bool need_functions(struct profiles *p)
{
    struct fscope_error err = {0};
    if (p->top.model)
        return true;
    if (profile_model_functions(p->model, &err) || top_init(&p->top, p->model)) {
        snprintf(p->message, sizeof p->message, "out of memory");
        p->failed = true;
        return false;
    }
    p->top.table.sort = p->sort;
    p->top.table.reversed = p->reversed;
    top_sort(&p->top);
    return true;
}

// What has the same in both of two profiles is in the flame graph alone: the others have what changed, as pprof's.
static void tell_unchanged(struct profiles *p)
{
    if ((p->page == PROFILES_TOP || p->page == PROFILES_SANDWICH) && p->function &&
        !profile_function(p->model, p->function))
        snprintf(p->message, sizeof p->message,
                 "%.200s has as much in both: only what changed is here", p->function);
}

// The views of the page follow the chosen function.
void profiles_sync(struct profiles *p)
{
    struct fscope_error err = {0};
    if ((p->function || p->page != PROFILES_FLAME) && !need_functions(p))
        return;
    bool is_of_one = p->page == PROFILES_SANDWICH || p->page == PROFILES_SOURCE;
    const char *first = is_of_one && !p->function ? top_chosen(&p->top) : NULL;
    if (first) // the top row of the table: there has to be one
        p->function = strdup(first);
    tell_unchanged(p);
    switch (p->page) {
    case PROFILES_FLAME: flame_choose(&p->flame, p->function); break;
    case PROFILES_TOP: top_choose(&p->top, p->function); break;
    case PROFILES_TREE: tree_choose(&p->tree, p->function); break;
    case PROFILES_SANDWICH:
        if (p->sandwich.function && p->function && !strcmp(p->sandwich.function, p->function))
            break;
        if (sandwich_set(&p->sandwich, p->function, &err))
            snprintf(p->message, sizeof p->message, "%s", err.text);
        break;
    default:
        if (p->source.function && p->function && !strcmp(p->source.function, p->function))
            break;
        profiles_load_lines(p);
        if (p->lines && p->function && source_set(&p->source, p->function, 0))
            snprintf(p->message, sizeof p->message, "out of memory");
    }
}

void profiles_load_lines(struct profiles *p)
{
    struct arena strings = {0};
    struct fscope_error err = {0};
    struct profile_look look;
    if (p->lines || !p->file)
        return;
    int rc = refine_look(refine_now(&p->refine), &strings, &look);
    if (rc)
        error_set(&err, rc, 0, "out of memory");
    else
        rc = profile_lines_open(&p->lines, p->file, &look, &err);
    arena_finish(&strings);
    if (rc)
        snprintf(p->message, sizeof p->message, "%s", err.text);
    else
        source_init(&p->source, p->lines, p->source_path);
}

// Whether the state in force is that in which the file was opened.
static bool is_first(const struct profiles *p)
{
    const struct refine_state *now = refine_now(&p->refine);
    return !now->count && now->inverted == p->inverted &&
           !strcmp(now->sample_type, p->first->report.type);
}

// Makes the model of the state in force. On failure everything is as before but the state.
static int apply(struct profiles *p, struct fscope_error *err)
{
    struct arena strings = {0};
    struct profile_look look;
    struct profile_model *m = NULL;
    int rc = refine_look(refine_now(&p->refine), &strings, &look);
    if (rc)
        error_set(err, rc, 0, "out of memory");
    else if (is_first(p))
        m = p->first;
    else if (!p->file)
        rc = error_set(err, -ENOTSUP, 0, "only a profile that is a file of its own can be refined");
    else
        rc = profile_model_look(&m, p->file, &look, err);
    arena_finish(&strings);
    if (rc)
        return rc;
    struct profile_model *old = p->model;
    p->model = m;
    rc = init_views(p);
    if (old != p->first)
        profile_model_free(old);
    p->failed = rc != 0;
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    snprintf(p->message, sizeof p->message, "%s", m->warning);
    if (p->function && need_functions(p) && !profile_function(m, p->function)) {
        free(p->function);
        p->function = NULL;
    }
    profiles_sync(p);
    return 0;
}

int profiles_init(struct profiles *p, const struct profile_file *file, struct profile_model *first,
                  bool inverted, const char *source_path)
{
    memset(p, 0, sizeof *p);
    p->file = file;
    p->first = p->model = first;
    p->inverted = inverted;
    p->source_path = source_path ? source_path : ".";
    refine_init(&p->refine, first->report.type, inverted);
    snprintf(p->message, sizeof p->message, "%s", first->warning);
    return init_views(p);
}

void profiles_finish(struct profiles *p)
{
    finish_views(p);
    refine_finish(&p->refine);
    if (p->model != p->first)
        profile_model_free(p->model);
    free(p->function);
    memset(p, 0, sizeof *p);
}

int profiles_push(struct profiles *p, const struct refine_state *s, struct fscope_error *err)
{
    const struct refine before = p->refine; // for what a push takes away
    refine_push(&p->refine, s);
    int rc = apply(p, err);
    if (!rc)
        return 0;
    struct arena patterns = p->refine.arena;
    p->refine = before;
    p->refine.arena = patterns;
    snprintf(p->message, sizeof p->message, "%s", err->text);
    return rc;
}

void profiles_undo(struct profiles *p, int by)
{
    struct fscope_error err = {0};
    if (!refine_move(&p->refine, by))
        return;
    if (apply(p, &err)) {
        refine_move(&p->refine, -by);
        snprintf(p->message, sizeof p->message, "%s", err.text);
    }
}

int profiles_refine(struct profiles *p, const char *text, struct fscope_error *err)
{
    struct refine_state next = *refine_now(&p->refine);
    const char *wrong = refine_parse(&p->refine, &next, text);
    if (!wrong)
        return profiles_push(p, &next, err);
    snprintf(p->message, sizeof p->message, "%s", wrong);
    return error_set(err, -EINVAL, 0, "%s", wrong);
}

bool profiles_choose(struct profiles *p, const char *label)
{
    if (!need_functions(p) || !profile_function(p->model, label))
        return false;
    profiles_set_function(p, label);
    profiles_sync(p);
    return true;
}

void profiles_set_function(struct profiles *p, const char *label)
{
    if (!label || (p->function && !strcmp(p->function, label)))
        return;
    char *copy = strdup(label);
    if (!copy)
        return;
    free(p->function);
    p->function = copy;
    need_functions(p);
}

void profiles_show(struct profiles *p, int page)
{
    p->page = page;
    profiles_sync(p);
}
