// SPDX-License-Identifier: MIT
//
// Fonts: UTF-8 as the standard says, glyphs that stay right in an atlas that is too small for them,
// the system's fonts.

#include "viewer/ui/font.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

static void decodes_to(const char *bytes, size_t n, const uint32_t *codes)
{
    const char *p = bytes;
    uint32_t code;
    while ((code = utf8_next(&p, bytes + n)))
        assert_int_equal(code, *codes++);
    assert_int_equal(*codes, 0);
    assert_ptr_equal(p, bytes + n);
}
#define DECODES(text, ...) decodes_to(text, sizeof(text) - 1, (const uint32_t[]){__VA_ARGS__, 0})

static void utf8_is_read_and_broken_bytes_are_replaced(void **state)
{
    (void)state;
    enum { BAD = 0xfffd };
    DECODES("aZ~", 'a', 'Z', '~');
    DECODES("\xc3\xa4\xe2\x86\x92\xf0\x9f\x8e\x88", 0xe4, 0x2192, 0x1f388);
    DECODES("\xf4\x8f\xbf\xbf\xf4\x90\x80\x80", 0x10ffff, BAD, BAD, BAD, BAD); // beyond Unicode
    DECODES("\xc0\xaf\xc1\x81", BAD, BAD, BAD, BAD); // overlong '/' and 'A'
    DECODES("\xe0\x80\xaf\xf0\x80\x80\xaf", BAD, BAD, BAD, BAD, BAD, BAD, BAD);
    DECODES("\xed\xa0\x80", BAD, BAD, BAD); // half of a surrogate pair
    DECODES("\xc3(", BAD, '(');             // the tail is missing
    DECODES("x\xe2\x86", 'x', BAD, BAD);    // the text ends inside
    DECODES("\x80\xff\xfe\xf8", BAD, BAD, BAD, BAD);
    DECODES("\t\n\x7f\xc2\x85", BAD, BAD, BAD, BAD); // control characters
    DECODES("a\0b", 'a', BAD, 'b');
}

// The glyph as rows of text, out of the atlas.
static const char *picture(const struct atlas *a, const struct glyph *g)
{
    static char text[4096];
    size_t at = 0;
    for (int y = 0; y < g->h; y++) {
        for (int x = 0; x < g->w; x++) {
            uint8_t c = a->coverage[(g->y + y) * a->width + g->x + x];
            assert_true(c == 0 || c == 255);
            text[at++] = c ? '#' : '.';
        }
        text[at++] = '\n';
    }
    text[at] = 0;
    return text;
}

static void the_builtin_font_is_a_bitmap(void **state)
{
    (void)state;
    struct atlas a;
    struct font *f, *large;
    assert_int_equal(atlas_init(&a, 256, 256), 0);
    assert_int_equal(font_builtin(&f, &a, 1), 0);
    assert_int_equal(font_builtin(&large, &a, 2), 0);
    assert_int_equal(font_builtin(&(struct font *){0}, &a, 9), -EINVAL);
    assert_string_equal(picture(&a, font_glyph(f, 'g')), ".....\n.....\n.####\n#...#\n#...#\n"
                                                         ".####\n....#\n....#\n.###.\n");
    const struct glyph *dot = font_glyph(large, '.');
    assert_string_equal(picture(&a, dot),
                        "..........\n..........\n..........\n..........\n..........\n"
                        "..........\n..........\n..........\n..........\n..........\n"
                        "..####....\n..####....\n..####....\n..####....\n"
                        "..........\n..........\n..........\n..........\n");
    assert_int_equal(dot->top, 14);
    assert_int_equal(dot->advance, 12);
    assert_int_equal(font_height(large), 22);
    // What it does not have is U+FFFD, and so are broken bytes.
    char broken[4096];
    strcpy(broken, picture(&a, font_glyph(f, 0xfffd)));
    assert_string_equal(picture(&a, font_glyph(f, 0x4e2d)), broken);
    assert_int_equal(font_glyph(f, ' ')->w, 0);
    // Each printable letter of ASCII is a picture of its own.
    char seen[127][64];
    for (uint32_t c = '!'; c < 127; c++) {
        strcpy(seen[c], picture(&a, font_glyph(f, c)));
        assert_string_not_equal(seen[c], broken);
        for (uint32_t d = '!'; d < c; d++)
            assert_string_not_equal(seen[c], seen[d]);
    }
    assert_int_equal(font_width(f, "a\xc3\xa4 b", SIZE_MAX), 24);
    assert_int_equal(font_fit(f, "a\xc3\xa4 b", 5, 17), 3);
    assert_int_equal(font_fit(f, "a\xc3\xa4 b", 5, 11), 1); // no half letter
    assert_int_equal(font_fit(f, "ab", 2, 5), 0);
    font_close(f);
    font_close(large);
    font_close(NULL);
    atlas_finish(&a);
}

