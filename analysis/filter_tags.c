// SPDX-License-Identifier: MIT
//
// Filters by label, and labels as frames, as google/pprof has them: `re`, `key=re1,re2`, and for
// numbers `32kb`, `4mb:`, `:64kb`, `12kb:64mb`.

#include "analysis/filter.h"
#include "analysis/regex.h"
#include "analysis/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_REGEX_MAX = 16, TAG_KEY_MAX = 256 };

struct tag_filter {
    bool given, is_range;
    char key[TAG_KEY_MAX]; // "": any
    struct regex *re[TAG_REGEX_MAX];
    size_t re_count;
    char unit[64];
    double low, high;
};

const char *report_label_unit(const struct pprof_profile *p, const char *key)
{
    bool seen = false;
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        for (uint32_t j = 0; j < s->label_count; j++) {
            if (strcmp(s->labels[j].key, key) != 0 || s->labels[j].str[0])
                continue;
            seen = true;
            if (s->labels[j].num_unit[0])
                return s->labels[j].num_unit;
        }
    }
    if (seen && (!strcmp(key, "alignment") || !strcmp(key, "request")))
        return "bytes";
    return key;
}

// "[+-]digits letters" at p. Returns its end, or NULL.
static const char *parse_amount(const char *p, int64_t *value, char *unit, size_t size)
{
    const char *digits = p + (*p == '+' || *p == '-');
    if (!isdigit((unsigned char)*digits))
        return NULL;
    char *end;
    errno = 0;
    *value = strtoll(p, &end, 10);
    if (errno)
        return NULL;
    size_t n = 0;
    while (isalpha((unsigned char)end[n]))
        n++;
    if (n >= size)
        return NULL;
    memcpy(unit, end, n);
    unit[n] = 0;
    return end + n;
}

static bool parse_range(struct tag_filter *f, const char *text)
{
    const char *p = text, *unit, *unit2;
    char first[64], second[64];
    int64_t v;
    bool open_low = *p == ':';
    p = parse_amount(p + open_low, &v, first, sizeof first);
    if (!p)
        return false;
    double scaled = units_scale(v, first, first, &unit);
    snprintf(f->unit, sizeof f->unit, "%s", unit);
    f->low = open_low ? -1e300 : scaled;
    f->high = scaled;
    if (!*p)
        return true;
    if (*p++ != ':' || open_low)
        return false;
    f->high = 1e300;
    if (!*p)
        return true;
    p = parse_amount(p, &v, second, sizeof second);
    if (!p || *p)
        return false;
    f->high = units_scale(v, second, f->unit, &unit2);
    return !strcmp(f->unit, unit2);
}

static int compile_tag(struct tag_filter *f, const char *what, const char *text,
                       const struct report_options *o, struct fscope_error *err)
{
    char warning[256];
    if (!filter_given(text))
        return 0;
    f->given = true;
    const char *eq = strchr(text, '=');
    if (eq) {
        if (eq - text >= TAG_KEY_MAX)
            return error_set(err, -EINVAL, 0, "%s: the key is too long", what);
        memcpy(f->key, text, (size_t)(eq - text));
        text = eq + 1;
    }
    if (parse_range(f, text)) {
        f->is_range = true;
        snprintf(warning, sizeof warning,
                 "%s: \"%.100s\" taken as a range, not as a regular expression", what, text);
        filter_warn(o, false, warning);
        return 0;
    }
    while (f->re_count < TAG_REGEX_MAX) {
        size_t n = strcspn(text, ",");
        char *one = strndup(text, n);
        if (!one)
            return error_set(err, -ENOMEM, 0, "out of memory");
        int rc = regex_compile(&f->re[f->re_count], what, one, err);
        free(one);
        if (rc)
            return rc;
        f->re_count++;
        if (!text[n])
            return 0;
        text += n + 1;
    }
    return error_set(err, -EINVAL, 0, "%s: more than %d expressions", what, TAG_REGEX_MAX);
}

static bool range_matches(const struct tag_filter *f, const struct pprof_profile *p,
                          const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < s->label_count; i++) {
        const struct pprof_label *l = &s->labels[i];
        const char *unit;
        if (l->str[0] || (f->key[0] && strcmp(f->key, l->key) != 0))
            continue;
        const char *from = l->num_unit[0] ? l->num_unit : report_label_unit(p, l->key);
        double v = units_scale(l->num, from, f->unit, &unit);
        if (!strcmp(unit, f->unit) && v >= f->low && v <= f->high)
            return true;
    }
    return false;
}

// With a key any of the expressions may match its value; without one, each must match some
// "key:value" of the sample.
static bool one_matches(const struct tag_filter *f, struct regex *re, const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < s->label_count; i++) {
        const struct pprof_label *l = &s->labels[i];
        char *pair = NULL;
        if (!l->str[0] || (f->key[0] && strcmp(f->key, l->key) != 0))
            continue;
        if (!f->key[0] && asprintf(&pair, "%s:%s", l->key, l->str) < 0)
            return false;
        bool hit = regex_match(re, pair ? pair : l->str);
        free(pair);
        if (hit)
            return true;
    }
    return false;
}

static bool tag_matches(const struct tag_filter *f, const struct pprof_profile *p,
                        const struct pprof_sample *s)
{
    if (f->is_range)
        return range_matches(f, p, s);
    for (size_t i = 0; i < f->re_count; i++) {
        bool hit = one_matches(f, f->re[i], s);
        if (f->key[0] && hit)
            return true;
        if (!f->key[0] && !hit)
            return false;
    }
    return !f->key[0];
}

