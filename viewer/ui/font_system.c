// SPDX-License-Identifier: MIT
//
// Fonts of the system: FreeType draws them, fontconfig finds them. See font.h.

#include "viewer/ui/font_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fontconfig/fontconfig.h>
#include <ft2build.h>
#include FT_FREETYPE_H

enum { SIZE_MIN = 4, SIZE_MOST = 200 };

struct outline {
    FT_Library library;
    FT_Face face;
};

static void outline_close(void *source)
{
    struct outline *o = source;
    if (o->face)
        FT_Done_Face(o->face);
    if (o->library)
        FT_Done_FreeType(o->library);
    free(o);
}

// 26.6 fixed point to whole pixels.
static int pixels(FT_Pos v)
{
    return (int)((v + 32) >> 6);
}

static const uint8_t *outline_draw(void *source, uint32_t code, struct glyph *g, size_t *stride)
{
    struct outline *o = source;
    FT_UInt index = FT_Get_Char_Index(o->face, code);
    if (!index)
        index = FT_Get_Char_Index(o->face, UTF8_BROKEN); // 0 again: the face's own box
    if (FT_Load_Glyph(o->face, index, FT_LOAD_RENDER | FT_LOAD_TARGET_LIGHT))
        return NULL;
    const FT_GlyphSlot slot = o->face->glyph;
    int advance = pixels(slot->advance.x);
    g->advance = (int16_t)(advance < 0 ? 0 : advance > INT16_MAX ? INT16_MAX : advance);
    const FT_Bitmap *b = &slot->bitmap;
    // Sizes are bounded, so these are small; a face that is not outlines may give other pixels.
    if (b->pixel_mode != FT_PIXEL_MODE_GRAY || b->pitch <= 0 || b->width > UINT16_MAX ||
        b->rows > UINT16_MAX)
        return NULL;
    g->w = (uint16_t)b->width;
    g->h = (uint16_t)b->rows;
    g->left = (int16_t)slot->bitmap_left;
    g->top = (int16_t)slot->bitmap_top;
    *stride = (size_t)b->pitch;
    return b->buffer;
}

static const struct font_source outline_source = {.draw = outline_draw, .close = outline_close};

static int open_face(struct outline *o, const char *path, int face, int size,
                     struct fscope_error *err)
{
    if (FT_Init_FreeType(&o->library))
        return error_set(err, -ENOMEM, 0, "%s: FreeType does not start", path);
    int rc = FT_New_Face(o->library, path, face, &o->face);
    if (rc == FT_Err_Cannot_Open_Resource)
        return error_set(err, -ENOENT, 0, "%s: cannot be opened", path);
    if (rc)
        return error_set(err, -EINVAL, 0, "%s: not a font that FreeType reads (error %d)", path,
                         rc);
    if (!FT_IS_SCALABLE(o->face))
        return error_set(err, -EINVAL, 0, "%s: a bitmap font, which has no size %d", path, size);
    if (FT_Set_Pixel_Sizes(o->face, 0, (FT_UInt)size))
        return error_set(err, -EINVAL, 0, "%s: the font has no size %d", path, size);
    return 0;
}

int font_open(struct font **out, struct atlas *a, const char *path, int face, int size,
              struct fscope_error *err)
{
    *out = NULL;
    if (size < SIZE_MIN || size > SIZE_MOST || face < 0)
        return error_set(err, -EINVAL, 0, "%s: fonts have %d to %d pixels, not %d", path, SIZE_MIN,
                         SIZE_MOST, size);
    struct outline *o = calloc(1, sizeof *o);
    if (!o)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    int rc = open_face(o, path, face, size, err);
    if (rc) {
        outline_close(o);
        return rc;
    }
    const FT_Size_Metrics *m = &o->face->size->metrics;
    int ascent = pixels(m->ascender), height = ascent - pixels(m->descender);
    const char *name = o->face->family_name ? o->face->family_name : "?";
    rc = font_new(out, a, name, &outline_source, o);
    if (rc)
        return error_set(err, rc, 0, "%s: out of memory", path);
    (*out)->size = size;
    (*out)->ascent = ascent;
    (*out)->height = height > 0 ? height : size;
    return 0;
}

int font_system(struct font **out, struct atlas *a, const char *family, int size,
                struct fscope_error *err)
{
    FcChar8 *path;
    FcResult found = FcResultNoMatch;
    int face = 0, rc = -ENOENT;
    *out = NULL;
    FcConfig *config = FcInitLoadConfigAndFonts();
    FcPattern *pattern = FcPatternBuild(NULL, FC_FAMILY, FcTypeString, family, FC_SCALABLE,
                                        FcTypeBool, FcTrue, (char *)NULL);
    FcPattern *match = NULL;
    if (config && pattern) {
        FcConfigSubstitute(config, pattern, FcMatchPattern);
        FcDefaultSubstitute(pattern);
        match = FcFontMatch(config, pattern, &found);
    }
    if (match && FcPatternGetString(match, FC_FILE, 0, &path) == FcResultMatch) {
        FcPatternGetInteger(match, FC_INDEX, 0, &face);
        rc = font_open(out, a, (const char *)path, face & 0xffff, size, err);
    } else {
        error_set(err, rc, 0, "no font for '%s' is installed (fonts-dejavu-core has some)", family);
    }
    if (match)
        FcPatternDestroy(match);
    if (pattern)
        FcPatternDestroy(pattern);
    if (config)
        FcConfigDestroy(config);
    return rc;
}
