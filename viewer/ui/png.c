// SPDX-License-Identifier: MIT
//
// Pixels to a PNG file. See raster.h.

#include "viewer/ui/raster.h"

#include "base/file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

struct sink {
    int fd, rc;
};

static void sink_write(png_structp png, png_bytep bytes, size_t n)
{
    struct sink *s = png_get_io_ptr(png);
    s->rc = file_write_all(s->fd, bytes, n);
    if (s->rc)
        png_error(png, "write");
}

static void sink_flush(png_structp png)
{
    (void)png;
}

// libpng prints nothing for us: the caller says what failed.
static void quiet_error(png_structp png, png_const_charp what)
{
    (void)what;
    longjmp(*png_set_longjmp_fn(png, longjmp, sizeof(jmp_buf)), 1);
}

static void quiet_warning(png_structp png, png_const_charp what)
{
    (void)png;
    (void)what;
}

// What may jump: nothing here changes after setjmp that is looked at when it returns again.
static int encode(const struct raster *r, png_structp png, png_infop info, png_bytep row)
{
    if (setjmp(*png_set_longjmp_fn(png, longjmp, sizeof(jmp_buf))))
        return -EIO;
    png_set_IHDR(png, info, (png_uint_32)r->width, (png_uint_32)r->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
    png_set_compression_level(png, 6);
    png_write_info(png, info);
    for (int y = 0; y < r->height; y++) {
        const uint32_t *from = r->pixels + (size_t)y * r->stride;
        for (int x = 0; x < r->width; x++) {
            row[3 * x] = (png_byte)(from[x] >> 16);
            row[3 * x + 1] = (png_byte)(from[x] >> 8);
            row[3 * x + 2] = (png_byte)from[x];
        }
        png_write_row(png, row);
    }
    png_write_end(png, info);
    return 0;
}

static int write_to(const struct raster *r, int fd)
{
    struct sink s = {.fd = fd};
    int rc = -ENOMEM;
    png_bytep row = malloc((size_t)r->width * 3);
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, quiet_error, quiet_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (row && info) {
        png_set_write_fn(png, &s, sink_write, sink_flush);
        rc = encode(r, png, info, row);
        if (rc && s.rc)
            rc = s.rc;
    }
    png_destroy_write_struct(png ? &png : NULL, info ? &info : NULL);
    free(row);
    return rc;
}

int raster_write_png(const struct raster *r, const char *path, struct fscope_error *err)
{
    struct file_replace f;
    int rc = file_begin(&f, path, err);
    if (rc)
        return rc;
    rc = write_to(r, f.fd);
    if (!rc)
        return file_commit(&f, err);
    file_abort(&f);
    return error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
}
