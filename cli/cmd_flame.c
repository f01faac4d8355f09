// SPDX-License-Identifier: MIT
//
// fiberscope flame: the flame graph, an SVG that works from disk in any browser.

#include "analysis/units.h"
#include "base/file.h"
#include "cli/flame_diff.h"
#include "cli/flame_svg.h"
#include "cli/profile_args.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct flame_args {
    struct profile_args profile; // first: its rows' offsets count from here
    const char *title, *now;     // now: the first FILE
    bool inverted, flame;
    double min_percent;
    uint64_t width;
};

// "cpu, 12.3s in 4,711 samples, 10s at 99 Hz": the width's unit is said on the picture.
static void subtitle(char *buf, size_t size, const struct report *r, const struct stacks *s)
{
    char total[UNITS_LABEL_MAX], duration[UNITS_LABEL_MAX], date[64] = "";
    const struct pprof_profile *p = r->profile;
    int64_t shown = (int64_t)((double)s->nodes[0].total / r->options.divide_by);
    units_label(total, sizeof total, shown, r->from_unit, "auto");
    int n = snprintf(buf, size, "width: %s, %s in %zu different stack%s", r->type, total,
                     p->sample_count, cli_s(p->sample_count));
    size_t at = n > 0 && (size_t)n < size ? (size_t)n : size - 1;
    if (p->duration_nanos) {
        units_label(duration, sizeof duration, p->duration_nanos, "nanoseconds", "auto");
        n = snprintf(buf + at, size - at, ", recorded for %s", duration);
        at = n > 0 && (size_t)n < size - at ? at + (size_t)n : size - 1;
    }
    time_t t = (time_t)(p->time_nanos / 1000000000);
    struct tm tm;
    if (p->time_nanos && localtime_r(&t, &tm) && strftime(date, sizeof date, "%Y-%m-%d %H:%M", &tm))
        snprintf(buf + at, size - at, ", %s", date);
}

static int draw(struct flame_args *a, struct report *r, struct stacks *s)
{
    struct profile_output o;
    char under[512];
    uint32_t hidden = 0;
    struct pprof_profile *p = r->profile;
    if (s->values == STACKS_COMPARED)
        stacks_difference(under, sizeof under, r, s);
    else
        subtitle(under, sizeof under, r, s);
    struct flame_options fo = {.title = a->title,
                               .subtitle = under,
                               .upward = a->flame,
                               .min_percent = a->min_percent,
                               .width = (int)a->width,
                               .factor = 1 / r->options.divide_by};
    char pair[512];
    if (!fo.title && s->values == STACKS_COMPARED) {
        snprintf(pair, sizeof pair, "%s: %s \xe2\x86\x92 %s",
                 p->mapping_count ? file_base_name(p->mappings[0]->file) : "difference",
                 file_base_name(a->profile.diff_base.items[0]), file_base_name(a->now));
        fo.title = pair;
    }
    if (!fo.title)
        fo.title = p->mapping_count && p->mappings[0]->file[0]
                       ? file_base_name(p->mappings[0]->file)
                       : "Flame graph";
    int status = profile_output_open(&o, a->profile.output);
    if (status)
        return status;
    int rc = flame_svg_write(o.out, s, r, &fo, &hidden);
    status = profile_output_close(&o, !rc);
    if (rc)
        return cli_fail("out of memory");
    if (hidden)
        cli_note("%" PRIu32
                 " narrow frames are left out; boxes named \"\xe2\x80\xa6\" have their sums",
                 hidden);
    if (!status && a->profile.output && strcmp(a->profile.output, "-") != 0)
        cli_note("wrote %s; open it in a browser", a->profile.output);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    struct flame_args *a = settings;
    struct pprof_profile *p;
    struct report r;
    struct stacks s;
    struct fscope_error err = {0};
    char free_name[CLI_FREE_NAME_MAX];
    if (a->width < 300 || a->width > 20000 || a->min_percent < 0 || a->min_percent > 100)
        return cli_usage("--width goes from 300 to 20000, --min-percent from 0 to 100");
    if (!a->profile.output && isatty(STDOUT_FILENO))
        a->profile.output = cli_free_name(free_name, sizeof free_name, "flame",
                                          ".svg"); // nobody reads SVG on a terminal
    a->now = argc ? argv[0] : "newest";
    int status = profile_prepare(&r, &p, &a->profile, argc, argv);
    if (status)
        return status;
    if (stacks_build(&s, &r, a->profile.diff_base.count ? STACKS_COMPARED : STACKS_POSITIVE,
                     a->inverted, &err))
        status = cli_fail("%s", err.text);
    else if (s.nodes[0].total <= 0)
        status = cli_fail("no samples with a positive value are left; nothing to draw");
    else
        status = draw(a, &r, &s);
    if (s.negative)
        cli_note("%" PRIu64 " sample%s left out%s", s.negative,
                 s.negative == 1 ? " with a negative value is" : "s with negative values are",
                 a->profile.base.count ? "; -diff_base=OLD draws both profiles in full" : "");
    stacks_finish(&s);
    report_finish(&r);
    pprof_free(p);
    return status;
}

#define FLAME "Picture"
static const struct flame_args defaults = {.profile = PROFILE_DEFAULTS, .width = 1200};
static const struct cli_option options[] = {
    CLI_FLAG(struct flame_args, inverted, "inverted", 0, FLAME,
             "leaves first: who calls what is expensive"),
    CLI_FLAG(struct flame_args, flame, "flame", 0, FLAME,
             "root at the bottom (default: at the top, an icicle; `i` switches)"),
    CLI_STRING(struct flame_args, title, "title", 't', "TEXT", FLAME,
               "title (default: the program)"),
    CLI_REAL(struct flame_args, min_percent, "min-percent", 0, "X", FLAME,
             "leave out frames narrower than X percent (default: none, but of the "
             "heaviest 250,000)"),
    CLI_UINT(struct flame_args, width, "width", 'w', "PIXELS", FLAME,
             "width without script; in a browser it fits the window (default 1200)"),
    PROFILE_FILTER_OPTIONS,
    PROFILE_VALUE_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS,
    PROFILE_DIFF_OPTIONS,
    PROFILE_INPUT_OPTIONS,
};

const struct cli_command cmd_flame = {
    .name = "flame",
    .summary = "draw a flame graph: one SVG file with zoom and search",
    .operands = "[FILE...]",
    .details =
        "A click zooms. Neighbours too narrow to see stand as one grey box: click it to see them;\n"
        "search finds them there, too. Keys: / searches, arrows and Enter walk and zoom, u zooms\n"
        "out one frame, i turns the graph over, Esc resets. Search and zoom stand in the address,\n"
        "so that a view can be linked. On a terminal the output goes to flame.svg (flame-2.svg,\n"
        "where that is there) unless -o says otherwise.\n"
        "\n"
        "With -diff_base the graph has all samples of both profiles. A frame is as wide as what "
        "it\n"
        "has in either: what FILE has, and what only OLD has, which is hatched. Colours say by "
        "how\n"
        "much a frame changed, from blue (shrank) over grey to red (grew).",
    .examples = "  fiberscope flame -o p.svg p.pb.gz\n"
                "  fiberscope flame -inverted -focus=malloc -o m.svg\n"
                "  fiberscope flame -diff_base old.pb.gz -o diff.svg new.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
