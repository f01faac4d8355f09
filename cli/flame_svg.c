// SPDX-License-Identifier: MIT
//
// See flame_svg.h. The file holds two things: a static picture, for print and where no script runs,
// of one path per colour and only of what is wide enough to see at its width; and all frames as two
// tables, from which the script draws (cli/flame.js has their format).
//
// Invariant: the static picture has at most STATIC_MAX boxes and the tables FRAMES_MAX frames, so
// that the largest profile gives a file that a browser opens at once.

#include "cli/flame_svg.h"

#include "analysis/units.h"
#include "base/file.h"
#include "base/utf8.h"
#include "cli/flame_diff.h"
#include "cli/flame_embed.h"
#include "cli/json.h"

#include <inttypes.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROW = 18, TOP = 72, GAP = 8, FOOT = 12, PAD = 12 };
enum { STATIC_MAX = 20000, FRAMES_MAX = 250000 };
enum { SHADES = 3, KERNEL = 11, UNKNOWN, FAMILIES };

// One hue per module or package, a little lightness per name; the kernel is orange-red as on
// everybody's flame graphs, what has no name is grey. In light mode; flame.css darkens.
static const struct {
    int hue, saturation;
} palette[FAMILIES] = {{36, 74},  {50, 68},  {78, 46},  {136, 38}, {166, 42}, {190, 52}, {210, 60},
                       {230, 58}, {260, 50}, {290, 42}, {332, 54}, {14, 82},  {40, 8}};

void flame_svg_escape(FILE *out, const char *text)
{
    for (int n; *text; text += n) {
        n = utf8_length(text);
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

static void write_label(FILE *out, const char *name, double pixels)
{
    int room = (int)((pixels - 7) / 6.65), length = 0;
    char cut[512];
    size_t at = 0;
    for (const char *s = name; *s; length++) {
        int n = utf8_length(s);
        s += n ? n : 1;
    }
    if (room < 3)
        return;
    if (length <= room) {
        flame_svg_escape(out, name);
        return;
    }
    for (int i = 0; i < room - 1 && at + 8 < sizeof cut; i++) {
        int n = utf8_length(name + at);
        memcpy(cut + at, name + at, (size_t)(n ? n : 1));
        at += (size_t)(n ? n : 1);
    }
    memcpy(cut + at, "\xe2\x80\xa6", 4);
    flame_svg_escape(out, cut);
}

struct box {
    int64_t x, w;
    uint32_t node, colour, depth;
};

// Values of least and more, of those of exactly least so many. Asked in the order of the nodes this
// never takes a child without its parent: that one stands before it and is not less.
struct limit {
    int64_t least;
    size_t ties;
};

struct flame {
    FILE *out;
    const struct stacks *s;
    const struct report *r;
    const struct flame_options *o;
    struct limit table, picture;
    uint32_t depth; // of the picture
    int width, top;
    bool compared;     // two profiles: colours by change, two values a frame
    uint32_t *symbols; // of each node; 0: not in the tables
    bool *drawn;       // in the static picture
    int64_t *x;
    struct box *boxes;
    size_t box_count;
};

static bool takes(struct limit *l, int64_t value)
{
    return value > l->least || (value == l->least && l->ties && l->ties--);
}

static uint32_t colour(const struct stacks_node *n)
{
    uint32_t shade = hash_text(n->name, SIZE_MAX) % SHADES, f = family(n) % KERNEL;
    if (n->is_kernel)
        f = KERNEL;
    else if (n->name[0] == '[' || !n->name[0] || !strncmp(n->name, "0x", 2))
        f = UNKNOWN;
    return f * SHADES + shade;
}

static int by_value(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a < b) - (a > b);
}

// values: heaviest first.
static struct limit limit_of(const int64_t *values, size_t count, size_t max, double least)
{
    struct limit l = {.least = (int64_t)least, .ties = SIZE_MAX};
    if (l.least > values[0])
        l.least = values[0];
    if (count <= max || values[max] < l.least)
        return l;
    l.least = values[max];
    l.ties = 0;
    for (size_t i = max; i > 0 && values[i - 1] == l.least; i--)
        l.ties++;
    return l;
}

static int choose_limits(struct flame *f)
{
    const struct stacks *s = f->s;
    double total = (double)s->nodes[0].total, share = f->o->min_percent / 100;
    double pixel = 1 / (f->width - 2.0 * PAD);
    int64_t *values = malloc(s->count * sizeof *values);
    if (!values)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->count; i++)
        values[i] = s->nodes[i].total;
    qsort(values, s->count, sizeof *values, by_value);
    f->table = limit_of(values, s->count, FRAMES_MAX, total * share);
    f->picture = limit_of(values, s->count, STATIC_MAX, total * (share > pixel ? share : pixel));
    free(values);
    return 0;
}

