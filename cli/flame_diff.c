// SPDX-License-Identifier: MIT
//
// See flame_diff.h.

#include "cli/flame_diff.h"

#include "analysis/units.h"

#include <math.h>

// Blue to red over grey: told apart with any colour vision, in grey by the hatching and the legend.
static const struct {
    const char *name, *light, *dark;
} steps[] = {
    {"gone", "#edf3f9", "#1b2e42"},          {"\xc3\xb7 2", "#6fa8d8", "#1f5f9c"},
    {"\xc3\xb7 1.25", "#a3c8e8", "#27496b"}, {"\xc3\xb7 1.05", "#cbdfef", "#2a3a4a"},
    {"same", "#dedbd4", "#37373c"},          {"\xc3\x97 1.05", "#f8ddcc", "#4a3730"},
    {"\xc3\x97 1.25", "#f3b796", "#6d3c29"}, {"\xc3\x97 2", "#ea8a63", "#93401f"},
    {"new", "#e0604d", "#b02d20"},
};

enum { SWATCH = 52, SWATCH_HEIGHT = 16 };

unsigned flame_diff_step(const struct stacks_node *n)
{
    static const double ends[] = {1 / 2.0, 1 / 1.25, 1 / 1.05};
    double base = (double)n->base.total, now = (double)n->now.total;
    if (n->base.total == n->now.total)
        return FLAME_SAME;
    if (!n->now.total)
        return FLAME_GONE;
    if (!n->base.total)
        return FLAME_NEW;
    for (unsigned i = 0; i < 3; i++) {
        if (now <= base * ends[i])
            return FLAME_GONE + 1 + i;
        if (base <= now * ends[i])
            return FLAME_NEW - 1 - i;
    }
    return FLAME_SAME;
}

int64_t flame_diff_part(const struct stacks_node *n)
{
    return n->now.total ? n->self - n->now.self : 0; // else all of it is hatched
}

unsigned flame_diff_class(unsigned step)
{
    return step == FLAME_PART ? FLAME_GONE : step;
}

const char *flame_diff_fill(unsigned step)
{
    step = flame_diff_class(step);
    return step == FLAME_GONE ? "url(#gone)" : steps[step].light;
}

void flame_diff_write_style(FILE *out)
{
    fputs(".f .d0,.legend .d0{fill:url(#gone)}#gone rect{fill:#edf3f9}#gone path{stroke:#b3cfe9}"
          ".f .part{pointer-events:none}.legend text{font-size:11px;fill:var(--ink)}"
          ".legend .dim{fill:var(--dim)}.legend rect{stroke:none}"
          ".searching .f rect.part{opacity:.35}"
          ".searching .f rect.hit{fill:var(--fill);stroke:var(--hit);stroke-width:2}"
          ".f text.hit{fill:var(--ink);font-weight:700}",
          out);
    for (unsigned i = 0; i <= FLAME_NEW; i++)
        fprintf(out, ".d%u{--fill:%s}", i, i ? steps[i].light : "url(#gone)");
    for (unsigned i = 1; i <= FLAME_NEW; i++)
        fprintf(out, "%s.f .d%u,.legend .d%u", i > 1 ? "," : "", i, i);
    fputs("{fill:var(--fill)}@media (prefers-color-scheme:dark){"
          "#gone rect{fill:#1c2733}#gone path{stroke:#2c5075}",
          out);
    for (unsigned i = 1; i <= FLAME_NEW; i++)
        fprintf(out, ".d%u{--fill:%s}", i, steps[i].dark);
    fputs("}", out);
}

void flame_diff_write_patterns(FILE *out)
{
    fputs("<defs><pattern id=\"gone\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
          "patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#edf3f9\"/>"
          "<path d=\"M0 0V6\" stroke=\"#b3cfe9\" stroke-width=\"3\"/></pattern></defs>\n",
          out);
}

void flame_diff_write_legend(FILE *out, int x, int y)
{
    fprintf(out, "<g id=\"legend\" class=\"legend\" transform=\"translate(%d,%d)\">", x, y);
    for (unsigned i = 0; i <= FLAME_NEW; i++) {
        fprintf(out,
                "<rect class=\"d%u\" fill=\"%s\" x=\"%u\" width=\"%d\" height=\"%d\"/>"
                "<text x=\"%u\" y=\"12\" text-anchor=\"middle\">%s</text>",
                i, flame_diff_fill(i), i * SWATCH, SWATCH - 1, SWATCH_HEIGHT,
                i * SWATCH + SWATCH / 2, steps[i].name);
    }
    fprintf(out,
            "<text class=\"dim\" id=\"hint\" x=\"%u\" y=\"12\">by what factor it changed; hatched: "
            "only the base has it"
            "</text></g>\n",
            (FLAME_NEW + 1) * SWATCH + 10);
}

void flame_diff_subtitle(char *buf, size_t size, const struct report *r, const struct stacks *s)
{
    char base[UNITS_LABEL_MAX], now[UNITS_LABEL_MAX], delta[UNITS_LABEL_MAX], percent[32] = "";
    double factor = 1 / r->options.divide_by;
    int64_t b = s->nodes[0].base.total, n = s->nodes[0].now.total;
    units_label(base, sizeof base, (int64_t)((double)b * factor), r->from_unit, "auto");
    units_label(now, sizeof now, (int64_t)((double)n * factor), r->from_unit, "auto");
    units_label(delta, sizeof delta, (int64_t)((double)(n - b) * factor), r->from_unit, "auto");
    if (b)
        snprintf(percent, sizeof percent, ", %+.1f%%", 100.0 * (double)(n - b) / (double)b);
    snprintf(buf, size, "%s: base %s \xe2\x86\x92 %s (%s%s%s). Width: what either has", r->type,
             base, now, n > b ? "+" : "", delta, percent);
}
