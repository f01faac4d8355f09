// SPDX-License-Identifier: MIT
//
// See flame_svg.h. The picture is complete without its script, so that it also prints and embeds.

#include "cli/flame_svg.h"

#include "analysis/units.h"
#include "cli/flame_embed.h"
#include "cli/json.h"

#include <inttypes.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROW = 18, TOP = 74, FOOT = 44, PAD = 12 };

void flame_svg_escape(FILE *out, const char *text)
{
    for (int n; *text; text += n) {
        n = json_utf8_length(text);
        bool forbidden = !n || (n == 1 && (unsigned char)*text < 0x20) ||
                         !strncmp(text, "\xef\xbf\xbe", 3) || !strncmp(text, "\xef\xbf\xbf", 3);
        if (!n)
            n = 1;
        if (forbidden)
            fputs("\xef\xbf\xbd", out);
        else if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else if (*text == '\'')
            fputs("&#39;", out);
        else
            fwrite(text, 1, (size_t)n, out);
    }
}

static uint32_t hash_text(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n && s[i]; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ (h >> 15);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

// What a frame belongs to: the package or namespace in its name, else its file.
static uint32_t family(const struct stacks_node *n)
{
    const char *colons = strstr(n->name, "::"), *slash = strrchr(n->name, '/');
    const char *dot = strchr(slash ? slash : n->name, '.');
    if (dot && dot > n->name && !colons)
        return hash_text(n->name, (size_t)(dot - n->name));
    if (colons && colons > n->name)
        return hash_text(n->name, (size_t)(colons - n->name));
    return hash_text(n->module, SIZE_MAX);
}

// One hue per module or package, a little lightness per name; the kernel is orange-red as on
// everybody's flame graphs, inlined frames are told apart by a dashed edge, not by colour.
static void colour(char *buf, size_t size, const struct stacks_node *n)
{
    static const int hues[] = {38, 52, 82, 140, 168, 192, 212, 232, 262, 290, 330};
    uint32_t shade = hash_text(n->name, SIZE_MAX);
    if (n->is_kernel)
        snprintf(buf, size, "hsl(%d,78%%,%d%%)", 12 + (int)(shade % 8), 66 + (int)(shade >> 8) % 8);
    else if (n->name[0] == '[' || (!n->name[0]) || !strncmp(n->name, "0x", 2))
        snprintf(buf, size, "hsl(40,6%%,%d%%)", 74 + (int)(shade % 8));
    else
        snprintf(buf, size, "hsl(%d,%d%%,%d%%)",
                 hues[family(n) % (sizeof hues / sizeof *hues)] + (int)(shade % 9) - 4,
                 46 + (int)(shade >> 4) % 14, 70 + (int)(shade >> 8) % 11);
}

static void write_label(FILE *out, const char *name, double pixels)
{
    int room = (int)((pixels - 7) / 6.65), length = 0;
    char cut[512];
    size_t at = 0;
    for (const char *s = name; *s; length++) {
        int n = json_utf8_length(s);
        s += n ? n : 1;
    }
    if (room < 3)
        return;
    if (length <= room) {
        flame_svg_escape(out, name);
        return;
    }
    for (int i = 0; i < room - 1 && at + 8 < sizeof cut; i++) {
        int n = json_utf8_length(name + at);
        memcpy(cut + at, name + at, (size_t)(n ? n : 1));
        at += (size_t)(n ? n : 1);
    }
    memcpy(cut + at, "\xe2\x80\xa6", 4);
    flame_svg_escape(out, cut);
}

struct flame {
    FILE *out;
    const struct stacks *s;
    const struct report *r;
    const struct flame_options *o;
    int64_t least; // narrowest value shown
    uint32_t depth, hidden;
    int width;
};

static void write_frame(struct flame *f, const struct stacks_node *n, int64_t x)
{
    char fill[40], value[UNITS_LABEL_MAX], percent[32];
    double scale = (f->width - 2.0 * PAD) / (double)f->s->nodes[0].total;
    double px = PAD + (double)x * scale, w = (double)n->total * scale;
    uint32_t row = f->o->upward ? f->depth - n->depth : n->depth;
    double y = TOP + (double)row * ROW;
    const char *name = n->depth ? n->name : "all";
    colour(fill, sizeof fill, n);
    fprintf(f->out, "<g class=\"f%s\" data-x=\"%" PRId64 "\" data-w=\"%" PRId64 "\" data-d=\"%u\"",
            n->is_inline ? " in" : "", x, n->total, n->depth);
    if (n->self)
        fprintf(f->out, " data-s=\"%" PRId64 "\"", n->self);
    fprintf(f->out, " data-n=\"");
    flame_svg_escape(f->out, name);
    if (n->is_inline)
        fputs(" (inline)", f->out);
    fprintf(f->out, "\" data-m=\"");
    flame_svg_escape(f->out, base_name(n->module));
    fprintf(f->out,
            "\"><rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\" rx=\"2\" fill=\"%s\">", px,
            y, w > 0.9 ? w - 0.6 : 0.3, ROW - 1, fill);
    fprintf(f->out, "<title>");
    flame_svg_escape(f->out, name);
    const char *share = units_percent(percent, sizeof percent, n->total, f->s->nodes[0].total);
    while (*share == ' ')
        share++;
    units_label(value, sizeof value, (int64_t)((double)n->total * f->o->factor), f->r->from_unit,
                "auto");
    fprintf(f->out, " (%s, ", share);
    flame_svg_escape(f->out, value);
    fprintf(f->out, ")</title></rect><text x=\"%.2f\" y=\"%.1f\">", px + 4, y + ROW - 5.5);
    write_label(f->out, name, w);
    fprintf(f->out, "</text></g>\n");
}

// Depth first without recursion: a stack may be as deep as a hostile file makes it.
static void walk(struct flame *f, bool writing)
{
    const struct stacks_node *nodes = f->s->nodes;
    int64_t *x = calloc(f->s->count, sizeof *x);
    uint32_t at = 0;
    if (!x) {
        f->hidden = UINT32_MAX;
        return;
    }
    for (;;) {
        const struct stacks_node *n = &nodes[at];
        bool shown = n->total >= f->least || !at;
        if (!writing) {
            f->hidden += !shown;
            if (shown && n->depth > f->depth)
                f->depth = n->depth;
        } else if (shown) {
            write_frame(f, n, x[at]);
        }
        if (shown && n->first_child) {
            x[n->first_child] = x[at];
            at = n->first_child;
            continue;
        }
        while (at && !nodes[at].next)
            at = nodes[at].parent;
        if (!at)
            break;
        x[nodes[at].next] = x[at] + nodes[at].total;
        at = nodes[at].next;
    }
    free(x);
}

static void write_head(struct flame *f)
{
    const struct flame_options *o = f->o;
    uint32_t height = TOP + (f->depth + 1) * ROW + FOOT;
    fprintf(f->out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
            "viewBox=\"0 0 %d %u\">\n<style>%s</style>\n",
            f->width, height, f->width, height, flame_css);
    fprintf(f->out,
            "<metadata id=\"meta\" data-total=\"%" PRId64 "\" data-row=\"%d\" data-depth=\"%u\" "
            "data-up=\"%d\" data-factor=\"%.17g\" data-hint=\"Click zooms, / searches, i turns it "
            "over, u goes up, Esc resets\" data-unit=\"",
            f->s->nodes[0].total, ROW, f->depth, o->upward, o->factor);
    flame_svg_escape(f->out, f->r->from_unit);
    fprintf(f->out,
            "\"/>\n<rect class=\"bg\" width=\"100%%\" height=\"100%%\"/>\n"
            "<text class=\"t\" x=\"%d\" y=\"30\">",
            PAD);
    flame_svg_escape(f->out, o->title);
    fprintf(f->out, "</text>\n<text class=\"sub\" x=\"%d\" y=\"52\">", PAD);
    flame_svg_escape(f->out, o->subtitle);
    fprintf(f->out,
            "</text>\n<line class=\"rule\" x1=\"0\" x2=\"100%%\" y1=\"64\" y2=\"64\"/>\n"
            "<g data-right=\"250\" transform=\"translate(%d,0)\">"
            "<text id=\"reset\" class=\"b\" y=\"30\">reset zoom</text>"
            "<text id=\"flip\" class=\"b\" x=\"84\" y=\"30\">turn over</text>"
            "<text id=\"query\" class=\"b\" x=\"164\" y=\"30\">/ search</text></g>\n"
            "<text id=\"details\" class=\"foot\" x=\"%d\" y=\"%u\"></text>"
            "<text id=\"found\" class=\"found\" x=\"%d\" y=\"%u\"></text>\n",
            f->width - 250, PAD, height - 20, f->width - PAD, height - 20);
}

int flame_svg_write(FILE *out, const struct stacks *s, const struct report *r,
                    const struct flame_options *o, uint32_t *hidden)
{
    struct flame f = {.out = out, .s = s, .r = r, .o = o, .width = o->width};
    f.least = (int64_t)((double)s->nodes[0].total * o->min_percent / 100);
    walk(&f, false);
    if (f.hidden == UINT32_MAX)
        return -ENOMEM;
    *hidden = f.hidden;
    write_head(&f);
    walk(&f, true);
    fprintf(out, "<script><![CDATA[\n%s]]></script>\n</svg>\n", flame_js);
    return 0;
}
