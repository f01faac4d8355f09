// SPDX-License-Identifier: MIT
//
// See refine.h.

#include "viewer/views/refine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const refine_names[REFINE_KINDS] = {"focus", "ignore", "hide", "show"};

void refine_init(struct refine *r, const char *sample_type, bool inverted)
{
    memset(r, 0, sizeof *r);
    r->states[0] = (struct refine_state){.sample_type = sample_type, .inverted = inverted};
    r->count = 1;
}

void refine_finish(struct refine *r)
{
    arena_finish(&r->arena);
    memset(r, 0, sizeof *r);
}

const struct refine_state *refine_now(const struct refine *r)
{
    return &r->states[r->at];
}

void refine_push(struct refine *r, const struct refine_state *s)
{
    const struct refine_state copy = *s; // it may be one of ours
    if (r->at + 1 == REFINE_STATES) {
        memmove(r->states, r->states + 1, sizeof r->states - sizeof r->states[0]);
        r->at--;
    }
    r->states[++r->at] = copy;
    r->count = r->at + 1;
}

void refine_drop(struct refine *r)
{
    if (r->at) {
        r->at--;
        r->count = r->at + 1;
    }
}

bool refine_move(struct refine *r, int by)
{
    if (r->at + by < 0 || r->at + by >= r->count)
        return false;
    r->at += by;
    return true;
}

const char *refine_add(struct refine *r, struct refine_state *s, int kind, const char *pattern)
{
    if (!*pattern)
        return "an expression is missing";
    if (s->count == REFINE_CHIPS)
        return "no more refinements fit; remove one";
    char *copy = arena_strdup(&r->arena, pattern);
    if (!copy)
        return "out of memory";
    s->chips[s->count++] = (struct refine_chip){.kind = (uint8_t)kind, .pattern = copy};
    return NULL;
}

const char *refine_parse(struct refine *r, struct refine_state *s, const char *text)
{
    for (int kind = 0; kind < REFINE_KINDS; kind++) {
        size_t n = strlen(refine_names[kind]);
        if (!strncmp(text, refine_names[kind], n) && text[n] == '=')
            return refine_add(r, s, kind, text + n + 1);
    }
    return refine_add(r, s, REFINE_FOCUS, text);
}

void refine_remove(struct refine_state *s, int chip)
{
    if (chip < 0 || chip >= s->count)
        return;
    s->count--;
    memmove(s->chips + chip, s->chips + chip + 1, (size_t)(s->count - chip) * sizeof s->chips[0]);
}

char *refine_quote(const char *name)
{
    char *out = malloc(2 * strlen(name) + 3), *at = out;
    if (!out)
        return NULL;
    *at++ = '^';
    for (; *name; name++) {
        if (strchr("\\.+*?()|[]{}^$", *name))
            *at++ = '\\';
        *at++ = *name;
    }
    *at++ = '$';
    *at = 0;
    return out;
}

// All of one kind, A|B; NULL if there are none or no memory is left, which *failed tells apart.
static const char *join(const struct refine_state *s, int kind, struct arena *into, bool *failed)
{
    size_t n = 0;
    for (int i = 0; i < s->count; i++)
        n += s->chips[i].kind == kind ? strlen(s->chips[i].pattern) + 1 : 0;
    if (!n)
        return NULL;
    char *out = arena_alloc(into, n), *at = out;
    *failed |= !out;
    for (int i = 0; out && i < s->count; i++) {
        if (s->chips[i].kind != kind)
            continue;
        if (at > out)
            *at++ = '|';
        at = stpcpy(at, s->chips[i].pattern);
    }
    return out;
}

int refine_look(const struct refine_state *s, struct arena *into, struct profile_look *out)
{
    bool failed = false;
    *out = (struct profile_look){.sample_type = s->sample_type,
                                 .inverted = s->inverted,
                                 .focus = join(s, REFINE_FOCUS, into, &failed),
                                 .ignore = join(s, REFINE_IGNORE, into, &failed),
                                 .hide = join(s, REFINE_HIDE, into, &failed),
                                 .show = join(s, REFINE_SHOW, into, &failed)};
    return failed ? -ENOMEM : 0;
}
