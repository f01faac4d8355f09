// SPDX-License-Identifier: MIT
//
// Filters by name: which samples stay and which of their frames, as google/pprof has it.
//
// Invariant: locations lose lines and samples lose locations by moving a pointer or shortening a
// count; tables keep their entries, so that ids stay valid.

#include "analysis/filter.h"
#include "analysis/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// What a filter found about each location, by id.
enum { SEEN_FOCUS = 1, SEEN_IGNORE = 2, HIDDEN = 4, PRUNE = 8, PRUNE_BENEATH = 16 };

bool filter_given(const char *pattern)
{
    return pattern && *pattern;
}

void filter_warn(const struct report_options *o, bool matched, const char *text)
{
    if (!matched && o->warn)
        o->warn(o->warn_arg, text);
}

static bool line_matches(const struct pprof_line *l, struct regex *re)
{
    return regex_match(re, l->function->name) || regex_match(re, l->function->filename);
}

static bool mapping_matches(const struct pprof_location *l, struct regex *re)
{
    return l->mapping && regex_match(re, l->mapping->file);
}

static bool location_matches(const struct pprof_location *l, struct regex *re)
{
    for (uint32_t i = 0; i < l->line_count; i++) {
        if (line_matches(&l->lines[i], re))
            return true;
    }
    return mapping_matches(l, re);
}

// Keeps the lines for which matching equals keep, in place (the array is this location's own).
static void keep_lines(struct pprof_location *l, struct regex *re, bool keep)
{
    uint32_t n = 0;
    if (mapping_matches(l, re)) {
        if (!keep)
            l->line_count = 0;
        return;
    }
    for (uint32_t i = 0; i < l->line_count; i++) {
        if (line_matches(&l->lines[i], re) == keep)
            l->lines[n++] = l->lines[i];
    }
    l->line_count = n;
}

static bool stays(const struct pprof_sample *s, const uint8_t *marks)
{
    bool focused = false;
    for (uint32_t i = 0; i < s->location_count; i++) {
        uint8_t m = marks[s->locations[i]->id];
        if (m & SEEN_IGNORE)
            return false;
        focused |= (m & SEEN_FOCUS) != 0;
    }
    return focused;
}

static void sift_by_name(struct pprof_profile *p, const uint8_t *marks, bool any_hidden)
{
    size_t n = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        if (!stays(s, marks))
            continue;
        if (any_hidden) {
            uint32_t left = 0;
            for (uint32_t j = 0; j < s->location_count; j++) {
                if (!(marks[s->locations[j]->id] & HIDDEN))
                    s->locations[left++] = s->locations[j];
            }
            s->location_count = left;
            if (!left)
                continue;
        }
        p->samples[n++] = s;
    }
    p->sample_count = n;
}

static void by_name(struct pprof_profile *p, const struct report_options *o, struct regex **re,
                    uint8_t *marks)
{
    struct regex *focus = re[0], *ignore = re[1], *hide = re[2], *show = re[3];
    bool fm = false, im = false, hm = false, sm = false, any_hidden = false;
    if (!focus && !ignore && !hide && !show)
        return;
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        if (ignore && location_matches(l, ignore)) {
            im = true;
            marks[l->id] |= SEEN_IGNORE;
        } else if (!focus || location_matches(l, focus)) {
            fm = true;
            marks[l->id] |= SEEN_FOCUS;
        }
        if (hide && location_matches(l, hide)) {
            hm = true;
            keep_lines(l, hide, false);
            if (!l->line_count)
                marks[l->id] |= HIDDEN;
        }
        if (show) {
            keep_lines(l, show, true);
            if (!l->line_count)
                marks[l->id] |= HIDDEN;
            else
                sm = true;
        }
        any_hidden |= (marks[l->id] & HIDDEN) != 0;
    }
    sift_by_name(p, marks, any_hidden);
    filter_warn(o, !focus || fm, "the focus expression matched no samples");
    filter_warn(o, !ignore || im, "the ignore expression matched no samples");
    filter_warn(o, !hide || hm, "the hide expression matched no samples");
    filter_warn(o, !show || sm, "the show expression matched no samples");
}

// Drops what is above (nearer to the root than) the highest frame that matches.
static void show_from(struct pprof_profile *p, const struct report_options *o, struct regex *re,
                      uint8_t *marks)
{
    bool matched = false;
    size_t n = 0;
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        bool hit = mapping_matches(l, re);
        for (uint32_t j = l->line_count; j > 0 && !hit; j--) {
            if (line_matches(&l->lines[j - 1], re)) {
                l->line_count = j;
                hit = true;
            }
        }
        marks[l->id] = hit;
        matched |= hit;
    }
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        while (s->location_count && !marks[s->locations[s->location_count - 1]->id])
            s->location_count--;
        if (s->location_count)
            p->samples[n++] = s;
    }
    p->sample_count = n;
    filter_warn(o, matched, "the show_from expression matched no samples");
}

