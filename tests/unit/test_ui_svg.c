// SPDX-License-Identifier: MIT
//
// SVG from a list: what is drawn is in it, and no text becomes markup.

#include "viewer/ui/font.h"
#include "viewer/ui/svg.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct atlas atlas;
static struct font *font;
static struct draw_list list;
static char text[8192];

static int begin(void **state)
{
    (void)state;
    draw_init(&list, 100, 50);
    return atlas_init(&atlas, 256, 256) || font_builtin(&font, &atlas, 1);
}

static int end(void **state)
{
    (void)state;
    font_close(font);
    atlas_finish(&atlas);
    draw_finish(&list);
    return 0;
}

// What stands between the ground and the end.
static const char *body(void)
{
    char path[] = "/tmp/fscope-svg-XXXXXX";
    struct fscope_error err = {0};
    close(mkstemp(path));
    assert_int_equal(svg_write(&list, 0x123456, path, &err), 0);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    text[n] = 0;
    fclose(in);
    unlink(path);
    const char ground[] = "<rect x=\"0\" y=\"0\" width=\"100\" height=\"50\" fill=\"#123456\"/>\n";
    char *from = strstr(text, ground), *to = strstr(text, "</svg>\n");
    assert_non_null(from);
    assert_non_null(to);
    assert_int_equal(to - text + 7, n);
    *to = 0;
    return from + sizeof ground - 1;
}

static void each_item_is_an_element(void **state)
{
    (void)state;
    draw_rect(&list, rect_make(1, 2, 3, 4), 0xffabcdef);
    draw_rect(&list, rect_make(1, 2, 3, 4), 0x33abcdef);
    draw_frame(&list, rect_make(10, 10, 20, 10), 2, 0xff000000);
    draw_line(&list, 5, 9, 5, 6, 3, 0xff000001);
    draw_line(&list, 0, 0, 10, 20, 2, 0xff000002);
    draw_triangle(&list, 1, 1, 9, 1, 5, 9, 0xff000003);
    assert_string_equal(body(),
                        "<rect x=\"1\" y=\"2\" width=\"3\" height=\"4\" fill=\"#abcdef\"/>\n"
                        "<rect x=\"1\" y=\"2\" width=\"3\" height=\"4\" fill=\"#abcdef\" "
                        "fill-opacity=\"0.200\"/>\n"
                        "<rect x=\"11\" y=\"11\" width=\"18\" height=\"8\" fill=\"none\" "
                        "stroke=\"#000000\" stroke-width=\"2\"/>\n"
                        "<rect x=\"4\" y=\"6\" width=\"3\" height=\"4\" fill=\"#000001\"/>\n"
                        "<line x1=\"0.5\" y1=\"0.5\" x2=\"10.5\" y2=\"20.5\" stroke=\"#000002\" "
                        "stroke-width=\"2\"/>\n"
                        "<path d=\"M1 1L9 1L5 9z\" fill=\"#000003\"/>\n");
}

static void strips_are_outlines(void **state)
{
    (void)state;
    const uint32_t a = 0xff0000aa, b = 0xff0000bb, none = 0;
    draw_strip(&list, rect_make(10, 20, 7, 10), (const uint32_t[]){a, a, a, none, b, b, b},
               (const uint8_t[]){255, 128, 128, 255, 1, 0, 0});
    assert_string_equal(body(), "<path d=\"M10 30V20h1V25h2V30z\" fill=\"#0000aa\"/>\n"
                                "<path d=\"M14 30V29h1V30h2V30z\" fill=\"#0000bb\"/>\n");
}

static void text_stays_text(void **state)
{
    (void)state;
    draw_text(&list, font, 1, 9, 0xff000000, "</text><script>\"&'\x01\xff", SIZE_MAX);
    draw_text(&list, font, 1, 20, 0xff000000, "\xef\xbf\xbe", SIZE_MAX); // not allowed in XML
    const char *svg = body();
    assert_non_null(
        strstr(svg, ">&lt;/text&gt;&lt;script&gt;&quot;&amp;'\xef\xbf\xbd\xef\xbf\xbd</text>"));
    assert_non_null(strstr(svg, ">\xef\xbf\xbd</text>"));
    assert_null(strstr(svg, "<script"));
    assert_non_null(strstr(svg, "textLength=\"120\""));
}

static void clips_are_groups(void **state)
{
    (void)state;
    draw_rect(&list, rect_make(0, 0, 1, 1), 0xff000001);
    draw_clip_push(&list, rect_make(5, 5, 10, 10));
    draw_rect(&list, rect_make(0, 0, 50, 50), 0xff000002);
    draw_rect(&list, rect_make(0, 0, 60, 60), 0xff000003);
    draw_clip_pop(&list);
    draw_rect(&list, rect_make(0, 0, 1, 1), 0xff000004);
    assert_string_equal(body(),
                        "<rect x=\"0\" y=\"0\" width=\"1\" height=\"1\" fill=\"#000001\"/>\n"
                        "<g clip-path=\"url(#c1)\">\n"
                        "<rect x=\"0\" y=\"0\" width=\"50\" height=\"50\" fill=\"#000002\"/>\n"
                        "<rect x=\"0\" y=\"0\" width=\"60\" height=\"60\" fill=\"#000003\"/>\n"
                        "</g>\n"
                        "<rect x=\"0\" y=\"0\" width=\"1\" height=\"1\" fill=\"#000004\"/>\n");
    assert_non_null(strstr(text, "<clipPath id=\"c1\"><rect x=\"5\" y=\"5\" width=\"10\" "
                                 "height=\"10\"/></clipPath>"));
}

static void failures_are_said(void **state)
{
    (void)state;
    struct fscope_error err = {0};
    assert_int_equal(svg_write(&list, 0, "/nonexistent/x.svg", &err), -ENOENT);
    assert_int_equal(svg_write(&list, 0, "/dev/full", &err), -ENOSPC);
    assert_non_null(strstr(err.text, "/dev/full"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_item_is_an_element, begin, end),
        cmocka_unit_test_setup_teardown(strips_are_outlines, begin, end),
        cmocka_unit_test_setup_teardown(text_stays_text, begin, end),
        cmocka_unit_test_setup_teardown(clips_are_groups, begin, end),
        cmocka_unit_test_setup_teardown(failures_are_said, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
