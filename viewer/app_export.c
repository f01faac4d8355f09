// SPDX-License-Identifier: MIT
//
// The last frame as a file, or as text for the clipboard.

#include "viewer/app_internal.h"

#include "base/file.h"
#include "viewer/ui/raster.h"
#include "viewer/ui/svg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBERS = 1000 };

int app_write_png(struct app *a, const char *path, struct fscope_error *err)
{
    struct raster r;
    int rc = raster_init(&r, a->list.width, a->list.height);
    if (rc)
        return error_set(err, rc, 0, "%s: no memory for the picture", path);
    raster_frame(&r, &a->list, &a->atlas, a->ui.theme.ground);
    rc = raster_write_png(&r, path, err);
    raster_finish(&r);
    return rc;
}

int app_write_svg(struct app *a, const char *path, struct fscope_error *err)
{
    return svg_write(&a->list, a->ui.theme.ground, path, err);
}

int app_write_text(struct app *a, const char *path, struct fscope_error *err)
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

// The file's name, in the current folder: the file that is shown may lie where nobody writes.
static void name_of(const struct document *d, int number, char *buf, size_t size)
{
    const char *slash = strrchr(d->path, '/'), *name = slash && slash[1] ? slash + 1 : d->path;
    size_t n = strcspn(name, "?#");
    snprintf(buf, size, "%.*s-%s-%d", (int)(n < 200 ? n : 200), name, views[d->view]->id, number);
}

void export_picture(struct app *a)
{
    struct fscope_error err = {0};
    char base[320], png[336], svg[336], here[512];
    if (!a->count || !document_kind(a->documents[a->at]))
        return;
    int number = 0, rc;
    do { // a name that is free
        name_of(a->documents[a->at], ++number, base, sizeof base);
        snprintf(png, sizeof png, "%s.png", base);
        snprintf(svg, sizeof svg, "%s.svg", base);
    } while (number < NUMBERS && (!access(png, F_OK) || !access(svg, F_OK)));
    rc = app_write_png(a, png, &err);
    if (!rc)
        rc = app_write_svg(a, svg, &err);
    if (rc)
        snprintf(a->note, sizeof a->note, "Not saved: %s", err.text);
    else
        snprintf(a->note, sizeof a->note, "Saved %s and .svg in %s", png,
                 getcwd(here, sizeof here) ? here : "the current folder");
}

void export_words(struct app *a)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    draw_words(&a->list, out);
    if (fclose(out) || !size) {
        free(text);
        return;
    }
    free(a->wants.copy);
    a->wants.copy = text;
    size_t lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    snprintf(a->note, sizeof a->note, "Copied %zu line%s", lines, lines == 1 ? "" : "s");
}
