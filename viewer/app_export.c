// SPDX-License-Identifier: MIT
//
// The last frame as a file, or as text for the clipboard.

#include "viewer/app_internal.h"

#include "base/file.h"
#include "viewer/http.h"
#include "viewer/ui/raster.h"
#include "viewer/ui/svg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBERS = 1000, NAME_MAX_BYTES = 200, EXPORT_NAME_MAX = 320 };

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

// The last part of the file's name or address, in the current folder: the file that is shown may lie where nobody writes.
static void name_of(const struct document *d, char *buf, size_t size)
{
    bool is_url = http_is_url(d->path);
    size_t n = is_url ? strcspn(d->path, "?#") : strlen(d->path), begin = n;
    while (begin && d->path[begin - 1] != '/')
        begin--;
    if (begin == n) // a folder's address has no last part
        begin = 0;
    n = n - begin < NAME_MAX_BYTES ? n - begin : NAME_MAX_BYTES;
    snprintf(buf, size, "%.*s-%s", (int)n, d->path + begin, views[d->view]->id);
    for (char *p = buf; *p; p++)
        *p = *p == '/' ? '_' : *p;
}

// Gives a file a name that nothing has. 0 or -errno; -EEXIST: something has it.
static int name_new(const char *from, const char *to)
{
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    // Not every file system knows that. A link replaces nothing either.
    return link(from, to) || unlink(from) ? -errno : 0;
}

// The first number with which both names are free; both files get them.
static int name_both(const char *png, const char *svg, const char *base, char *name, size_t size)
{
    char other[EXPORT_NAME_MAX];
    int rc = -EEXIST;
    for (int i = 1; i <= NUMBERS && rc == -EEXIST; i++) {
        snprintf(name, size, "%s-%d.png", base, i);
        snprintf(other, sizeof other, "%s-%d.svg", base, i);
        rc = name_new(png, name);
        if (!rc && (rc = name_new(svg, other)) != 0 && rename(name, png))
            return -errno;
    }
    return rc;
}

static int export_both(struct app *a, char *name, size_t size, struct fscope_error *err)
{
    char folder[] = ".fiberscope-XXXXXX", png[sizeof folder + 4], svg[sizeof folder + 4];
    char base[EXPORT_NAME_MAX - 16];
    name_of(a->documents[a->at], base, sizeof base);
    if (!mkdtemp(folder))
        return error_set(err, -errno, 0, "%s: %s", base, strerror(errno));
    snprintf(png, sizeof png, "%s/png", folder);
    snprintf(svg, sizeof svg, "%s/svg", folder);
    int rc = app_write_png(a, png, err);
    if (!rc)
        rc = app_write_svg(a, svg, err);
    if (!rc)
        rc = name_both(png, svg, base, name, size);
    if (rc == -EEXIST)
        error_set(err, rc, 0, "%s-1 to -%d are there already", base, NUMBERS);
    else if (rc && !err->code)
        error_set(err, rc, 0, "%s: %s", base, strerror(-rc));
    unlink(png);
    unlink(svg);
    rmdir(folder);
    return rc;
}

void export_picture(struct app *a)
{
    struct fscope_error err = {0};
    char name[EXPORT_NAME_MAX], here[512];
    if (!a->count || !document_kind(a->documents[a->at]))
        return;
    if (export_both(a, name, sizeof name, &err))
        snprintf(a->note, sizeof a->note, "Not saved: %s", err.text);
    else
        snprintf(a->note, sizeof a->note, "Saved %s and .svg in %s", name,
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
