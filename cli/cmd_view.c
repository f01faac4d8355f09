// SPDX-License-Identifier: MIT
//
// fiberscope view: starts fiberscope-view, which is a program of its own, so that the command needs no
// graphics library.

#include "cli/options.h"
#include "cli/viewer_program.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct settings {
    const char *render, *out, *png, *svg, *text, *size, *range, *sample_index, *search, *press,
        *theme, *scale, *font;
    const char *region, *task;
    const char *diff_base, *source_path, *function, *focus, *ignore, *hide, *show;
    bool inverted, flame, software;
};

enum { FILES_MAX = 16, ARGUMENTS_MAX = 64 + FILES_MAX };

struct arguments {
    char *items[ARGUMENTS_MAX]; // NULL behind the last
    int count;
};

static void put(struct arguments *a, const char *name, const char *value)
{
    if (!value)
        return;
    a->items[a->count++] = (char *)(uintptr_t)name; // exec changes nothing
    a->items[a->count++] = (char *)(uintptr_t)value;
}

static void collect(struct arguments *a, const struct settings *s, char **files, int count)
{
    *a = (struct arguments){.items = {(char *)(uintptr_t) "fiberscope-view"}, .count = 1};
    put(a, "--render", s->render);
    put(a, "-o", s->out);
    put(a, "--png", s->png);
    put(a, "--svg", s->svg);
    put(a, "--text", s->text);
    put(a, "--size", s->size);
    put(a, "--range", s->range);
    put(a, "--region", s->region);
    put(a, "--task", s->task);
    put(a, "--sample_index", s->sample_index);
    put(a, "--search", s->search);
    put(a, "--press", s->press);
    put(a, "--diff_base", s->diff_base);
    put(a, "--source_path", s->source_path);
    put(a, "--function", s->function);
    put(a, "--focus", s->focus);
    put(a, "--ignore", s->ignore);
    put(a, "--hide", s->hide);
    put(a, "--show", s->show);
    put(a, "--theme", s->theme);
    put(a, "--scale", s->scale);
    put(a, "--font", s->font);
    if (s->inverted)
        a->items[a->count++] = (char *)(uintptr_t) "--inverted";
    if (s->flame)
        a->items[a->count++] = (char *)(uintptr_t) "--flame";
    if (s->software)
        a->items[a->count++] = (char *)(uintptr_t) "--software";
    a->items[a->count++] = (char *)(uintptr_t) "--";
    for (int i = 0; i < count; i++)
        a->items[a->count++] = files[i];
}

static int run(void *settings, int argc, char **argv)
{
    struct arguments a;
    char path[VIEWER_PATH_MAX];
    if (argc < 1 || argc > FILES_MAX)
        return cli_usage("name a trace or a profile, or up to %d", FILES_MAX);
    collect(&a, settings, argv, argc);
    if (!viewer_program(path)) {
        execv(path, a.items);
        return cli_fail("%s: %s", path, strerror(errno));
    }
    return cli_fail("fiberscope-view is not there, neither in %s: the package of that name has it; "
                    "built from source it needs libsdl2-dev libfreetype-dev libfontconfig-dev "
                    "libpng-dev. `fiberscope report`, `fiberscope flame` and `fiberscope trace` do "
                    "without",
                    path);
}

