// SPDX-License-Identifier: MIT
//
// Widgets do what a user's events say, without a window: clicks, drags, keys and text.

#include "viewer/ui/font.h"
#include "viewer/ui/ui.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct atlas atlas;
static struct font *font;
static struct draw_list list;
static struct ui ui;

static int begin(void **state)
{
    (void)state;
    draw_init(&list, 400, 300);
    if (atlas_init(&atlas, 256, 256) || font_builtin(&font, &atlas, 1))
        return -1;
    ui = (struct ui){.font = font, .mono = font};
    theme_init(&ui.theme, true);
    return 0;
}

static int end(void **state)
{
    (void)state;
    font_close(font);
    atlas_finish(&atlas);
    draw_finish(&list);
    return 0;
}

static void start(struct ui_event ev)
{
    draw_reset(&list, 400, 300);
    ui_begin(&ui, &list, &ev);
}
#define AT(k, px, py)                                                                              \
    (struct ui_event)                                                                              \
    {                                                                                              \
        .kind = (k), .x = (px), .y = (py), .clicks = 1                                             \
    }

static const struct rect one = {10, 10, 60, 20}, two = {80, 10, 60, 20};

// 1: the first button was clicked, 2: the second.
static int buttons(struct ui_event ev)
{
    start(ev);
    int n = ui_button(&ui, ui_id("b", 1), one, "one", false);
    n |= ui_button(&ui, ui_id("b", 2), two, "two", true) ? 2 : 0;
    ui_end(&ui);
    return n;
}

static void a_click_is_a_press_and_a_release_on_one_thing(void **state)
{
    (void)state;
    assert_int_equal(buttons(AT(UI_PRESS, 20, 15)), 0);
    assert_int_equal(buttons(AT(UI_RELEASE, 30, 20)), 1);
    assert_int_equal(buttons(AT(UI_PRESS, 20, 15)), 0); // pressed on one, released on the other
    assert_int_equal(buttons(AT(UI_MOVE, 100, 15)), 0);
    assert_int_equal(buttons(AT(UI_RELEASE, 100, 15)), 0);
    assert_int_equal(buttons(AT(UI_PRESS, 5, 5)), 0); // on nothing
    assert_int_equal(buttons(AT(UI_RELEASE, 20, 15)), 0);
    struct ui_event right = AT(UI_PRESS, 20, 15);
    right.button = UI_RIGHT;
    assert_int_equal(buttons(right), 0);
    right.kind = UI_RELEASE;
    assert_int_equal(buttons(right), 0);
    assert_int_equal(buttons(AT(UI_PRESS, 100, 15)), 0);
    assert_int_equal(buttons(AT(UI_MOVE, 5, 5)), 0); // away and back while held
    assert_int_equal(buttons(AT(UI_RELEASE, 100, 15)), 2);
    assert_int_equal(ui.active, 0);
    assert_int_equal(ui.down, 0);
}

static void what_is_clipped_away_is_not_hit(void **state)
{
    (void)state;
    for (int x = 30; x < 60; x += 29) {
        start(AT(UI_PRESS, x, 15));
        draw_clip_push(&list, rect_make(0, 0, 40, 100));
        unsigned hit = ui_hit(&ui, 7, one);
        draw_clip_pop(&list);
        ui_end(&ui);
        assert_int_equal(hit, x < 40 ? UI_HOT | UI_PRESSED | UI_HELD : 0);
        start(AT(UI_RELEASE, 0, 0));
        ui_end(&ui);
    }
}

static bool field(struct ui_event ev, char *text)
{
    start(ev);
    bool changed = ui_field(&ui, 9, rect_make(10, 100, 200, 20), text, 16, "search");
    ui_end(&ui);
    return changed;
}

static bool type(const char *s, char *text)
{
    struct ui_event ev = {.kind = UI_TEXT};
    strcpy(ev.text, s);
    return field(ev, text);
}

static bool press(uint32_t key, char *text)
{
    return field((struct ui_event){.kind = UI_KEY, .key = key}, text);
}

static void fields_edit_whole_letters(void **state)
{
    (void)state;
    char text[16] = "";
    assert_false(type("x", text)); // has no focus
    field(AT(UI_PRESS, 20, 110), text);
    field(AT(UI_RELEASE, 20, 110), text);
    assert_true(type("a\xc3\xa4", text));
    assert_true(type("b", text));
    assert_string_equal(text, "a\xc3\xa4"
                              "b");
    assert_false(press(UI_KEY_LEFT, text));
    assert_false(press(UI_KEY_LEFT, text)); // before the umlaut
    assert_true(type("-", text));
    assert_string_equal(text, "a-\xc3\xa4"
                              "b");
    assert_true(press(UI_KEY_DELETE, text));
    assert_string_equal(text, "a-b");
    press(UI_KEY_END, text);
    type("\xe2\x86\x92", text);
    assert_true(press(UI_KEY_BACKSPACE, text));
    assert_string_equal(text, "a-b");
    press(UI_KEY_HOME, text);
    assert_false(press(UI_KEY_BACKSPACE, text));
    press(UI_KEY_RIGHT, text);
    assert_true(press(UI_KEY_BACKSPACE, text));
    assert_string_equal(text, "-b");
    assert_true(type("0123456789012", text));
    assert_false(type("x", text)); // full: 15 bytes and the NUL
    assert_int_equal(strlen(text), 15);
    // A key is the field's while it has the focus, and goes on when it has not.
    struct ui_event slash = {.kind = UI_KEY, .key = '/'};
    start(slash);
    assert_false(ui_key(&ui, '/', 0));
    ui_end(&ui);
    press(UI_KEY_ESCAPE, text);
    assert_int_equal(ui.focus, 0);
    start(slash);
    assert_true(ui_key(&ui, '/', 0));
    assert_false(ui_key(&ui, '/', 0)); // used up
    ui_end(&ui);
}

