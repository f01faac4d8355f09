// SPDX-License-Identifier: MIT
//
// The flame graph's boxes are as wide as their values, none is missing, and clicks and keys zoom.

#include "tests/unit/made_profile.h"
#include "tests/unit/shown.h"
#include "viewer/views/flame.h"

#include <errno.h>
#include <stdio.h>

static struct shown stage;
static struct profile_model *model;
static struct flame flame;

static void frame(void *view, struct ui *u, struct rect r)
{
    flame_frame(view, u, r);
}

static void show(struct pprof_profile *p)
{
    struct fscope_error err = {0};
    if (profile_model_of(&model, p, "dir/p.pb.gz", "cpu", false, &err))
        fail_msg("%s", err.text);
    assert_int_equal(flame_init(&flame, model), 0);
    shown_init(&stage, 1000, 300);
    stage.frame = frame;
    stage.view = &flame;
    shown_once(&stage, NULL);
}

static int small(void **state)
{
    (void)state;
    show(MADE({"main;parse;read", 300000000}, {"main;parse", 100000000}, {"main;write", 200000000},
              {"idle", 400000000}));
    return 0;
}

static int end(void **state)
{
    (void)state;
    flame_finish(&flame);
    profile_model_free(model);
    shown_finish(&stage);
    return 0;
}

static uint32_t node_of(const char *name)
{
    for (uint32_t i = 1; i < model->stacks.count; i++)
        if (!strcmp(model->stacks.nodes[i].name, name))
            return i;
    fail_msg("no %s", name);
    return 0;
}

// The first box that begins at x in a row; its width, 0 if there is none.
static int box_at(int row, int x)
{
    int y = flame.upward ? flame.body.y + flame.body.h - (row + 1) * flame.row
                         : flame.body.y + row * flame.row;
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        if (item->op == DRAW_RECT && item->rect.h == flame.row - 1 && item->rect.y == y &&
            item->rect.x == x)
            return item->rect.w + (item->rect.w > 1); // a pixel is between boxes
    }
    return 0;
}

static void frames_are_as_wide_as_their_values(void **state)
{
    (void)state;
    assert_int_equal(box_at(0, 0), 1000);
    assert_int_equal(box_at(1, 0), 400); // idle: siblings are ordered by name
    assert_int_equal(box_at(1, 400), 600);
    assert_int_equal(box_at(2, 400), 400); // parse
    assert_int_equal(box_at(2, 800), 200); // write
    assert_int_equal(box_at(3, 400), 300); // read; the rest is parse's own
    assert_int_equal(box_at(3, 700), 0);
    assert_true(shown_says(&stage, "width: cpu, 1s in 4 different stacks"));
    assert_string_equal(model->title, "APP \xc2\xb7 p.pb.gz");
}

static void a_click_zooms_and_undo_returns(void **state)
{
    (void)state;
    int y = flame.body.y + 2 * flame.row + 5;
    shown_mouse(&stage, UI_MOVE, 500, y);
    assert_true(shown_says(&stage, "400ms, 40.00% of everything"));
    assert_true(shown_says(&stage, "100ms of its own"));
    shown_click(&stage, 500, y);
    assert_int_equal(flame.top, node_of("parse"));
    for (int row = 0; row < 3; row++) // everything, main, parse
        assert_int_equal(box_at(row, 0), 1000);
    assert_int_equal(box_at(3, 0), 750);
    shown_click(&stage, 500, flame.body.y + flame.row + 5); // main above it
    assert_int_equal(flame.top, node_of("main"));
    assert_int_equal(box_at(2, 0), 667);
    assert_int_equal(box_at(2, 667), 333);
    shown_key(&stage, 'z', UI_CTRL);
    assert_int_equal(flame.top, node_of("parse"));
    shown_key(&stage, 'u', 0);
    assert_int_equal(flame.top, node_of("main"));
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    assert_int_equal(flame.top, 0);
    shown_click(&stage, 900, flame.body.y + 3 * flame.row + 5); // nothing is there
    assert_int_equal(flame.top, 0);
}

static void arrows_walk_to_the_heaviest(void **state)
{
    (void)state;
    shown_key(&stage, UI_KEY_DOWN, 0);
    assert_int_equal(flame.chosen, node_of("main"));
    shown_key(&stage, UI_KEY_LEFT, 0);
    assert_int_equal(flame.chosen, node_of("idle"));
    shown_key(&stage, UI_KEY_RIGHT, 0);
    shown_key(&stage, UI_KEY_DOWN, 0);
    assert_int_equal(flame.chosen, node_of("parse"));
    shown_key(&stage, UI_KEY_UP, 0);
    assert_int_equal(flame.chosen, node_of("main"));
    shown_key(&stage, UI_KEY_ENTER, 0);
    assert_int_equal(flame.top, node_of("main"));
    shown_key(&stage, '0', 0);
    shown_key(&stage, 'i', 0);
    assert_true(flame.upward);
    assert_int_equal(box_at(1, 400), 600);
    assert_int_equal(box_at(2, 800), 200);
}

