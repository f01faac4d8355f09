// SPDX-License-Identifier: MIT
//
// Which fibers a filter lets through. See lanes.h.

#include "viewer/views/lanes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t lanes_there_ns(const struct trace_model *m, uint32_t lane)
{
    const struct trace_spans *s = m->spans;
    uint32_t i = s->lanes[lane].first, end = i + s->lanes[lane].count;
    while (i < end && m->state_of[s->kind[i]] == LOD_NONE)
        i++;
    while (end > i && m->state_of[s->kind[end - 1]] == LOD_NONE)
        end--;
    return i < end ? trace_span_end_ns(s, lane, end - 1) - trace_span_begin_ns(s, i) : 0;
}

uint8_t lanes_state(const struct lanes *l, uint32_t lane)
{
    const struct trace_spans *s = l->model->spans;
    uint32_t span = trace_spans_before(s, lane, l->sort_at_ns + 1);
    return span == TRACE_NO_SPAN ? LOD_NONE : l->model->state_of[s->kind[span]];
}

// "1.5ms" in ns; a number alone is in ns. Negative: not a time.
static double time_of(const char *text)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1}, {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    char *end;
    double value = strtod(text, &end);
    for (size_t i = 0; end > text && i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(end, units[i].name))
            return value * units[i].ns;
    return -1;
}

static bool has_text(const struct lanes *l, uint32_t lane, const char *word)
{
    const struct trace_model *m = l->model;
    const struct trace_names *names = &m->spans->names;
    char id[32];
    if (strcasestr(trace_names_text(names, m->spans->lanes[lane].name), word))
        return true;
    if (m->labels && strcasestr(trace_names_text(names, m->labels[lane]), word))
        return true;
    snprintf(id, sizeof id, "%" PRId64, m->spans->lanes[lane].id);
    return !strcmp(id, word);
}

// While a word is being typed it is not whole yet, and hides nothing.
static bool holds(const struct lanes *l, uint32_t lane, const char *word)
{
    if (!strncmp(word, "state:", 6)) {
        uint8_t state = lanes_state(l, lane);
        return !word[6] ||
               (state != LOD_NONE && strcasestr(trace_model_state_name(state), word + 6));
    }
    if (!strncmp(word, "ran>", 4))
        return (double)l->model->ran_ns[lane] > time_of(word + 4);
    if (!strncmp(word, "there>", 6))
        return (double)lanes_there_ns(l->model, lane) > time_of(word + 6);
    return has_text(l, lane, word);
}

bool lanes_match(const struct lanes *l, uint32_t lane)
{
    char words[sizeof l->filter], *rest = words;
    memcpy(words, l->filter, sizeof words);
    for (char *word; (word = strsep(&rest, " "));)
        if (*word && !holds(l, lane, word))
            return false;
    return true;
}
