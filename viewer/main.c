// SPDX-License-Identifier: MIT
//
// fiberscope-view: options, pictures without a display, and the window.

#include "viewer/app.h"

#include "base/utf8.h"
#include "base/file.h"
#include "viewer/http.h"
#include "viewer/panels/panel_latency.h"
#include "viewer/press.h"
#include "viewer/range.h"
#include "viewer/ui/raster.h"
#include "viewer/views/refine.h"
#include "viewer/window.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILURE = 1, USAGE = 2, FRAMES = 4 };

struct settings {
    struct app_options app;
    const char *png, *svg, *text;
    const char *range, *press;
    char **files;
    int count, width, height;
    bool software;
    bool given[128]; // by the options' letters
};

static const char usage[] =
    "usage: fiberscope-view [OPTION ...] FILE|URL ...\n"
    "Shows execution traces and profiles; a trace and its kernel trace together.\n"
    "With -o, --png, --svg or --text it needs no display.\n"
    "\n"
    "  --render VIEW        the view: timeline; of a profile icicle flame sandwich top tree "
    "source;\n"
    "                       of a trace with a panel beneath it: stacks statistics fibers critical\n"
    "                       explain latency\n"
    "  -o OUT               write a picture and end: PNG or SVG, by the name's end\n"
    "  --png OUT            the same as PNG, whatever the name\n"
    "  --svg OUT            the same as SVG\n"
    "  --text OUT           the same as text: what is drawn, item by item\n"
    "  --size WxH           of the picture or window (default 1600x900)\n"
    "  --range A..B         of a trace: show from A to B, seconds or with a unit\n"
    "  --region, --task NAME  of a trace: what latency and explain are of\n"
    "  --sample_index NAME  of a profile: which value\n"
    "  --diff_base FILE     of a profile: compare with this one\n"
    "  --function NAME      of a profile: the chosen function, for sandwich and source\n"
    "  --focus REGEX        of a profile: as in `fiberscope top`; also --ignore, --hide, --show\n"
    "  --source_path DIRS   where to look for source files, separated by ':' (default .)\n"
    "  --inverted           of a profile: leaves first\n"
    "  --flame              of a profile: root at the bottom\n"
    "  --search TEXT        of a profile: mark frames with TEXT in their names\n"
    "  --press KEYS         of a picture: pressed before, 'Alt+6 Tab Right'; X,Y clicks there\n"
    "  --theme dark|light   (default dark)\n"
    "  --scale PERCENT      of letters and all else (default 100)\n"
    "  --software           draw by the processor alone, without the screen's driver\n"
    "  --font FILE          a font file, or 'builtin' (default: the system's)\n"
    "  --version            which version this is, and end\n";

static int fail(const char *fmt, ...) FSCOPE_PRINTF(1, 2);
static int fail(const char *fmt, ...)
{
    char text[4096]; // what names, servers and files say goes into messages
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    utf8_mask_controls(text, "\t\n");
    fprintf(stderr, "fiberscope view: %s\n", text);
    return FAILURE;
}

static int refuse(const char *what, const char *how)
{
    fail("%s: %s (--help)", what, how);
    return USAGE;
}