static void search_sums_what_matches_once(void **state)
{
    (void)state;
    shown_key(&stage, '/', 0);
    for (const char *p = "RE"; *p; p++) {
        struct ui_event ev = {.kind = UI_TEXT, .text = {*p}};
        shown_event(&stage, ev);
    }
    assert_true(shown_says(&stage, "\"RE\": 300ms, 30.00% of everything"));
    assert_int_equal(flame.found[node_of("read")], 1);
    assert_int_equal(flame.found[node_of("parse")], 0);
    shown_key(&stage, UI_KEY_ESCAPE, 0); // leaves the field
    shown_key(&stage, UI_KEY_ESCAPE, 0); // ends the search
    assert_string_equal(flame.search, "");
    flame_find(&flame, "a"); // main, parse, read: parse and read are below main
    assert_int_equal(flame.found_total, 600000000);
}

// Thousands of frames in few pixels: every pixel of a row that has frames is covered, items are
// few.
static int wide(void **state)
{
    struct pprof_profile *p = pprof_new();
    struct pprof_location *stack[3];
    (void)state;
    assert_int_equal(pprof_add_sample_type(p, "cpu", "nanoseconds"), 0);
    struct pprof_mapping *m = pprof_add_mapping(p, 0x1000, 0x100000, 0, "/bin/app", "");
    for (uint64_t i = 0; i < 4000; i++) {
        char names[3][32]; // leaf first
        snprintf(names[0], sizeof names[0], "g%u", (unsigned)i % 3);
        snprintf(names[1], sizeof names[1], "f%04u", (unsigned)i);
        strcpy(names[2], "main");
        const uint64_t at[3] = {0x2000 + i % 3, 0x3000 + i, 0x1000};
        for (int k = 0; k < 3; k++) {
            struct pprof_line line = {0};
            line.function = pprof_intern_function(p, names[k], names[k], NULL, 0);
            stack[k] = pprof_intern_location(p, m, at[k], &line, 1);
        }
        int64_t value = i % 400 ? 1000000 : 50000000;
        assert_non_null(pprof_append_sample(p, stack, 3, &value, NULL, 0));
    }
    show(p);
    return 0;
}

static void narrow_frames_stand_together(void **state)
{
    (void)state;
    assert_true(stage.list.count < 3000);
    for (int row = 1; row < 4; row++) {
        bool covered[1000] = {false};
        int y = flame.body.y + row * flame.row;
        for (uint32_t i = 0; i < stage.list.count; i++) {
            const struct draw_item *item = &stage.list.items[i];
            if (item->op != DRAW_RECT || item->rect.y != y || item->rect.h != flame.row - 1)
                continue;
            for (int x = item->rect.x; x < item->rect.x + item->rect.w; x++) {
                assert_false(covered[x]);
                covered[x] = true;
            }
        }
        int gaps = 0;
        for (int x = 0; x < 1000; x++)
            gaps += !covered[x];
        // Boxes of their own have a pixel between them; below, narrow frames have no children
        // drawn.
        assert_true(row == 3 || gaps < 30);
    }
    shown_click(&stage, 500, flame.body.y + 2 * flame.row + 5);
    if (flame.top) // it hit one of the few wide ones
        assert_true(box_at(3, 0) == 1000);
}

static void check(struct shown *s)
{
    (void)s;
    assert_true(flame.top < model->stacks.count);
    assert_true(flame.chosen < model->stacks.count);
    assert_true(flame.scroll >= 0);
    assert_true(strlen(flame.search) < sizeof flame.search);
    assert_true(s->list.count < 4u * (uint32_t)s->width + 4000);
}

static void any_events_do_no_harm(void **state)
{
    (void)state;
    shown_fuzz(&stage, 4000, check);
}

static void profiles_without_values_are_refused(void **state)
{
    (void)state;
    struct profile_model *none = NULL;
    struct fscope_error err = {0};
    struct pprof_profile *p = MADE({"main", -5});
    assert_int_equal(profile_model_of(&none, p, "x.pb", "cpu", false, &err), -ENODATA);
    assert_null(none);
    p = MADE({"main", 5});
    assert_true(profile_model_of(&none, p, "x.pb", "bananas", false, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_are_as_wide_as_their_values, small, end),
        cmocka_unit_test_setup_teardown(a_click_zooms_and_undo_returns, small, end),
        cmocka_unit_test_setup_teardown(arrows_walk_to_the_heaviest, small, end),
        cmocka_unit_test_setup_teardown(search_sums_what_matches_once, small, end),
        cmocka_unit_test_setup_teardown(narrow_frames_stand_together, wide, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, wide, end),
        cmocka_unit_test(profiles_without_values_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
