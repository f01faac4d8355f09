// SPDX-License-Identifier: MIT
//
// See made_profile.h.

#include "tests/unit/made_profile.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DEPTH_MAX = 32, TEXTS_MAX = 64 };

struct maker {
    struct pprof_profile *p;
    struct pprof_mapping *app, *libc;
    const char *texts[TEXTS_MAX]; // of the locations; the address follows from the place
    size_t text_count;
};

static struct pprof_line line_of(struct maker *m, char *frame)
{
    struct pprof_line l = {0};
    char *file = strchr(frame, '@'), *number = NULL;
    if (file) {
        *file++ = 0;
        number = strchr(file, ':');
    }
    if (number) {
        *number++ = 0;
        l.line = atoi(number);
    }
    l.function = pprof_intern_function(m->p, frame, frame, file, 0);
    assert_non_null(l.function);
    return l;
}

static struct pprof_location *location_of(struct maker *m, const char *text)
{
    struct pprof_line lines[DEPTH_MAX];
    uint32_t n = 0;
    size_t at = 0;
    const char *interned = pprof_string(m->p, text);
    while (at < m->text_count && m->texts[at] != interned)
        at++;
    assert_true(at < TEXTS_MAX);
    if (at == m->text_count)
        m->texts[m->text_count++] = interned;
    struct pprof_mapping *where = text[0] == '!' ? m->libc : m->app;
    char *copy = strdup(text + (text[0] == '!')), *save = NULL, *frames[DEPTH_MAX];
    for (char *f = strtok_r(copy, ">", &save); f && strcmp(f, "?"); f = strtok_r(NULL, ">", &save))
        frames[n++] = f;
    for (uint32_t i = 0; i < n; i++)
        lines[i] = line_of(m, frames[n - 1 - i]); // innermost first
    struct pprof_location *l = pprof_intern_location(m->p, where, where->start + at, lines, n);
    free(copy);
    assert_non_null(l);
    return l;
}

static uint32_t labels_of(char *text, struct pprof_label *labels)
{
    uint32_t n = 0;
    char *save = NULL;
    for (char *k = strtok_r(text, ",", &save); k; k = strtok_r(NULL, ",", &save)) {
        char *v = strchr(k, '=');
        assert_non_null(v);
        *v++ = 0;
        struct pprof_label *l = &labels[n++];
        *l = (struct pprof_label){.key = k, .str = v};
        if (v[0] == '#') {
            char *unit;
            l->str = NULL;
            l->num = strtoll(v + 1, &unit, 10);
            l->num_unit = unit + (*unit == ' ');
        }
    }
    return n;
}

struct pprof_profile *made_profile(const struct made *rows, size_t count)
{
    struct maker m = {.p = pprof_new()};
    assert_non_null(m.p);
    assert_int_equal(pprof_add_sample_type(m.p, "samples", "count"), 0);
    assert_int_equal(pprof_add_sample_type(m.p, "cpu", "nanoseconds"), 0);
    m.app = pprof_add_mapping(m.p, 0x400000, 0x500000, 0, "/BIN/APP", "");
    m.libc = pprof_add_mapping(m.p, 0x7f0000000000, 0x7f0000100000, 0, "/lib/libc.so", "");
    for (size_t i = 0; i < count; i++) {
        struct pprof_location *stack[DEPTH_MAX], *turned[DEPTH_MAX];
        struct pprof_label labels[DEPTH_MAX];
        uint32_t n = 0;
        char *copy = strdup(rows[i].stack), *save = NULL;
        char *label_text = strdup(rows[i].labels ? rows[i].labels : "");
        for (char *f = strtok_r(copy, ";", &save); f; f = strtok_r(NULL, ";", &save))
            stack[n++] = location_of(&m, f);
        for (uint32_t j = 0; j < n; j++)
            turned[j] = stack[n - 1 - j];
        uint32_t label_count = labels_of(label_text, labels);
        int64_t values[] = {rows[i].count, rows[i].value};
        assert_non_null(pprof_append_sample(m.p, turned, n, values, labels, label_count));
        free(copy);
        free(label_text);
    }
    assert_int_equal(pprof_check(m.p, NULL), 0);
    return m.p;
}

const char *made_samples(const struct pprof_profile *p)
{
    static char text[4096];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", i ? ", " : "");
        for (uint32_t j = s->location_count; j > 0; j--) {
            const struct pprof_location *l = s->locations[j - 1];
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s",
                                   j == s->location_count ? "" : ";", l->line_count ? "" : "?");
            for (uint32_t k = l->line_count; k > 0; k--)
                at +=
                    (size_t)snprintf(text + at, sizeof text - at, "%s%s",
                                     k == l->line_count ? "" : ">", l->lines[k - 1].function->name);
            assert_true(at < sizeof text);
        }
        at += (size_t)snprintf(text + at, sizeof text - at, " %" PRId64, s->values[1]);
    }
    return text;
}

const struct report_node *made_node(const struct report *r, const char *label)
{
    for (size_t i = 0; i < r->node_count; i++) {
        if (!strcmp(r->nodes[i]->label, label))
            return r->nodes[i];
    }
    return NULL;
}
