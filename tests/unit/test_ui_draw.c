// SPDX-License-Identifier: MIT
//
// Lists of things to draw say what was drawn, leave out what is not seen, and fit text.

#include "viewer/ui/draw.h"
#include "viewer/ui/font.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct stage {
    struct atlas atlas;
    struct font *font;
    struct draw_list list;
    char *text;
};

static struct stage stage;

static int begin(void **state)
{
    *state = &stage;
    stage = (struct stage){0};
    draw_init(&stage.list, 100, 50);
    return atlas_init(&stage.atlas, 256, 256) || font_builtin(&stage.font, &stage.atlas, 1);
}

static int end(void **state)
{
    struct stage *s = *state;
    draw_finish(&s->list);
    font_close(s->font);
    atlas_finish(&s->atlas);
    free(s->text);
    return 0;
}

static const char *dump(struct stage *s)
{
    size_t n;
    free(s->text);
    s->text = NULL;
    FILE *out = open_memstream(&s->text, &n);
    assert_non_null(out);
    draw_dump(&s->list, out);
    fclose(out);
    return s->text;
}

static void a_list_says_what_was_drawn(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    draw_rect(d, rect_make(1, 2, 3, 4), 0xff102030);
    draw_frame(d, rect_make(5, 5, 20, 10), 2, 0x80ffffff);
    draw_line(d, 0, 0, 10, 20, 3, 0xff00ff00);
    draw_triangle(d, 1, 1, 9, 1, 5, 9, 0xffff0000);
    assert_int_equal(draw_text(d, s->font, 10, 20, 0xffffffff, "a\"\\\tb", SIZE_MAX), 5 * 6);
    draw_strip(d, rect_make(10, 30, 4, 8), (const uint32_t[]){1, 1, 0xff000002, 0xff000002},
               (const uint8_t[]){9, 9, 9, 255});
    draw_strip(d, rect_make(10, 30, 2, 8), (const uint32_t[]){7, 7}, NULL);
    assert_string_equal(dump(s), "size 100x50\n"
                                 "rect 1,2 3x4 #ff102030\n"
                                 "frame 5,5 20x10 2 #80ffffff\n"
                                 "line 0,0 10,20 3 #ff00ff00\n"
                                 "triangle 1,1 9,1 5,9 #ffff0000\n"
                                 "text 10,20 #ffffffff builtin \"a\\\"\\\\\\x09b\"\n"
                                 "strip 10,30 4x8 2*#00000001/9 1*#ff000002/9 1*#ff000002/255\n"
                                 "strip 10,30 2x8 2*#00000007\n");
}

static void what_is_not_seen_is_left_out(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    draw_rect(d, rect_make(0, 0, 10, 10), 0x00ffffff); // nothing but alpha 0
    draw_rect(d, rect_make(100, 0, 10, 10), 0xffffffff);
    draw_rect(d, rect_make(-10, 0, 10, 10), 0xffffffff);
    draw_rect(d, rect_make(0, 0, 0, 10), 0xffffffff);
    draw_text(d, s->font, 0, 70, 0xffffffff, "below", SIZE_MAX);
    draw_text(d, s->font, -40, 20, 0xffffffff, "left", SIZE_MAX);
    draw_line(d, 0, 60, 100, 60, 1, 0xffffffff);
    assert_string_equal(dump(s), "size 100x50\n");
    draw_rect(d, rect_make(INT_MIN, INT_MIN, INT_MAX, INT_MAX), 0xffffffff);
    draw_frame(d, rect_make(INT_MAX, INT_MAX, INT_MAX, INT_MAX), INT_MAX, 0xffffffff);
    assert_int_equal(d->count, 0);
    draw_line(d, INT_MIN, INT_MIN, INT_MAX, INT_MAX, 1, 0xffffffff); // goes through the picture
    draw_rect(d, rect_make(99, 49, 10, 10), 0xffffffff);
    assert_int_equal(d->count, 2);
}

static void clips_cut_each_other(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    draw_clip_push(d, rect_make(10, 10, 50, 50));
    draw_clip_push(d, rect_make(0, 0, 20, 20));
    struct rect both = draw_clip(d);
    assert_memory_equal(&both, (&(struct rect){10, 10, 10, 10}), sizeof both);
    draw_rect(d, rect_make(0, 0, 100, 100), 0xff000001);
    draw_rect(d, rect_make(0, 0, 10, 10), 0xff000002); // outside
    draw_clip_pop(d);
    draw_rect(d, rect_make(0, 0, 100, 100), 0xff000003);
    draw_clip_pop(d);
    draw_rect(d, rect_make(0, 0, 1, 1), 0xff000004);
    assert_string_equal(dump(s), "size 100x50\n"
                                 "clip 10,10 10x10\nrect 0,0 100x100 #ff000001\n"
                                 "clip 10,10 50x40\nrect 0,0 100x100 #ff000003\n"
                                 "clip 0,0 100x50\nrect 0,0 1x1 #ff000004\n");
    for (int i = 0; i < 3 * DRAW_CLIPS_DEEP; i++)
        draw_clip_push(d, rect_make(0, 0, 100, 50));
    uint32_t before = d->count;
    draw_rect(d, rect_make(0, 0, 1, 1), 0xffffffff);
    assert_int_equal(d->count, before); // too deep: nothing
    for (int i = 0; i < 3 * DRAW_CLIPS_DEEP; i++)
        draw_clip_pop(d);
    draw_rect(d, rect_make(0, 0, 1, 1), 0xffffffff);
    assert_int_equal(d->count, before + 1);
}