#define PICTURE "Picture"
#define SHOWN   "What is shown"
static const struct settings defaults;
static const struct cli_option options[] = {
    CLI_STRING(
        struct settings, render, "render", 0, "VIEW", PICTURE,
        "with -o: draw that view; without, the window begins with it. timeline, also with a panel: "
        "stacks statistics fibers critical explain latency; of a profile icicle flame sandwich top "
        "tree source"),
    CLI_STRING(struct settings, out, "o", 0, "OUT", PICTURE,
               "draw into OUT, a name that ends in .png or .svg, without a display, and end"),
    CLI_STRING(struct settings, png, "png", 0, "OUT", PICTURE,
               "the same as PNG, whatever its name; with --svg and --text of one frame"),
    CLI_STRING(struct settings, svg, "svg", 0, "OUT", PICTURE, "the same as SVG"),
    CLI_STRING(struct settings, text, "text", 0, "OUT", PICTURE,
               "the same as text: what is drawn where, a line an item"),
    CLI_STRING(struct settings, size, "size", 0, "WxH", PICTURE,
               "pixels of the picture or the window (default 1600x900)"),
    CLI_STRING(
        struct settings, press, "press", 0, "KEYS", PICTURE,
        "what is pressed before the picture is drawn, keys as the help has them: \"Alt+6 Tab "
        "Right\"; X,Y is a click there, X,Y-X,Y a drag"),
    CLI_CHOICE(struct settings, theme, "theme", 0, "WORD", PICTURE, "dark (default) or light",
               "dark light"),
    CLI_STRING(struct settings, scale, "scale", 0, "PERCENT", PICTURE,
               "size of letters and all else (default 100)"),
    CLI_FLAG(struct settings, software, "software", 0, PICTURE,
             "draw by the processor alone, without the screen's driver"),
    CLI_STRING(struct settings, font, "font", 0, "FILE", PICTURE,
               "a font file, or \"builtin\" (default: the system's)"),
    CLI_STRING(struct settings, range, "range", 0, "A..B", SHOWN,
               "of a trace: from A to B after its beginning, in seconds or as 500ms"),
    CLI_STRING(struct settings, region, "region", 0, "NAME", SHOWN,
               "of a trace: latencies of the regions of this name"),
    CLI_STRING(struct settings, task, "task", 0, "NAME", SHOWN,
               "of a trace: latencies of the tasks of this name"),
    CLI_STRING(struct settings, sample_index, "sample_index", 'I', "NAME", SHOWN,
               "of a profile: which value of a sample, by its name or number"),
    CLI_FLAG(struct settings, inverted, "inverted", 0, SHOWN,
             "of a profile: leaves first, who calls what is expensive"),
    CLI_FLAG(struct settings, flame, "flame", 0, SHOWN, "of a profile: root at the bottom"),
    CLI_STRING(struct settings, search, "search", 0, "TEXT", SHOWN,
               "of a profile: mark the frames whose names have TEXT in them"),
    CLI_STRING(struct settings, diff_base, "diff_base", 0, "OLD", SHOWN,
               "of a profile: compare it with OLD"),
    CLI_STRING(struct settings, function, "function", 0, "NAME", SHOWN,
               "of a profile: the function that is chosen, for sandwich and source"),
    CLI_STRING(struct settings, focus, "focus", 0, "REGEX", SHOWN,
               "of a profile: only stacks with a matching frame, as in `fiberscope top`"),
    CLI_STRING(struct settings, ignore, "ignore", 0, "REGEX", SHOWN,
               "of a profile: no stacks with a matching frame"),
    CLI_STRING(struct settings, hide, "hide", 0, "REGEX", SHOWN,
               "of a profile: leave matching frames out"),
    CLI_STRING(struct settings, show, "show", 0, "REGEX", SHOWN,
               "of a profile: leave other frames out"),
    CLI_STRING(struct settings, source_path, "source_path", 0, "DIRS", SHOWN,
               "folders, separated by ':', with source files that are not where the profile says "
               "(default: this one)"),
};

const struct cli_command cmd_view = {
    .name = "view",
    .summary = "show a trace or a profile in a window, or draw it",
    .operands = "FILE|URL ...",
    .details =
        "A trace is shown as a timeline of its Procs; a profile as a flame graph, a sandwich of "
        "callers\n"
        "and callees, tables of its functions and calls, and its source; several have tabs.\n"
        "A trace's kernel trace (record --trace --kernel) is shown with it: the one of its name, "
        "or\n"
        "one that is named beside it.\n"
        "URL is http://HOST:PORT/debug/pprof/... Press ? for the keys. With -o, --png, --svg or\n"
        "--text no display is needed.",
    .examples = "  fiberscope view app.trace\n"
                "  fiberscope view --region request app.trace\n"
                "  fiberscope view --render timeline -o now.png --range 0.5..0.75 app.trace\n"
                "  fiberscope view --svg heap.svg --sample_index inuse_space heap.pb.gz\n"
                "  fiberscope view --diff_base old.pb.gz --render top -o x.png new.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
