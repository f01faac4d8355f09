// SPDX-License-Identifier: MIT
//
// Pixels of the CPU back end, one by one: shapes cover what they say, blending is exact, a PNG
// holds what was drawn.

#include "viewer/ui/font.h"
#include "viewer/ui/raster.h"
#include "viewer/ui/raster_internal.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>

enum { W = 24, H = 12 };

static struct atlas atlas;
static struct font *font;
static struct draw_list list;
static struct raster canvas;

static int begin(void **state)
{
    (void)state;
    draw_init(&list, W, H);
    if (raster_init(&canvas, W, H) || atlas_init(&atlas, 256, 256) ||
        font_builtin(&font, &atlas, 1))
        return -1;
    raster_clear(&canvas, 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    font_close(font);
    atlas_finish(&atlas);
    draw_finish(&list);
    raster_finish(&canvas);
    return 0;
}

// Rows as text: '.' black, '#' white, else the hexadecimal sixteenth of grey.
static const char *pixels(void)
{
    static char text[(W + 1) * H + 1];
    char *p = text;
    raster_draw(&canvas, &list, &atlas);
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            uint32_t c = canvas.pixels[y * W + x];
            assert_int_equal(c >> 24, 255);
            assert_int_equal(c >> 16 & 255, c & 255);
            assert_int_equal(c >> 8 & 255, c & 255);
            *p++ = (c & 255) == 0     ? '.'
                   : (c & 255) == 255 ? '#'
                                      : "0123456789abcdef"[(c & 255) / 16];
        }
        *p++ = '\n';
    }
    *p = 0;
    return text;
}

static void rectangles_frames_and_level_lines_are_exact(void **state)
{
    (void)state;
    const uint32_t white = 0xffffffff;
    draw_rect(&list, rect_make(-3, -3, 5, 4), white);
    draw_frame(&list, rect_make(3, 1, 6, 5), 1, white);
    draw_frame(&list, rect_make(10, 1, 7, 6), 2, white);
    draw_frame(&list, rect_make(18, 1, 4, 3), 2, white); // filled
    draw_line(&list, 1, 8, 5, 8, 1, white);
    draw_line(&list, 9, 10, 7, 10, 3, white);
    draw_line(&list, 20, 6, 20, 30, 2, white);
    draw_clip_push(&list, rect_make(12, 8, 3, 2));
    draw_rect(&list, rect_make(0, 0, W, H), white);
    draw_clip_pop(&list);
    assert_string_equal(pixels(), "##......................\n"
                                  "...######.#######.####..\n"
                                  "...#....#.#######.####..\n"
                                  "...#....#.##...##.####..\n"
                                  "...#....#.##...##.......\n"
                                  "...######.#######.......\n"
                                  "..........#######...##..\n"
                                  "....................##..\n"
                                  ".#####......###.....##..\n"
                                  ".......###..###.....##..\n"
                                  ".......###..........##..\n"
                                  ".......###..........##..\n");
}

static void strips_stand_on_their_lower_edge(void **state)
{
    (void)state;
    const uint32_t w = 0xffffffff, none = 0x00ffffff, half = 0x80ffffff;
    const uint32_t colors[] = {w, w, w, w, w, w, none, half};
    draw_strip(&list, rect_make(1, 2, 8, 4), colors,
               (const uint8_t[]){0, 1, 64, 128, 191, 255, 255, 255});
    draw_strip(&list, rect_make(20, 8, 8, 4), colors, NULL); // cut by the picture
    draw_strip(&list, rect_make(-6, 8, 8, 4), colors, NULL);
    assert_string_equal(pixels(), "........................\n"
                                  "........................\n"
                                  "......#.8...............\n"
                                  ".....##.8...............\n"
                                  "....###.8...............\n"
                                  "..#####.8...............\n"
                                  "........................\n"
                                  "........................\n"
                                  ".8..................####\n"
                                  ".8..................####\n"
                                  ".8..................####\n"
                                  ".8..................####\n");
}