static void keys_need_their_modifiers(void **state)
{
    (void)state;
    struct ui_event ev = {.kind = UI_KEY, .key = 'z', .mods = UI_CTRL};
    start(ev);
    assert_false(ui_key(&ui, 'z', 0));
    assert_false(ui_key(&ui, 'z', UI_CTRL | UI_SHIFT));
    assert_true(ui_key(&ui, 'z', UI_CTRL));
    ui_end(&ui);
    ev = (struct ui_event){.kind = UI_KEY, .key = '?', .mods = UI_SHIFT};
    start(ev);
    assert_true(ui_key(&ui, '?', 0));
    ui_end(&ui);
}

static int scroll(struct ui_event ev, int content, int *offset)
{
    start(ev);
    struct rect rest = ui_scroll(&ui, 5, rect_make(0, 0, 100, 100), content, offset);
    ui_end(&ui);
    return rest.w;
}

static void scrolling_stays_within_the_content(void **state)
{
    (void)state;
    int offset = 0;
    struct ui_event wheel = AT(UI_WHEEL, 50, 50);
    wheel.dy = -120;
    assert_true(scroll(wheel, 1000, &offset) < 100);
    assert_int_equal(offset, 3 * ui.line);
    for (int i = 0; i < 100; i++)
        scroll(wheel, 1000, &offset);
    assert_int_equal(offset, 900);
    scroll(AT(UI_NONE, 0, 0), 500, &offset); // the content became less
    assert_int_equal(offset, 400);
    scroll(AT(UI_PRESS, 98, 50), 1000, &offset); // the bar's middle
    assert_true(abs(offset - 450) < 10);
    scroll(AT(UI_MOVE, 98, 500), 1000, &offset);
    assert_int_equal(offset, 900);
    scroll(AT(UI_MOVE, 98, -500), 1000, &offset);
    assert_int_equal(offset, 0);
    scroll(AT(UI_RELEASE, 98, 0), 1000, &offset);
    scroll(AT(UI_MOVE, 98, 90), 1000, &offset);
    assert_int_equal(offset, 0);
    offset = 7;
    assert_int_equal(scroll(wheel, 100, &offset), 100); // all of it is seen: no bar
    assert_int_equal(offset, 0);
}

static void tabs_are_chosen_by_click(void **state)
{
    (void)state;
    static const char *const names[] = {"Timeline", "Flame"};
    int width, chosen = 0;
    const struct ui_event events[] = {AT(UI_PRESS, 75, 5), AT(UI_RELEASE, 75, 5)};
    for (int i = 0; i < 2; i++) {
        start(events[i]);
        chosen = ui_tabs(&ui, ui_id("tab", 0), rect_make(0, 0, 400, 20), names, 2, chosen, &width);
        ui_end(&ui);
    }
    assert_int_equal(chosen, 1);
    assert_int_equal(width, 13 * 6 + 2 * 3 * ui.pad);
}

// A tool tip is drawn last and lies inside the window wherever the mouse is.
static void tips_stay_in_the_window(void **state)
{
    (void)state;
    for (int x = 0; x <= 400; x += 50)
        for (int y = 0; y <= 300; y += 50) {
            start(AT(UI_MOVE, x, y));
            ui_tip(&ui, "a function with a long name\n1.5 ms\nmore");
            draw_rect(&list, rect_make(0, 0, 400, 300), 0xff000000);
            ui_end(&ui);
            assert_int_equal(list.items[0].op, DRAW_RECT);
            struct rect box = list.items[2].rect;
            assert_true(box.x >= 0 && box.y >= 0 && box.x + box.w <= 400 && box.y + box.h <= 300);
            assert_false(rect_has(box, x, y));
            assert_int_equal(list.count, 1 + 3 + 3);
        }
    start((struct ui_event){.kind = UI_LEAVE});
    ui_tip(&ui, "x");
    ui_end(&ui);
    assert_int_equal(list.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_click_is_a_press_and_a_release_on_one_thing, begin, end),
        cmocka_unit_test_setup_teardown(what_is_clipped_away_is_not_hit, begin, end),
        cmocka_unit_test_setup_teardown(fields_edit_whole_letters, begin, end),
        cmocka_unit_test_setup_teardown(keys_need_their_modifiers, begin, end),
        cmocka_unit_test_setup_teardown(scrolling_stays_within_the_content, begin, end),
        cmocka_unit_test_setup_teardown(tabs_are_chosen_by_click, begin, end),
        cmocka_unit_test_setup_teardown(tips_stay_in_the_window, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