static int refuse_view(const char *id)
{
    char text[512] = "there are";
    for (int i = 0; views[i]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %s", views[i]->id);
    fail("--render: no view %s; %s (--help)", id, text);
    return USAGE;
}

static bool read_size(const char *text, int *width, int *height)
{
    char after;
    return sscanf(text, "%dx%d%c", width, height, &after) == 2 && *width > 0 && *height > 0 &&
           *width <= RASTER_SIZE_MAX && *height <= RASTER_SIZE_MAX;
}

// As mdoc: one list for each group.
static void print_keys(void)
{
    char keys[COMMAND_KEYS_TEXT];
    for (const struct command *c = commands; c->help; c++) {
        if (c == commands || command_group(c) != command_group(c - 1))
            printf("%s.Ss %s\n.Bl -tag -width Ds\n", c == commands ? "" : ".El\n",
                   command_group(c));
        // A comma or dot alone is punctuation to mdoc: \\& before it makes it a word.
        printf(".It \\&%s\n%s\n", command_keys(c, keys), c->help);
    }
    puts(".El");
}

// -o goes by the name.
static int output(struct settings *s, const char *value)
{
    const char *slash = strrchr(value, '/'), *dot = strrchr(slash ? slash : value, '.');
    if (dot && !strcasecmp(dot, ".svg"))
        s->svg = value;
    else if (dot && !strcasecmp(dot, ".png"))
        s->png = value;
    else
        return refuse("-o", "a name that ends in .png or .svg; --png, --svg and --text take any");
    return 0;
}

static int read_scale(struct settings *s, const char *value)
{
    char after;
    if (sscanf(value, "%d%c", &s->app.scale, &after) == 1)
        return 0;
    return refuse("--scale", "a percentage, such as 150");
}

// 0, or an exit status after a message.
static int option(struct settings *s, int which, const char *value)
{
    if (which > 0 && which < (int)sizeof s->given)
        s->given[which] = true;
    switch (which) {
    case 'p': s->png = value; break;
    case 'v': s->svg = value; break;
    case 't': s->text = value; break;
    case 'r': s->range = value; break;
    case 'I': s->app.sample_type = value; break;
    case 'i': s->app.inverted = true; break;
    case 'u': s->app.view = "flame"; break;
    case 'V': s->app.view = value; break;
    case 'w': s->software = true; break;
    case 'o': return output(s, value);
    case 'e': s->app.search = value; break;
    case 'P': s->press = value; break;
    case 'R': s->app.region = value; break;
    case 'T': s->app.task = value; break;
    case 'b': s->app.diff_base = value; break;
    case 'S': s->app.source_path = value; break;
    case 'F': s->app.function = value; break;
    case '0':
    case '1':
    case '2':
    case '3': s->app.refine[which - '0'] = value; break;
    case 'f': s->app.font = value; break;
    case 's':
        if (!read_size(value, &s->width, &s->height))
            return refuse("--size", "1x1 to 16384x16384, such as 1600x900");
        break;
    case 'm':
        s->app.light = !strcmp(value, "light");
        if (!s->app.light && strcmp(value, "dark") != 0)
            return refuse("--theme", "dark or light");
        break;
    case 'c': return read_scale(s, value);
    case 'h': fputs(usage, stdout); return -1;
    case 'k': print_keys(); return -1;
    case 'n': puts("fiberscope-view " FSCOPE_VERSION); return -1;
    default: return USAGE; // getopt has said why
    }
    return 0;
}

static int parse(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"render", required_argument, NULL, 'V'},
        {"o", required_argument, NULL, 'o'},
        {"png", required_argument, NULL, 'p'},
        {"svg", required_argument, NULL, 'v'},
        {"text", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 's'},
        {"range", required_argument, NULL, 'r'},
        {"sample_index", required_argument, NULL, 'I'},
        {"diff_base", required_argument, NULL, 'b'},
        {"source_path", required_argument, NULL, 'S'},
        {"function", required_argument, NULL, 'F'},
        {"focus", required_argument, NULL, '0' + REFINE_FOCUS},
        {"ignore", required_argument, NULL, '0' + REFINE_IGNORE},
        {"hide", required_argument, NULL, '0' + REFINE_HIDE},
        {"show", required_argument, NULL, '0' + REFINE_SHOW},
        {"inverted", no_argument, NULL, 'i'},
        {"flame", no_argument, NULL, 'u'},
        {"search", required_argument, NULL, 'e'},
        {"region", required_argument, NULL, 'R'},
        {"task", required_argument, NULL, 'T'},
        {"theme", required_argument, NULL, 'm'},
        {"scale", required_argument, NULL, 'c'},
        {"font", required_argument, NULL, 'f'},
        {"software", no_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},
        {"h", no_argument, NULL, 'h'}, // else it may be --hide, too
        {"version", no_argument, NULL, 'n'},
        {"keys", no_argument, NULL, 'k'}, // for the man page
        {"press", required_argument, NULL, 'P'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long_only(argc, argv, "", options, NULL)) != -1;) {
        int status = option(s, c, optarg);
        if (status)
            return status;
    }
    if (optind == argc)
        return refuse("FILE", "name a trace or a profile");
    if (argc - optind > APP_FILES_MAX)
        return refuse("FILE", "at most 16 at once");
    s->files = argv + optind;
    s->count = argc - optind;
    return 0;
}