static void letters_stand_on_the_base_line(void **state)
{
    (void)state;
    draw_text(&list, font, 1, 9, 0xffffffff, "gA", SIZE_MAX);
    draw_text(&list, font, 20, 9, 0xffffffff, "L", SIZE_MAX); // cut at the right
    assert_string_equal(pixels(), "........................\n"
                                  "........................\n"
                                  "........###.........#...\n"
                                  ".......#...#........#...\n"
                                  "..####.#...#........#...\n"
                                  ".#...#.#####........#...\n"
                                  ".#...#.#...#........#...\n"
                                  "..####.#...#........#...\n"
                                  ".....#.#...#........####\n"
                                  ".....#..................\n"
                                  "..###...................\n"
                                  "........................\n");
}

// Half a pixel of each step of a diagonal edge; 8 lines a row give the sums exactly.
static void triangles_are_smooth(void **state)
{
    (void)state;
    draw_triangle(&list, 2, 2, 8, 2, 2, 8, 0xffffffff);
    draw_triangle(&list, 12, 2, 12, 10, 20, 6, 0xffffffff);
    assert_string_equal(pixels(), "........................\n"
                                  "........................\n"
                                  "..#####8....b4..........\n"
                                  "..####8.....##b4........\n"
                                  "..###8......####b4......\n"
                                  "..##8.......######b4....\n"
                                  "..#8........######b4....\n"
                                  "..8.........####b4......\n"
                                  "............##b4........\n"
                                  "............b4..........\n"
                                  "........................\n"
                                  "........................\n");
}

// A slanting line has as much ink as it is long times thick, wherever it goes.
static void lines_have_their_thickness(void **state)
{
    (void)state;
    struct raster r;
    struct draw_list d;
    draw_init(&d, 200, 200);
    assert_int_equal(raster_init(&r, 200, 200), 0);
    for (int i = 0; i < 32; i++) {
        double angle = (i + 0.3) * 3.14159265 / 16;
        int dx = (int)lround(80 * cos(angle)), dy = (int)lround(80 * sin(angle));
        int thick = 1 + i % 4;
        draw_reset(&d, 200, 200);
        raster_clear(&r, 0);
        draw_line(&d, 100, 100, 100 + dx, 100 + dy, thick, 0xffffffff);
        raster_draw(&r, &d, &atlas);
        double ink = 0;
        for (int p = 0; p < 200 * 200; p++)
            ink += (r.pixels[p] & 255) / 255.0;
        double area = hypot(dx, dy) * thick;
        assert_true(fabs(ink - area) < 0.01 * area + 1);
    }
    raster_finish(&r);
    draw_finish(&d);
}

// Against the sum done in real numbers: never off by more than the last bit.
static void blending_is_exact(void **state)
{
    (void)state;
    for (uint32_t alpha = 1; alpha < 256; alpha += 7)
        for (uint32_t under = 0; under < 256; under += 15)
            for (uint32_t over = 0; over < 256; over += 17) {
                raster_clear(&canvas, under * 0x010101);
                draw_reset(&list, W, H);
                draw_rect(&list, rect_make(0, 0, 1, 1), alpha << 24 | over * 0x010101);
                raster_draw(&canvas, &list, &atlas);
                double right = (under * (255.0 - alpha) + over * (double)alpha) / 255;
                assert_true(fabs((canvas.pixels[0] & 255) - right) <= 0.5);
                assert_int_equal(canvas.pixels[1], 0xff000000 | under * 0x010101);
            }
}

