// SPDX-License-Identifier: MIT
//
// fiberscope-view: options, pictures without a display, and the window.

#include "viewer/app.h"

#include "base/file.h"
#include "viewer/range.h"
#include "viewer/ui/raster.h"
#include "viewer/ui/svg.h"
#include "viewer/window.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILURE = 1, USAGE = 2 };

struct settings {
    struct app_options app;
    const char *png, *svg, *text;
    const char *range, *search, *page, *function;
    const char *refine[REFINE_KINDS];
    int width, height;
};

static const char usage[] =
    "usage: fiberscope-view [OPTION ...] FILE\n"
    "Shows an execution trace or a profile. With --png, --svg or --text it needs no display.\n"
    "\n"
    "  --png OUT            write a picture and end\n"
    "  --svg OUT            the same as SVG\n"
    "  --text OUT           the same as text: what is drawn, item by item\n"
    "  --size WxH           of the picture or window (default 1600x900)\n"
    "  --range A..B         of a trace: show from A to B, seconds or with a unit\n"
    "  --sample_index NAME  of a profile: which value\n"
    "  --diff_base FILE     of a profile: compare with this one\n"
    "  --page NAME          of a profile: flame, sandwich, top, tree or source\n"
    "  --function NAME      of a profile: the chosen function, for sandwich and source\n"
    "  --focus REGEX        of a profile: as in `fiberscope top`; also --ignore, --hide, --show\n"
    "  --source_path DIRS   where to look for source files, separated by ':' (default .)\n"
    "  --inverted           of a profile: leaves first\n"
    "  --flame              of a profile: root at the bottom\n"
    "  --search TEXT        of a profile: mark frames with TEXT in their names\n"
    "  --theme dark|light   (default dark)\n"
    "  --scale PERCENT      of letters and all else (default 100)\n"
    "  --font FILE          a font file, or 'builtin' (default: the system's)\n";

static int fail(const char *fmt, ...) FSCOPE_PRINTF(1, 2);
static int fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("fiberscope view: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return FAILURE;
}

static int refuse(const char *what, const char *how)
{
    fail("%s: %s (--help)", what, how);
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
    for (const struct app_key *k = app_keys; k->group; k++) {
        if (k == app_keys || strcmp(k->group, k[-1].group) != 0)
            printf("%s.Ss %s\n.Bl -tag -width Ds\n", k == app_keys ? "" : ".El\n", k->group);
        // A comma or dot alone is punctuation to mdoc: \\& before it makes it a word.
        printf(".It \\&%s\n%s\n", k->keys, k->does);
    }
    puts(".El");
}

// 0, or an exit status after a message.
static int option(struct settings *s, int which, const char *value)
{
    switch (which) {
    case 'p': s->png = value; break;
    case 'v': s->svg = value; break;
    case 't': s->text = value; break;
    case 'r': s->range = value; break;
    case 'I': s->app.sample_type = value; break;
    case 'i': s->app.inverted = true; break;
    case 'u': s->app.upward = true; break;
    case 'e': s->search = value; break;
    case 'b': s->app.diff_base = value; break;
    case 'S': s->app.source_path = value; break;
    case 'P': s->page = value; break;
    case 'F': s->function = value; break;
    case '0':
    case '1':
    case '2':
    case '3': s->refine[which - '0'] = value; break;
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
    case 'c': s->app.scale = atoi(value); break;
    case 'h': fputs(usage, stdout); return -1;
    case 'k': print_keys(); return -1;
    default: return USAGE; // getopt has said why
    }
    return 0;
}

static int parse(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"png", required_argument, NULL, 'p'},
        {"svg", required_argument, NULL, 'v'},
        {"text", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 's'},
        {"range", required_argument, NULL, 'r'},
        {"sample_index", required_argument, NULL, 'I'},
        {"diff_base", required_argument, NULL, 'b'},
        {"source_path", required_argument, NULL, 'S'},
        {"page", required_argument, NULL, 'P'},
        {"function", required_argument, NULL, 'F'},
        {"focus", required_argument, NULL, '0' + REFINE_FOCUS},
        {"ignore", required_argument, NULL, '0' + REFINE_IGNORE},
        {"hide", required_argument, NULL, '0' + REFINE_HIDE},
        {"show", required_argument, NULL, '0' + REFINE_SHOW},
        {"inverted", no_argument, NULL, 'i'},
        {"flame", no_argument, NULL, 'u'},
        {"search", required_argument, NULL, 'e'},
        {"theme", required_argument, NULL, 'm'},
        {"scale", required_argument, NULL, 'c'},
        {"font", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {"keys", no_argument, NULL, 'k'}, // for the man page
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long_only(argc, argv, "", options, NULL)) != -1;) {
        int status = option(s, c, optarg);
        if (status)
            return status;
    }
    if (optind + 1 != argc)
        return refuse("FILE", "name one trace or profile");
    s->app.path = argv[optind];
    return 0;
}