static void write_symbol(FILE *out, const struct stacks_node *n)
{
    uint32_t c = colour(n);
    fputc('\n', out);
    flame_svg_escape(out, n->name);
    fputc('\t', out);
    flame_svg_escape(out, file_base_name(n->module));
    fprintf(out, "\tc%u s%u%s", c / SHADES, c % SHADES, n->is_inline ? "\t1" : "");
}

// The line of a node, a new one if no earlier frame shares it.
static uint32_t intern_symbol(struct flame *f, uint32_t i, uint32_t *table, size_t size,
                              uint32_t *last)
{
    const struct stacks_node *n = &f->s->nodes[i];
    uint64_t h =
        ((uintptr_t)n->name ^ ((uintptr_t)n->module << 7) ^ n->is_inline) * 0x9e3779b97f4a7c15u;
    size_t at = (h ^ h >> 32) & (size - 1);
    for (; table[at]; at = (at + 1) & (size - 1)) {
        const struct stacks_node *t = &f->s->nodes[table[at]];
        if (t->name == n->name && t->module == n->module && t->is_inline == n->is_inline)
            return f->symbols[table[at]];
    }
    table[at] = i;
    write_symbol(f->out, n);
    return ++*last;
}

// Chooses what is shown and numbers what the script has to know of it besides values: most frames
// share that. Line 0 stands for what is left out, line 1 for everything.
static int write_symbols(struct flame *f, uint32_t *hidden)
{
    const struct stacks *s = f->s;
    size_t size = 64;
    while (size < 2 * (size_t)s->count)
        size *= 2;
    uint32_t *table = calloc(size, sizeof *table), last = 1;
    if (!table)
        return -ENOMEM;
    fputs("<metadata id=\"names\">\xe2\x80\xa6\t\tm\nall\t\tc12 s1", f->out);
    *hidden = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        bool shown = takes(&f->table, s->nodes[i].total);
        f->drawn[i] = takes(&f->picture, s->nodes[i].total) && shown;
        if (shown)
            f->symbols[i] = i ? intern_symbol(f, i, table, size, &last) : 1;
        *hidden += !shown;
    }
    fputs("</metadata>\n", f->out);
    free(table);
    return 0;
}

// The values of a line. Of two profiles: base, now, and the width where it is not the larger one.
static void write_values(struct flame *f, int64_t self, int64_t base, int64_t now)
{
    if (!f->compared && self)
        fprintf(f->out, " %" PRId64, self);
    else if (f->compared && (base || now))
        fprintf(f->out, " %" PRId64 " %" PRId64, base, now);
    if (f->compared && self > (base > now ? base : now))
        fprintf(f->out, " %" PRId64, self);
}

// One line of the table; children that are left out follow as one frame of their sum. Returns the
// depth of the last line.
static uint32_t write_frame(struct flame *f, uint32_t i, uint32_t last_depth)
{
    const struct stacks_node *nodes = f->s->nodes, *n = &nodes[i];
    int64_t lost = 0, lost_base = 0, lost_now = 0;
    fprintf(f->out, i ? "\n%u %u" : "%u %u", i ? last_depth + 1 - n->depth : 0, f->symbols[i]);
    write_values(f, n->self, n->base.self, n->now.self);
    for (uint32_t c = n->first_child; c; c = nodes[c].next) {
        if (f->symbols[c])
            continue;
        lost += nodes[c].total;
        lost_base += nodes[c].base.total;
        lost_now += nodes[c].now.total;
    }
    if (lost) {
        fputs("\n0 0", f->out);
        write_values(f, lost, lost_base, lost_now);
    }
    return n->depth + (lost != 0);
}