static void a_png_holds_what_was_drawn(void **state)
{
    (void)state;
    struct fscope_error err = {0};
    char path[] = "/tmp/fscope-png-XXXXXX";
    close(mkstemp(path));
    for (uint32_t i = 0; i < W * H; i++)
        canvas.pixels[i] = 0xff000000 | i * 0x03a5f1;
    assert_int_equal(raster_write_png(&canvas, path, &err), 0);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, path));
    assert_int_equal(image.width, W);
    assert_int_equal(image.height, H);
    image.format = PNG_FORMAT_BGRA;
    uint32_t back[W * H];
    assert_true(png_image_finish_read(&image, NULL, back, 0, NULL));
    assert_memory_equal(back, canvas.pixels, sizeof back);
    unlink(path);
    assert_int_equal(raster_write_png(&canvas, "/nonexistent/x.png", &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/x.png"));
    assert_int_equal(raster_write_png(&canvas, "/dev/full", &err), -ENOSPC);
    struct raster none;
    assert_int_equal(raster_init(&none, 0, 5), -EINVAL);
    assert_int_equal(raster_init(&none, 5, RASTER_SIZE_MAX + 1), -EINVAL);
}

// Against the division that it does without, for all there is of one channel; the others are other triples.
static void blending_rounds_as_a_division(void **state)
{
    (void)state;
    uint32_t wrong = 0;
    for (uint32_t alpha = 0; alpha < 256; alpha++)
        for (uint32_t a = 0; a < 256; a++)
            for (uint32_t b = 0; b < 256; b++) {
                uint32_t a2 = a * 7 & 255, b2 = b * 13 & 255, a3 = 255 - a, b3 = b ^ 85;
                uint32_t got = raster_blend(a << 16 | a2 << 8 | a3, b << 16 | b2 << 8 | b3, alpha);
                uint32_t red = (a * (255 - alpha) + b * alpha + 127) / 255;
                uint32_t green = (a2 * (255 - alpha) + b2 * alpha + 127) / 255;
                uint32_t blue = (a3 * (255 - alpha) + b3 * alpha + 127) / 255;
                wrong += got != (0xff000000 | red << 16 | green << 8 | blue);
            }
    assert_int_equal(wrong, 0);
}

// One of everything, somewhere, also across the middle.
static void draw_some(struct draw_list *d, uint32_t i)
{
    uint32_t colors[40];
    uint8_t heights[40];
    int x = (int)(i * 379 % 1100), y = (int)(i * 211 % 960);
    uint32_t color = i * 2654435761u | (i % 3 ? 0xff000000 : 0x40000000);
    for (uint32_t k = 0; k < 40; k++) {
        colors[k] = color * (k + 1) | (k % 5 ? 0xff000000 : 0);
        heights[k] = (uint8_t)(k * i);
    }
    switch (i % 6) {
    case 0: draw_rect(d, rect_make(x, y, 90, 70), color); break;
    case 1: draw_frame(d, rect_make(x, y, 60, 80), 3, color); break;
    case 2: draw_line(d, x, y, y, x, 2, color); break;
    case 3: draw_triangle(d, x, y, x + 90, y + 30, x + 20, y + 80, color); break;
    case 4: draw_text(d, font, x, y, color, "What is read across the middle", SIZE_MAX); break;
    default: draw_strip(d, rect_make(x, y, 40, 50), colors, heights); break;
    }
}

// By two threads what one draws, who is given few things at a time.
static void a_large_picture_is_the_same(void **state)
{
    (void)state;
    enum { WIDE = 1200, HIGH = 1000, ITEMS = 900, FEW = 30 };
    struct raster large, small;
    struct draw_list few = {0};
    assert_int_equal(raster_init(&large, WIDE, HIGH), 0);
    assert_int_equal(raster_init(&small, WIDE, HIGH), 0);
    draw_reset(&list, WIDE, HIGH);
    for (uint32_t i = 0; i < ITEMS; i++)
        draw_some(&list, i);
    raster_draw(&large, &list, &atlas);
    draw_init(&few, WIDE, HIGH);
    for (uint32_t i = 0; i < ITEMS; i += FEW) {
        draw_reset(&few, WIDE, HIGH);
        for (uint32_t k = i; k < i + FEW; k++)
            draw_some(&few, k);
        raster_draw(&small, &few, &atlas);
    }
    assert_memory_equal(large.pixels, small.pixels, sizeof(uint32_t) * WIDE * HIGH);
    draw_finish(&few);
    raster_finish(&large);
    raster_finish(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_picture_is_the_same, begin, end),
        cmocka_unit_test(blending_rounds_as_a_division),
        cmocka_unit_test_setup_teardown(rectangles_frames_and_level_lines_are_exact, begin, end),
        cmocka_unit_test_setup_teardown(strips_stand_on_their_lower_edge, begin, end),
        cmocka_unit_test_setup_teardown(letters_stand_on_the_base_line, begin, end),
        cmocka_unit_test_setup_teardown(triangles_are_smooth, begin, end),
        cmocka_unit_test_setup_teardown(lines_have_their_thickness, begin, end),
        cmocka_unit_test_setup_teardown(blending_is_exact, begin, end),
        cmocka_unit_test_setup_teardown(a_png_holds_what_was_drawn, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