static int set_range(struct app *a, const char *text)
{
    double begin, end;
    if (!a->trace)
        return refuse("--range", "only a trace has times");
    const char *wrong = range_parse(text, &begin, &end);
    if (wrong)
        return refuse("--range", wrong);
    if (begin >= (double)(a->trace->end_ns - a->trace->begin_ns))
        return refuse("--range", "the trace is over before it begins");
    timeline_show(&a->timeline, begin, end);
    return 0;
}

static int write_text(const struct app *a, const char *path, struct fscope_error *err)
{
    struct file_replace f;
    int rc = file_begin(&f, path, err);
    if (rc)
        return rc;
    FILE *out = fdopen(dup(f.fd), "w");
    if (out)
        draw_dump(&a->list, out);
    if (!out || ferror(out) | fclose(out)) {
        rc = error_set(err, errno ? -errno : -EIO, 0, "%s: %s", path, strerror(errno));
        file_abort(&f);
        return rc;
    }
    return file_commit(&f, err);
}

static int write_png(struct app *a, const char *path, struct fscope_error *err)
{
    struct raster r;
    int rc = raster_init(&r, a->list.width, a->list.height);
    if (rc)
        return error_set(err, rc, 0, "%s: no memory for the picture", path);
    raster_clear(&r, a->ui.theme.ground);
    raster_draw(&r, &a->list, &a->atlas);
    rc = raster_write_png(&r, path, err);
    raster_finish(&r);
    return rc;
}

static int write_pictures(struct app *a, const struct settings *s)
{
    struct fscope_error err = {0};
    int rc = 0;
    app_frame(a, s->width, s->height, NULL);
    if (a->list.failed || a->timeline.failed)
        return fail("out of memory");
    if (s->png)
        rc = write_png(a, s->png, &err);
    if (s->svg && !rc)
        rc = svg_write(&a->list, a->ui.theme.ground, s->svg, &err);
    if (s->text && !rc)
        rc = write_text(a, s->text, &err);
    return rc ? fail("%s", err.text) : 0;
}

// What is shown of a profile. 0 or an exit status.
static int set_profile(struct app *a, const struct settings *s)
{
    struct fscope_error err = {0};
    char text[4096];
    bool any = s->search || s->page || s->function;
    for (int i = 0; i < REFINE_KINDS; i++)
        any |= s->refine[i] != NULL;
    if (!any)
        return 0;
    if (!a->profiles.model)
        return refuse(s->search ? "--search" : "--page, --function, --focus",
                      "only a profile has frames");
    for (int i = 0; i < REFINE_KINDS; i++) {
        if (!s->refine[i])
            continue;
        snprintf(text, sizeof text, "%s=%s", refine_names[i], s->refine[i]);
        if (profiles_refine(&a->profiles, text, &err))
            return fail("%s", err.text);
    }
    if (s->search)
        flame_find(&a->profiles.flame, s->search);
    if (s->function && !profiles_choose(&a->profiles, s->function))
        return fail("%s: no such function in it", s->function);
    if (!s->page)
        return 0;
    int page = profiles_page_of(s->page);
    if (page < 0)
        return refuse("--page", "flame, sandwich, top, tree or source");
    profiles_show(&a->profiles, page);
    return 0;
}

static int run(struct app *a, const struct settings *s)
{
    struct fscope_error err = {0};
    if (file_keep_path(s->app.path) || (s->app.diff_base && file_keep_path(s->app.diff_base)))
        return fail("out of memory");
    if (app_open(a, &s->app, &err))
        return fail("%s", err.text);
    int status = s->range ? set_range(a, s->range) : 0;
    if (!status)
        status = set_profile(a, s);
    if (status)
        return status;
    if (s->png || s->svg || s->text)
        return write_pictures(a, s);
    return window_run(a, s->width, s->height, &err) ? fail("%s", err.text) : 0;
}

int main(int argc, char **argv)
{
    struct settings s = {.app.scale = 100, .width = 1600, .height = 900};
    static struct app app;
    int status = parse(&s, argc, argv);
    if (status)
        return status < 0 ? 0 : status;
    status = run(&app, &s);
    app_close(&app);
    return status;
}
