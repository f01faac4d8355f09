// SPDX-License-Identifier: MIT
//
// See flame_diff.h.

#include "cli/flame_diff.h"

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