// A function's name without its arguments, as drop_frames and prune_from see it. Returns malloc'd.
static char *simple_name(const char *name)
{
    static const char *const reserved[] = {"(anonymous namespace)", "operator()"};
    if (name[0] == '.')
        name++;
    const char *p = name, *cut = NULL;
    while (*p && !cut) {
        size_t skip = 0;
        for (size_t i = 0; i < 2; i++) {
            if (!strncmp(p, reserved[i], strlen(reserved[i])))
                skip = strlen(reserved[i]);
        }
        if (skip)
            p += skip;
        else if (*p == '(')
            cut = p;
        else
            p++;
    }
    return strndup(name, cut ? (size_t)(cut - name) : strlen(name));
}

static bool simple_match(const struct pprof_line *l, struct regex *drop, struct regex *keep)
{
    if (!l->function->name[0])
        return false;
    char *name = simple_name(l->function->name);
    bool hit = name && regex_match(drop, name) && !(keep && regex_match(keep, name));
    free(name);
    return hit;
}

// Drops the frames below (nearer to the leaf than) the lowest one that matches.
static void prune_from(struct pprof_profile *p, struct regex *re, uint8_t *marks)
{
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        marks[l->id] = 0;
        for (uint32_t j = 0; j < l->line_count; j++) {
            if (simple_match(&l->lines[j], re, NULL)) {
                l->lines += j;
                l->line_count -= j;
                marks[l->id] = PRUNE_BENEATH;
                break;
            }
        }
    }
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        for (uint32_t j = 0; j < s->location_count; j++) {
            if (marks[s->locations[j]->id]) {
                s->locations += j;
                s->location_count -= j;
                break;
            }
        }
    }
}

int report_filter(struct pprof_profile *p, const struct report_options *o, struct fscope_error *err)
{
    static const char *const names[] = {"focus", "ignore",    "hide",
                                        "show",  "show_from", "prune_from"};
    const char *const patterns[] = {o->focus, o->ignore,    o->hide,
                                    o->show,  o->show_from, o->prune_from};
    struct regex *re[6] = {0};
    int rc = -ENOMEM;
    uint8_t *marks = calloc(p->location_count + 1, 1);
    if (!marks) {
        error_set(err, rc, 0, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < 6; i++) {
        if (filter_given(patterns[i]) && (rc = regex_compile(&re[i], names[i], patterns[i], err)))
            goto done;
    }
    by_name(p, o, re, marks);
    if (re[4])
        show_from(p, o, re[4], marks);
    rc = filter_by_tag(p, o, err);
    if (!rc && re[5])
        prune_from(p, re[5], marks);
done:
    for (size_t i = 0; i < 6; i++)
        regex_free(re[i]);
    free(marks);
    return rc;
}

// Marks the locations that drop_frames names and cuts their inlined part.
static void mark_uninteresting(struct pprof_profile *p, struct regex *drop, struct regex *keep,
                               uint8_t *marks)
{
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        uint32_t j = l->line_count;
        while (j > 0 && !simple_match(&l->lines[j - 1], drop, keep))
            j--;
        if (!j)
            continue;
        marks[l->id] = PRUNE_BENEATH;
        if (j == l->line_count) {
            marks[l->id] |= PRUNE;
        } else {
            l->lines += j;
            l->line_count -= j;
        }
    }
}

int report_drop_frames(struct pprof_profile *p, struct fscope_error *err)
{
    struct regex *drop = NULL, *keep = NULL;
    char pattern[4096];
    if (!p->drop_frames[0])
        return 0;
    int rc = -ENOMEM;
    uint8_t *marks = calloc(p->location_count + 1, 1);
    if (!marks) {
        error_set(err, rc, 0, "out of memory");
        goto done;
    }
    snprintf(pattern, sizeof pattern, "^(%s)$", p->drop_frames);
    if ((rc = regex_compile(&drop, "the profile's drop_frames", pattern, err)))
        goto done;
    snprintf(pattern, sizeof pattern, "^(%s)$", p->keep_frames);
    if (p->keep_frames[0] && (rc = regex_compile(&keep, "the profile's keep_frames", pattern, err)))
        goto done;
    mark_uninteresting(p, drop, keep, marks);
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        bool user = false; // nothing is cut before the first frame of the program itself
        for (uint32_t j = s->location_count; j > 0; j--) {
            uint8_t m = marks[s->locations[j - 1]->id];
            if (!m) {
                user = true;
            } else if (user) {
                uint32_t first = m & PRUNE ? j : j - 1;
                s->locations += first;
                s->location_count -= first;
                break;
            }
        }
    }
done:
    regex_free(drop);
    regex_free(keep);
    free(marks);
    return rc;
}