static void a_reset_list_is_as_good_as_new(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    for (int frame = 0; frame < 3; frame++) {
        draw_reset(d, 100, 50);
        for (int i = 0; i < 3000; i++) {
            draw_text(d, s->font, i % 100, 20, 0xff000000u + (uint32_t)i, "0123456789", SIZE_MAX);
            draw_clip_push(d, rect_make(i % 7, 0, 100, 50));
            draw_rect(d, rect_make(0, 0, 50, 50), 0xffffffff);
            draw_clip_pop(d);
        }
        assert_int_equal(d->count, 6000);
        assert_false(d->failed);
        for (uint32_t i = 0; i < 6000; i += 2) {
            assert_int_equal(d->items[i].color, 0xff000000u + i / 2);
            assert_string_equal(d->items[i].text, "0123456789");
        }
    }
    draw_reset(d, 7, 8);
    assert_string_equal(dump(s), "size 7x8\n");
}

static void text_is_fitted_with_an_ellipsis(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    const char *name = "m\xc3\xbc"
                       "de"; // 4 letters, 24 pixels
    assert_int_equal(draw_text_fit(d, s->font, 0, 10, 24, 0xff000001, name), 24);
    assert_int_equal(draw_text_fit(d, s->font, 0, 10, 23, 0xff000002, name), 18);
    assert_int_equal(draw_text_fit(d, s->font, 0, 10, 12, 0xff000003, name), 12);
    assert_int_equal(draw_text_fit(d, s->font, 0, 10, 11, 0xff000004, name), 0);
    assert_int_equal(draw_text_fit(d, s->font, 0, 10, -5, 0xff000005, name), 0);
    assert_string_equal(dump(s), "size 100x50\n"
                                 "text 0,10 #ff000001 builtin \"m\xc3\xbc"
                                 "de\"\n"
                                 "text 0,10 #ff000002 builtin \"m\xc3\xbc\xe2\x80\xa6\"\n"
                                 "text 0,10 #ff000003 builtin \"m\xe2\x80\xa6\"\n");
}

static void put(struct draw_list *d, const struct font *f, int x, int y, const char *text)
{
    draw_text(d, f, x, y, 0xffffffff, text, SIZE_MAX);
}

// Two panes side by side with a title above, a line below, and rows that do not stand level with each other.
static void panes_are_read_one_after_the_other(void **state)
{
    struct stage *s = *state;
    struct draw_list *d = &s->list;
    draw_reset(d, 400, 300);
    put(d, s->font, 10, 290, "below");
    put(d, s->font, 60, 10, "right of it");
    put(d, s->font, 10, 12, "title");
    draw_clip_push(d, rect_make(200, 20, 200, 250));
    put(d, s->font, 300, 41, "value 2");
    put(d, s->font, 210, 41,
        "name\xc2\x9b"
        "2");
    draw_clip_pop(d);
    draw_clip_push(d, rect_make(0, 20, 190, 250));
    put(d, s->font, 10, 60, "second");
    draw_clip_push(d, rect_make(5, 30, 100, 16)); // a cell
    put(d, s->font, 10, 40, "first");
    draw_clip_pop(d);
    put(d, s->font, 120, 40, "value 1");
    draw_clip_pop(d);
    size_t n;
    free(s->text);
    FILE *out = open_memstream(&s->text, &n);
    assert_non_null(out);
    draw_words(d, out);
    fclose(out);
    assert_string_equal(s->text,
                        "title\tright of it\nfirst\tvalue 1\nsecond\nname 2\tvalue 2\nbelow\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_list_says_what_was_drawn, begin, end),
        cmocka_unit_test_setup_teardown(what_is_not_seen_is_left_out, begin, end),
        cmocka_unit_test_setup_teardown(clips_cut_each_other, begin, end),
        cmocka_unit_test_setup_teardown(a_reset_list_is_as_good_as_new, begin, end),
        cmocka_unit_test_setup_teardown(text_is_fitted_with_an_ellipsis, begin, end),
        cmocka_unit_test_setup_teardown(panes_are_read_one_after_the_other, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