// More glyphs than the atlas holds: it is emptied, and what is asked for then is right.
static void a_full_atlas_is_filled_anew(void **state)
{
    (void)state;
    struct atlas a;
    struct font *fonts[8];
    char first[8][4096];
    assert_int_equal(atlas_init(&a, 256, 256), 0);
    assert_int_equal(atlas_init(&(struct atlas){0}, 255, 256), -EINVAL);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(font_builtin(&fonts[i], &a, i + 1), 0);
        strcpy(first[i], picture(&a, font_glyph(fonts[i], 'R')));
    }
    uint32_t generation = a.generation;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 8; i++) {
            for (uint32_t c = '!'; c < 127; c++) {
                const struct glyph *g = font_glyph(fonts[i], c);
                assert_true(g->x + g->w <= a.width && g->y + g->h <= a.height);
            }
            assert_string_equal(picture(&a, font_glyph(fonts[i], 'R')), first[i]);
        }
    assert_true(a.generation > generation);
    for (int y = 0; y < ATLAS_WHITE; y++)
        for (int x = 0; x < ATLAS_WHITE; x++)
            assert_int_equal(a.coverage[y * a.width + x], 255);
    for (int i = 0; i < 8; i++)
        font_close(fonts[i]);
    atlas_finish(&a);
}

// Among what the atlas holds of one generation nothing lies on anything else.
static void glyphs_do_not_overlap(void **state)
{
    (void)state;
    struct atlas a;
    struct font *f[3];
    uint8_t *owner = calloc(512 * 512, 1);
    assert_int_equal(atlas_init(&a, 512, 512), 0);
    for (int y = 0; y < ATLAS_WHITE; y++)
        memset(owner + y * 512, 1, ATLAS_WHITE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(font_builtin(&f[i], &a, i + 1), 0);
    for (uint32_t c = '!'; c < 127; c++)
        for (int i = 0; i < 3; i++) {
            const struct glyph *g = font_glyph(f[i], c);
            for (int y = g->y; y < g->y + g->h; y++)
                for (int x = g->x; x < g->x + g->w; x++) {
                    assert_int_equal(owner[y * 512 + x], 0);
                    owner[y * 512 + x] = 1;
                }
        }
    assert_int_equal(a.generation, 1);
    for (int i = 0; i < 3; i++)
        font_close(f[i]);
    free(owner);
    atlas_finish(&a);
}

static void fonts_of_the_system_are_found_and_drawn(void **state)
{
    (void)state;
    struct atlas a;
    struct font *f = NULL;
    struct fscope_error err = {0};
    assert_int_equal(atlas_init(&a, 512, 512), 0);
    assert_int_equal(font_open(&f, &a, "/nonexistent.ttf", 0, 14, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent.ttf"));
    assert_null(f);
    assert_int_equal(font_open(&f, &a, "/proc/self/cmdline", 0, 14, &err), -EINVAL);
    assert_int_equal(font_open(&f, &a, "x", 0, 3, &err), -EINVAL);
    int rc = font_system(&f, &a, "monospace", 14, &err);
    if (rc == -ENOENT) {
        atlas_finish(&a);
        SKIP_CASE("no font is installed");
    }
    assert_int_equal(rc, 0);
    // A monospaced face: all letters are as wide, none has no pixels, and the line holds them.
    int wide = font_glyph(f, 'i')->advance;
    assert_true(wide > 4 && wide < 14);
    for (uint32_t c = '!'; c < 127; c++) {
        const struct glyph *g = font_glyph(f, c);
        assert_int_equal(g->advance, wide);
        int sum = 0;
        for (int i = 0; i < g->w * g->h; i++)
            sum += a.coverage[(g->y + i / g->w) * a.width + g->x + i % g->w];
        assert_true(sum > 255);
        assert_true(g->top <= font_ascent(f) + 1);
        assert_true(g->h - g->top <= font_height(f) - font_ascent(f) + 1);
    }
    assert_int_equal(font_glyph(f, ' ')->w, 0);
    assert_true(font_glyph(f, 'M')->h > font_glyph(f, 'x')->h);
    assert_int_equal(font_width(f, "abc", SIZE_MAX), 3 * wide);
    font_close(f);
    atlas_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_read_and_broken_bytes_are_replaced),
        cmocka_unit_test(the_builtin_font_is_a_bitmap),
        cmocka_unit_test(a_full_atlas_is_filled_anew),
        cmocka_unit_test(glyphs_do_not_overlap),
        cmocka_unit_test(fonts_of_the_system_are_found_and_drawn),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
