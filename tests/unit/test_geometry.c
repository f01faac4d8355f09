// SPDX-License-Identifier: MIT
//
// The back end for a screen's driver draws what the CPU back end draws, pixel by pixel but for slanted edges; with
// SDL's own renderer on a picture in memory, so that no display is needed.

#include "viewer/geometry.h"
#include "viewer/ui/raster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { WIDTH = 300, HEIGHT = 200, GROUND = (int)0xff101418 };

struct stage {
    struct atlas atlas;
    struct font *font;
    struct draw_list list;
    struct raster raster;
    SDL_Surface *surface;
    SDL_Renderer *renderer;
    struct geometry geometry;
};

static struct stage s;

static int begin(void **state)
{
    (void)state;
    s = (struct stage){0};
    assert_int_equal(atlas_init(&s.atlas, 256, 256), 0);
    assert_int_equal(font_builtin(&s.font, &s.atlas, 1), 0);
    draw_init(&s.list, WIDTH, HEIGHT);
    assert_int_equal(raster_init(&s.raster, WIDTH, HEIGHT), 0);
    s.surface = SDL_CreateRGBSurfaceWithFormat(0, WIDTH, HEIGHT, 32, SDL_PIXELFORMAT_ARGB8888);
    assert_non_null(s.surface);
    s.renderer = SDL_CreateSoftwareRenderer(s.surface);
    assert_non_null(s.renderer);
    geometry_init(&s.geometry, s.renderer);
    return 0;
}

static int end(void **state)
{
    (void)state;
    geometry_finish(&s.geometry);
    SDL_DestroyRenderer(s.renderer);
    SDL_FreeSurface(s.surface);
    raster_finish(&s.raster);
    draw_finish(&s.list);
    font_close(s.font);
    atlas_finish(&s.atlas);
    return 0;
}

static int channel_gap(uint32_t a, uint32_t b)
{
    int most = 0;
    for (int shift = 0; shift < 24; shift += 8) {
        int gap = abs((int)(a >> shift & 255) - (int)(b >> shift & 255));
        most = gap > most ? gap : most;
    }
    return most;
}

// How many pixels differ by more than rounding.
static int different(void)
{
    assert_false(s.list.failed);
    raster_clear(&s.raster, (uint32_t)GROUND);
    raster_draw(&s.raster, &s.list, &s.atlas);
    assert_int_equal(geometry_draw(&s.geometry, &s.list, &s.atlas, (uint32_t)GROUND), 0);
    SDL_RenderPresent(s.renderer);
    int count = 0;
    for (int y = 0; y < HEIGHT; y++) {
        const uint32_t *row =
            (const uint32_t *)((const char *)s.surface->pixels + y * s.surface->pitch);
        for (int x = 0; x < WIDTH; x++)
            count +=
                channel_gap(row[x], s.raster.pixels[(size_t)y * s.raster.stride + (size_t)x]) > 3;
    }
    return count;
}

static void rectangles_frames_and_level_lines(void **state)
{
    (void)state;
    draw_rect(&s.list, rect_make(10, 10, 80, 30), 0xff52c2a0);
    draw_rect(&s.list, rect_make(-20, 20, 60, 30), 0x80d48fd0); // half through, half outside
    draw_frame(&s.list, rect_make(100, 10, 50, 40), 3, 0xffe29a5b);
    draw_frame(&s.list, rect_make(160, 10, 5, 5), 3, 0xffe29a5b); // no inside
    draw_line(&s.list, 10, 100, 200, 100, 3, 0xff46bfd9);
    draw_line(&s.list, 250, 20, 250, 180, 2, 0xff46bfd9);
    draw_clip_push(&s.list, rect_make(20, 120, 30, 30));
    draw_rect(&s.list, rect_make(0, 110, 300, 35), 0xffffffff);
    draw_line(&s.list, 0, 148, 299, 148, 1, 0xffff0000);
    draw_clip_pop(&s.list);
    assert_int_equal(different(), 0);
}

static void letters_and_strips(void **state)
{
    (void)state;
    uint32_t colors[120];
    uint8_t heights[120];
    for (int i = 0; i < 120; i++) {
        colors[i] = i % 7 ? i % 3 ? 0xff52c2a0 : 0x9046bfd9 : 0;
        heights[i] = (uint8_t)(i * 2);
    }
    draw_strip(&s.list, rect_make(10, 10, 120, 23), colors, heights);
    draw_strip(&s.list, rect_make(240, 10, 120, 23), colors, NULL); // beyond the right edge
    draw_text(&s.list, s.font, 10, 60, 0xffffffff, "Fibers, 12.5 ms", SIZE_MAX);
    draw_clip_push(&s.list, rect_make(12, 66, 33, 7));
    draw_text(&s.list, s.font, 10, 75, 0xc0ffd080, "cut on all four sides", SIZE_MAX);
    draw_clip_pop(&s.list);
    assert_int_equal(different(), 0);
}

static void slanted_edges_differ_only_at_the_edge(void **state)
{
    (void)state;
    draw_clip_push(&s.list, rect_make(0, 0, 150, 150));
    draw_triangle(&s.list, 20, 20, 200, 60, 60, 180, 0xff52c2a0);
    draw_clip_pop(&s.list);
    draw_line(&s.list, 160, 160, 280, 20, 4, 0xffe29a5b);
    int count = different();
    assert_in_range(count, 1, 900); // the outlines are some 700 pixels; the insides are 11000
}

static void an_atlas_that_was_emptied_is_filled_again(void **state)
{
    (void)state;
    char letter[2] = "a";
    draw_text(&s.list, s.font, 10, 20, 0xffffffff, "before", SIZE_MAX);
    assert_int_equal(different(), 0);
    s.atlas.row_y = s.atlas.height; // full: the next glyph empties it
    for (int i = 0; i < 26; i++) {
        letter[0] = (char)('A' + i);
        draw_text(&s.list, s.font, 10 + 8 * i, 40, 0xffffffff, letter, SIZE_MAX);
    }
    assert_int_equal(different(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rectangles_frames_and_level_lines, begin, end),
        cmocka_unit_test_setup_teardown(letters_and_strips, begin, end),
        cmocka_unit_test_setup_teardown(slanted_edges_differ_only_at_the_edge, begin, end),
        cmocka_unit_test_setup_teardown(an_atlas_that_was_emptied_is_filled_again, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