static void sift_by_tag(struct pprof_profile *p, const struct report_options *o,
                        const struct tag_filter *focus, const struct tag_filter *ignore)
{
    bool fm = false, im = false;
    size_t n = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        bool focused = !focus->given || tag_matches(focus, p, p->samples[i]);
        bool ignored = ignore->given && tag_matches(ignore, p, p->samples[i]);
        fm |= focused;
        im |= ignored;
        if (focused && !ignored)
            p->samples[n++] = p->samples[i];
    }
    p->sample_count = n;
    filter_warn(o, !focus->given || fm, "the tagfocus expression matched no samples");
    filter_warn(o, !ignore->given || im, "the tagignore expression matched no samples");
}

static void keep_tags(struct pprof_profile *p, struct regex *show, struct regex *hide)
{
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        uint32_t n = 0;
        for (uint32_t j = 0; j < s->label_count; j++) {
            const char *key = s->labels[j].key;
            if ((!show || regex_match(show, key)) && !(hide && regex_match(hide, key)))
                s->labels[n++] = s->labels[j];
        }
        s->label_count = n;
    }
}

int filter_by_tag(struct pprof_profile *p, const struct report_options *o, struct fscope_error *err)
{
    struct tag_filter focus = {0}, ignore = {0};
    struct regex *show = NULL, *hide = NULL;
    int rc = compile_tag(&focus, "tagfocus", o->tagfocus, o, err);
    if (!rc)
        rc = compile_tag(&ignore, "tagignore", o->tagignore, o, err);
    if (!rc && filter_given(o->tagshow))
        rc = regex_compile(&show, "tagshow", o->tagshow, err);
    if (!rc && filter_given(o->taghide))
        rc = regex_compile(&hide, "taghide", o->taghide, err);
    if (!rc && (focus.given || ignore.given))
        sift_by_tag(p, o, &focus, &ignore);
    if (!rc && (show || hide))
        keep_tags(p, show, hide);
    for (size_t i = 0; i < TAG_REGEX_MAX; i++) {
        regex_free(focus.re[i]);
        regex_free(ignore.re[i]);
    }
    regex_free(show);
    regex_free(hide);
    return rc;
}

// The frame that stands for one label key of one sample: its values, joined by commas.
static struct pprof_location *tag_location(struct pprof_profile *p, const struct pprof_sample *s,
                                           const char *key, const char *unit, bool *matched)
{
    char text[1024] = "", number[UNITS_LABEL_MAX];
    size_t at = 0;
    for (int numeric = 0; numeric < 2; numeric++) {
        for (uint32_t i = 0; i < s->label_count; i++) {
            const struct pprof_label *l = &s->labels[i];
            if (strcmp(l->key, key) != 0 || (l->str[0] == 0) != numeric)
                continue;
            const char *value = numeric ? units_label(number, sizeof number, l->num, l->num_unit,
                                                      l->num_unit[0] ? unit : "")
                                        : l->str;
            int n = snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", value);
            at += (size_t)n < sizeof text - at ? (size_t)n : sizeof text - at - 1;
            *matched = true;
        }
    }
    struct pprof_line line = {.function = pprof_intern_function(p, text, "", key, 0)};
    return line.function ? pprof_intern_location(p, NULL, 0, &line, 1) : NULL;
}

// Splits keys at commas, last one first: the first key is to be the outermost frame.
static size_t split_keys(char *keys, const char **out, size_t max)
{
    size_t n = 0;
    char *save = NULL;
    for (char *k = strtok_r(keys, ",", &save); k && n < max; k = strtok_r(NULL, ",", &save))
        out[n++] = k;
    for (size_t i = 0; i < n / 2; i++) {
        const char *t = out[i];
        out[i] = out[n - 1 - i];
        out[n - 1 - i] = t;
    }
    return n;
}

static int add_tag_frames(struct pprof_profile *p, const struct report_options *o,
                          const char **leafs, size_t leaf_count, const char **roots,
                          size_t root_count)
{
    bool rm = !root_count, lm = !leaf_count;
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        size_t n = 0, total = s->location_count + leaf_count + root_count;
        struct pprof_location **locs = arena_array(&p->arena, total, sizeof *locs);
        if (!locs)
            return -ENOMEM;
        for (size_t j = 0; j < leaf_count; j++)
            locs[n++] = tag_location(p, s, leafs[j], o->unit, &lm);
        for (uint32_t j = 0; j < s->location_count; j++)
            locs[n++] = s->locations[j];
        for (size_t j = 0; j < root_count; j++)
            locs[n++] = tag_location(p, s, roots[j], o->unit, &rm);
        for (size_t j = 0; j < n; j++) {
            if (!locs[j])
                return -ENOMEM;
        }
        s->locations = locs;
        s->location_count = (uint32_t)n;
    }
    filter_warn(o, rm, "no sample has a label that tagroot names");
    filter_warn(o, lm, "no sample has a label that tagleaf names");
    return 0;
}

int report_tag_nodes(struct pprof_profile *p, const struct report_options *o,
                     struct fscope_error *err)
{
    enum { KEYS_MAX = 32 };
    const char *roots[KEYS_MAX], *leafs[KEYS_MAX];
    if (!filter_given(o->tagroot) && !filter_given(o->tagleaf))
        return 0;
    int rc = -ENOMEM;
    char *root = strdup(o->tagroot ? o->tagroot : ""), *leaf = strdup(o->tagleaf ? o->tagleaf : "");
    if (root && leaf) {
        size_t root_count = split_keys(root, roots, KEYS_MAX);
        size_t leaf_count = split_keys(leaf, leafs, KEYS_MAX);
        rc = add_tag_frames(p, o, leafs, leaf_count, roots, root_count);
    }
    free(root);
    free(leaf);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}