static void add_box(struct flame *f, uint32_t i)
{
    const struct stacks_node *n = &f->s->nodes[i];
    if (n->depth > f->depth)
        f->depth = n->depth;
    f->boxes[f->box_count++] = (struct box){.x = f->x[i],
                                            .w = n->total,
                                            .node = i,
                                            .depth = n->depth,
                                            .colour = f->compared ? stacks_step(n)
                                                      : i         ? colour(n)
                                                                  : UNKNOWN * SHADES + 1};
    int64_t gone = f->compared ? stacks_gone(n) : 0;
    if (gone)
        f->boxes[f->box_count++] = (struct box){.x = f->x[i] + n->total - gone,
                                                .w = gone,
                                                .node = i,
                                                .depth = n->depth,
                                                .colour = FLAME_PART};
}

// Depth first without recursion: a stack may be as deep as a hostile file makes it.
static void write_frames(struct flame *f)
{
    const struct stacks_node *nodes = f->s->nodes;
    uint32_t at = 0, depth = 0;
    fputs("<metadata id=\"frames\">", f->out);
    for (;;) {
        const struct stacks_node *n = &nodes[at];
        if (f->symbols[at])
            depth = write_frame(f, at, depth);
        if (f->drawn[at])
            add_box(f, at);
        if (f->symbols[at] && n->first_child) {
            f->x[n->first_child] = f->x[at];
            at = n->first_child;
            continue;
        }
        while (at && !nodes[at].next)
            at = nodes[at].parent;
        if (!at)
            break;
        f->x[nodes[at].next] = f->x[at] + nodes[at].total;
        at = nodes[at].next;
    }
    fputs("</metadata>\n", f->out);
}

static int by_colour(const void *x, const void *y)
{
    const struct box *a = x, *b = y;
    if (a->colour != b->colour)
        return a->colour < b->colour ? -1 : 1;
    return (a->node > b->node) - (a->node < b->node);
}

static void open_path(struct flame *f, uint32_t c, bool first)
{
    static const int lightness[SHADES] = {70, 75, 80};
    fputs(first ? "\n" : "\"/>\n", f->out);
    if (f->compared)
        fprintf(f->out, "<path class=\"d%u\" fill=\"%s\" d=\"", flame_diff_class(c),
                flame_diff_fill(c));
    else
        fprintf(f->out, "<path class=\"c%u s%u\" fill=\"hsl(%d,%d%%,%d%%)\" d=\"", c / SHADES,
                c % SHADES, palette[c / SHADES].hue, palette[c / SHADES].saturation,
                lightness[c % SHADES]);
}

// One path per colour: a fifth of what rectangles would take.
static void write_picture(struct flame *f)
{
    double scale = (f->width - 2.0 * PAD) / (double)f->s->nodes[0].total;
    qsort(f->boxes, f->box_count, sizeof *f->boxes, by_colour);
    fputs("<g id=\"layer\" class=\"f\">", f->out);
    for (size_t i = 0; i < f->box_count; i++) {
        const struct box *b = &f->boxes[i];
        uint32_t c = b->colour, row = f->o->upward ? f->depth - b->depth : b->depth;
        double w = (double)b->w * scale;
        if (!i || f->boxes[i - 1].colour != c)
            open_path(f, c, !i);
        fprintf(f->out, "M%.1f %uh%.1fv%dH%.1fz", PAD + (double)b->x * scale,
                (unsigned)f->top + row * ROW, w > 3 ? w - 1 : w - 0.3, ROW - 1,
                PAD + (double)b->x * scale);
    }
    fputs("\"/>\n", f->out);
    for (size_t i = 0; i < f->box_count; i++) {
        const struct box *b = &f->boxes[i];
        const struct stacks_node *n = &f->s->nodes[b->node];
        uint32_t row = f->o->upward ? f->depth - b->depth : b->depth;
        if ((double)b->w * scale < 28 || (f->compared && b->colour == FLAME_PART))
            continue;
        fprintf(f->out, "<text x=\"%.1f\" y=\"%u\">", PAD + (double)b->x * scale + 5,
                (unsigned)f->top + row * ROW + ROW - 5);
        write_label(f->out, b->node ? n->name : "all", (double)b->w * scale);
        fputs("</text>\n", f->out);
    }
    fputs("</g>\n", f->out);
}