// What is given of the other kind of file is a mistake.
static int check_kind(const struct document *d, const struct settings *s)
{
    static const struct {
        const char *name;
        char which;
        bool of_trace;
    } options[] = {
        {"--range", 'r', true},     {"--region", 'R', true},        {"--task", 'T', true},
        {"--search", 'e', false},   {"--sample_index", 'I', false}, {"--diff_base", 'b', false},
        {"--function", 'F', false}, {"--source_path", 'S', false},  {"--inverted", 'i', false},
        {"--flame", 'u', false},    {"--focus", '0', false},        {"--ignore", '1', false},
        {"--hide", '2', false},     {"--show", '3', false},
    };
    _Static_assert(REFINE_FOCUS == 0 && REFINE_IGNORE == 1 && REFINE_HIDE == 2 && REFINE_SHOW == 3,
                   "letters of the table");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (s->given[(int)options[i].which] && options[i].of_trace != (d->trace != NULL))
            return refuse(options[i].name, d->trace ? "only of a profile, and this is a trace"
                                                    : "only of a trace, and this is a profile");
    return 0;
}

static int check_range(const struct document *d, const struct settings *s)
{
    if (!s->range)
        return 0;
    if (d->shown.begin_ns >= (double)(d->trace->end_ns - d->trace->begin_ns))
        return refuse("--range", "the trace is over before it begins");
    return 0;
}

static int check_instances(const struct document *d, const struct settings *s)
{
    const char *name = s->app.task ? s->app.task : s->app.region;
    if (!name)
        return 0;
    if (s->app.task && s->app.region)
        return refuse("--task", "there is a --region: one name");
    if (panel_latency_has(d->trace, name, s->app.task))
        return 0;
    return fail("%s: no %s \"%s\" in it", s->files[0], s->app.task ? "task" : "region", name);
}

static int draw(struct app *a, const struct settings *s)
{
    struct fscope_error err = {0};
    int rc = 0;
    for (int i = 0; i < FRAMES && (!i || a->ui.again); i++)
        app_frame(a, s->width, s->height, NULL);
    if (a->list.failed || a->documents[0]->failed)
        return fail("out of memory");
    if (s->png)
        rc = app_write_png(a, s->png, &err);
    if (s->svg && !rc)
        rc = app_write_svg(a, s->svg, &err);
    if (s->text && !rc)
        rc = app_write_text(a, s->text, &err);
    return rc ? fail("%s", err.text) : 0;
}

// A picture of one file, or of a trace and its kernel trace.
static int picture(struct app *a, const struct settings *s)
{
    struct fscope_error err = {0};
    for (int i = 0; i < s->count; i++)
        if (!http_is_url(s->files[i]) && file_keep_path(s->files[i]))
            return fail("out of memory");
    if (s->app.diff_base && file_keep_path(s->app.diff_base))
        return fail("out of memory");
    if (s->count > 2)
        return refuse("FILE", "a picture is of one file, or of a trace and a kernel trace");
    if (app_init(a, &s->app, &err) || app_add_all(a, s->files, s->count, &err))
        return fail("%s", err.text);
    if (a->count != 1)
        return refuse("FILE", "a picture is of one file, or of a trace and a kernel trace");
    int status = check_kind(a->documents[0], s);
    status = status ? status : check_range(a->documents[0], s);
    status = status ? status : check_instances(a->documents[0], s);
    if (status)
        return status;
    int rc = app_show(a, s->app.view, &err);
    if (rc)
        return rc == -ENOENT ? refuse("--render", err.text) : fail("%s", err.text);
    if (s->press && press(a, s->press, s->width, s->height))
        return refuse("--press",
                      "keys as `?` has them, 'Alt+6 Tab Right'; X,Y clicks, X,Y-X,Y drags");
    return draw(a, s);
}

static int run(struct app *a, struct settings *s)
{
    struct fscope_error err = {0};
    if (s->range) {
        const char *wrong = range_parse(s->range, &s->app.shown.begin_ns, &s->app.shown.end_ns);
        if (wrong)
            return refuse("--range", wrong);
    }
    if (s->app.view && view_find(s->app.view) < 0)
        return refuse_view(s->app.view);
    if (s->press && !s->png && !s->svg && !s->text)
        return refuse("--press", "only of a picture: a window has a keyboard");
    if (s->png || s->svg || s->text)
        return picture(a, s);
    struct window_options w = {.width = s->width, .height = s->height, .software = s->software};
    return window_run(a, &s->app, s->files, s->count, &w, &err) ? fail("%s", err.text) : 0;
}

int main(int argc, char **argv)
{
    struct settings s = {.app.scale = 100, .width = 1600, .height = 900};
    static struct app app;
    // Else the first large array that is given back makes malloc keep what others give back later.
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    int status = parse(&s, argc, argv);
    if (status)
        return status < 0 ? 0 : status;
    status = run(&app, &s);
    app_close(&app);
    return status;
}
