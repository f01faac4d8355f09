// SPDX-License-Identifier: MIT
//
// The pages of a profile as views of a document. See profiles.h.

#include "viewer/views/profiles_internal.h"

#include "viewer/bindings.h"
#include "viewer/document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void profiles_free(struct profiles *p)
{
    if (p)
        profiles_finish(p);
    free(p);
}

// What the command line asks for. 0 or -errno with d->error.
static int take_options(struct profiles *p, struct document *d)
{
    struct fscope_error err = {0};
    char text[4096];
    int rc = 0;
    for (int i = 0; d->refine && i < REFINE_KINDS && !rc; i++) {
        if (!d->refine[i])
            continue;
        snprintf(text, sizeof text, "%s=%s", refine_names[i], d->refine[i]);
        rc = profiles_refine(p, text, &err);
    }
    if (d->search)
        flame_find(&p->flame, d->search);
    if (!rc && d->function && !profiles_choose(p, d->function))
        rc = error_set(&err, -EINVAL, 0, "there is no function \"%.200s\" in it", d->function);
    if (rc)
        snprintf(d->error, sizeof d->error, "%s", err.text);
    return rc;
}

// A document's profile may be replaced, by another part of a trace: then all begins anew.
static int need(struct document *d)
{
    if (d->profiles && d->profiles->first == d->profile)
        return 0;
    profiles_free(d->profiles);
    d->profiles = calloc(1, sizeof *d->profiles);
    if (!d->profiles)
        return -ENOMEM;
    int rc = profiles_init(d->profiles, d->file, d->profile, d->inverted, d->source_path);
    return rc ? rc : take_options(d->profiles, d);
}

static int open_page(void **state, struct document *d)
{
    *state = d;
    return need(d);
}

static int open_flame(void **state, struct document *d)
{
    int rc = open_page(state, d);
    if (!rc)
        d->profiles->upward = d->profiles->flame.upward = true;
    return rc;
}

static void close_page(void *state)
{
    (void)state; // the document's
}

static void frame(struct document *d, struct ui *u, struct rect r, int page)
{
    if (need(d) || d->profiles->failed) {
        d->failed = true;
        return;
    }
    if (d->profiles->page != page)
        profiles_show(d->profiles, page);
    profiles_frame(d->profiles, u, r);
    d->failed |= d->profiles->failed;
}

// One of these rows and the function that it needs.
#define PAGE(id_, name_, digit_, page_, contexts_)                                                 \
    static void frame_##id_(void *state, struct document *d, struct ui *u, struct rect r)          \
    {                                                                                              \
        (void)state;                                                                               \
        frame(d, u, r, page_);                                                                     \
    }                                                                                              \
    const struct view view_##id_ = {                                                               \
        .id = #id_,                                                                                \
        .name = name_,                                                                             \
        .digit = digit_,                                                                           \
        .shows = VIEW_PROFILE,                                                                     \
        .contexts = CONTEXT_PROFILE | (contexts_),                                                 \
        .open = open_page,                                                                         \
        .frame = frame_##id_,                                                                      \
        .close = close_page,                                                                       \
    }

PAGE(icicle, "Flame graph", 2, PROFILES_FLAME, CONTEXT_FLAME);
PAGE(sandwich, "Sandwich", 3, PROFILES_SANDWICH, CONTEXT_FLAME);
PAGE(top, "Top", 4, PROFILES_TOP, CONTEXT_TABLE);
PAGE(tree, "Call tree", 5, PROFILES_TREE, CONTEXT_TABLE);
PAGE(source, "Source", 6, PROFILES_SOURCE, CONTEXT_TABLE | CONTEXT_SOURCE);

// Another shape of the icicle: root at the bottom.
const struct view view_flame = {
    .id = "flame",
    .shows = VIEW_PROFILE,
    .contexts = CONTEXT_FLAME | CONTEXT_PROFILE,
    .open = open_flame,
    .frame = frame_icicle,
    .close = close_page,
};