static void write_meta(struct flame *f)
{
    fprintf(f->out,
            "<metadata id=\"meta\" data-row=\"%d\" data-up=\"%d\" data-diff=\"%d\" "
            "data-factor=\"%.17g\" data-unit=\"",
            ROW, f->o->upward, f->compared, f->o->factor);
    flame_svg_escape(f->out, f->r->from_unit);
    fputs("\" data-title=\"", f->out);
    flame_svg_escape(f->out, f->o->title);
    fputs("\" data-subtitle=\"", f->out);
    flame_svg_escape(f->out, f->o->subtitle);
    fputs("\"/>\n", f->out);
}

static void write_head(struct flame *f, uint32_t height)
{
    if (!f->o->is_embedded)
        fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", f->out);
    fprintf(f->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
            "viewBox=\"0 0 %d %u\">\n<style>%s",
            f->width, height, f->width, height, flame_css);
    if (f->compared)
        flame_diff_write_style(f->out);
    for (int i = 0; i < FAMILIES && !f->compared; i++)
        fprintf(f->out, ".c%d{--h:%d;--s:%d%%}", i, palette[i].hue, palette[i].saturation);
    fprintf(f->out, "</style>\n<title>");
    flame_svg_escape(f->out, f->o->title);
    fputs("</title>\n", f->out);
    if (f->compared)
        flame_diff_write_patterns(f->out);
    fputs("<rect class=\"bg\" width=\"100%\" height=\"100%\" fill=\"#faf9f6\"/>\n", f->out);
}

static void write_header_bar(struct flame *f)
{
    fprintf(f->out,
            "<g id=\"head\"><rect id=\"headbg\" class=\"bg\" width=\"100%%\" height=\"%d\" "
            "fill=\"#faf9f6\"/>"
            "<line id=\"rule\" class=\"rule\" x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/>\n"
            "<text id=\"title\" class=\"t\" x=\"%d\" y=\"29\">",
            f->top - GAP, f->top - GAP, f->top - GAP, PAD);
    flame_svg_escape(f->out, f->o->title);
    fprintf(f->out, "</text>\n<text id=\"subtitle\" class=\"sub\" x=\"%d\" y=\"52\">", PAD);
    flame_svg_escape(f->out, f->o->subtitle);
    fputs("</text>\n<text id=\"reset\" class=\"b off\" tabindex=\"0\" role=\"button\" "
          "y=\"-20\">reset zoom</text>"
          "<text id=\"flip\" class=\"b\" tabindex=\"0\" role=\"button\" y=\"-20\">turn over</text>"
          "<text id=\"found\" class=\"found\" text-anchor=\"end\" y=\"52\"></text>",
          f->out);
    if (f->compared)
        flame_diff_write_legend(f->out, PAD, 64);
    fputs("</g>\n", f->out);
}

int flame_svg_write(FILE *out, const struct stacks *s, const struct report *r,
                    const struct flame_options *o, uint32_t *hidden)
{
    struct flame f = {.out = out, .s = s, .r = r, .o = o, .width = o->width, .top = TOP};
    size_t boxes = s->count < STATIC_MAX ? s->count : STATIC_MAX;
    f.compared = s->values == STACKS_COMPARED;
    if (f.compared) {
        boxes *= 2; // with the parts that are gone
        f.top += FLAME_LEGEND_HEIGHT;
    }
    int rc = choose_limits(&f);
    f.symbols = calloc(s->count, sizeof *f.symbols);
    f.drawn = calloc(s->count, sizeof *f.drawn);
    f.x = calloc(s->count, sizeof *f.x);
    f.boxes = calloc(boxes, sizeof *f.boxes);
    if (rc || !f.symbols || !f.drawn || !f.x || !f.boxes) {
        rc = -ENOMEM;
        goto done;
    }
    // The height is known before the frames are walked: the picture's depth decides.
    struct limit picture = f.picture, table = f.table;
    uint32_t depth = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        bool shown = takes(&table, s->nodes[i].total);
        if (takes(&picture, s->nodes[i].total) && shown && s->nodes[i].depth > depth)
            depth = s->nodes[i].depth;
    }
    write_head(&f, (uint32_t)f.top + (depth + 1) * ROW + FOOT);
    write_meta(&f);
    rc = write_symbols(&f, hidden);
    if (rc)
        goto done;
    write_frames(&f);
    write_picture(&f);
    write_header_bar(&f);
    fprintf(out, "<script><![CDATA[\n%s]]></script>\n</svg>\n", flame_js);
done:
    free(f.symbols);
    free(f.drawn);
    free(f.x);
    free(f.boxes);
    return rc;
}
