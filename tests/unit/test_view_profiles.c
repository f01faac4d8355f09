// SPDX-License-Identifier: MIT
//
// The pages of a profile by keys and mouse: what is chosen in one is chosen in the others, tables
// sort and open, refinements come and go, and nothing that a user does breaks it.

#include "tests/unit/made_profile.h"
#include "tests/unit/shown.h"
#include "viewer/views/profiles.h"

#include <errno.h>
#include <stdio.h>

static struct shown stage;
static struct profile_file *file;
static struct profile_model *first;
static struct profiles pages;

static void frame(void *view, struct ui *u, struct rect r)
{
    profiles_frame(view, u, r);
}

static void open_file(struct pprof_profile *p, struct pprof_profile *base)
{
    struct fscope_error err = {0};
    assert_int_equal(profile_file_of(&file, p, "dir/p.pb.gz", base, "dir/old.pb.gz", &err), 0);
    if (profile_model_first(&first, file, "cpu", false, &err))
        fail_msg("%s", err.text);
    assert_int_equal(profiles_init(&pages, file, first, false, ""), 0);
    shown_init(&stage, 1000, 400);
    stage.frame = frame;
    stage.view = &pages;
    shown_once(&stage, NULL);
}

static void show_page(int page)
{
    profiles_show(&pages, page);
    shown_once(&stage, NULL);
}

static int small(void **state)
{
    (void)state;
    open_file(MADE({"main;parse>inner;read", 300000000, "", 3}, {"main;parse", 100000000, "", 1},
                   {"main;write", 200000000, "", 4}, {"idle", 400000000, "", 2}),
              NULL);
    return 0;
}

static int pair(void **state)
{
    (void)state;
    open_file(MADE({"main;same", 100000000}, {"main;more", 300000000}, {"main;new", 50000000}),
              MADE({"main;same", 100000000}, {"main;more", 100000000}, {"main;gone", 150000000}));
    return 0;
}

static int end(void **state)
{
    (void)state;
    profiles_finish(&pages);
    profile_model_free(first);
    profile_file_free(file);
    shown_finish(&stage);
    return 0;
}

// The texts of the line on which `text` is drawn, from the left, with " | " between; NULL if it is
// nowhere. Stands until the next call.
static const char *line_of(const char *text)
{
    static char line[2000];
    int y = -1, x = -1;
    size_t n = 0;
    for (uint32_t i = 0; i < stage.list.count; i++)
        if (stage.list.items[i].op == DRAW_TEXT && !strcmp(stage.list.items[i].text, text))
            y = stage.list.items[i].y;
    if (y < 0)
        return NULL;
    for (line[0] = 0;;) {
        const struct draw_item *best = NULL;
        for (uint32_t i = 0; i < stage.list.count; i++) {
            const struct draw_item *item = &stage.list.items[i];
            if (item->op == DRAW_TEXT && item->y == y && item->x > x &&
                (!best || item->x < best->x))
                best = item;
        }
        if (!best)
            return line;
        x = best->x;
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", n ? " | " : "", best->text);
    }
}

// Rows of a table's body by their texts' lowest line.
static int row_of(const char *text)
{
    for (uint32_t i = 0; i < stage.list.count; i++)
        if (stage.list.items[i].op == DRAW_TEXT && !strcmp(stage.list.items[i].text, text))
            return stage.list.items[i].y;
    return -1;
}

static void type(const char *text)
{
    for (; *text; text++)
        shown_event(&stage, (struct ui_event){.kind = UI_TEXT, .text = {*text}});
}

static void the_table_sorts_by_each_column(void **state)
{
    (void)state;
    show_page(PROFILES_TOP);
    assert_string_equal(line_of("idle"), "400ms | 40.00% | 40.00% | 400ms | 40.00% | idle");
    assert_string_equal(line_of("read"), "300ms | 30.00% | 70.00% | 300ms | 30.00% | read");
    assert_string_equal(line_of("parse"), "100ms | 10.00% | 100% | 400ms | 40.00% | parse");
    assert_string_equal(line_of("main"), "0 | 0% | 100% | 600ms | 60.00% | main");
    shown_key(&stage, 's', UI_SHIFT); // the other way round
    assert_true(row_of("main") < row_of("parse") && row_of("parse") < row_of("idle"));
    shown_key(&stage, 's', UI_SHIFT);
    assert_true(row_of("idle") < row_of("read") && row_of("read") < row_of("write"));
    shown_key(&stage, 's', 0); // flat%, then cum
    shown_key(&stage, 's', 0);
    assert_int_equal(pages.top.table.sort, TOP_CUM);
    assert_true(row_of("main") < row_of("idle") && row_of("parse") < row_of("read"));
    assert_string_equal(line_of("idle"), "400ms | 40.00% | 40.00% | 400ms | 40.00% | idle");
    shown_click(&stage, pages.top.table.body.w - 20, pages.top.table.body.y - 5); // by name
    assert_int_equal(pages.top.table.sort, TOP_NAME);
    assert_true(row_of("idle") < row_of("main") && row_of("main") < row_of("parse"));
    shown_key(&stage, UI_KEY_END, 0);
    assert_string_equal(pages.function, "write");
    shown_key(&stage, UI_KEY_ENTER, 0); // focuses
    assert_true(shown_says(&stage, "focus ^write$  \xc3\x97"));
    assert_true(shown_says(&stage, "cpu: shown 200ms, 20.00% of 1000ms"));
}

static void what_is_chosen_is_chosen_everywhere(void **state)
{
    (void)state;
    assert_true(profiles_choose(&pages, "parse"));
    assert_false(profiles_choose(&pages, "nobody"));
    for (int page = 0; page < PROFILES_PAGES; page++) {
        show_page(page);
        assert_true(shown_says(&stage, "parse: 400ms, 40.00%; of its own 100ms"));
    }
    show_page(PROFILES_FLAME);
    assert_string_equal(pages.model->stacks.nodes[pages.flame.chosen].name, "parse");
    shown_key(&stage, UI_KEY_UP, 0);
    assert_string_equal(pages.function, "main");
    show_page(PROFILES_TREE);
    assert_string_equal(tree_chosen(&pages.tree), "main");
    show_page(PROFILES_SANDWICH);
    assert_string_equal(pages.sandwich.function, "main");
}

static void the_tree_opens_and_closes(void **state)
{
    (void)state;
    show_page(PROFILES_TREE);
    assert_true(profiles_choose(&pages, "main"));
    shown_once(&stage, NULL);
    assert_string_equal(line_of("main"), "600ms | 60.00% | 0 | main");
    assert_string_equal(line_of("parse"), "400ms | 40.00% | 100ms | parse");
    assert_true(row_of("parse") < row_of("write")); // the heaviest first
    shown_key(&stage, UI_KEY_LEFT, 0);
    assert_null(line_of("parse"));
    shown_key(&stage, 'l', 0);
    assert_string_equal(tree_chosen(&pages.tree), "read");
    assert_string_equal(line_of("inner (inline)"), "300ms | 30.00% | 0 | inner (inline)");
    shown_key(&stage, UI_KEY_LEFT, 0);
    assert_string_equal(tree_chosen(&pages.tree), "inner");
    shown_key(&stage, 'v', 0); // leaves first
    assert_true(pages.model->stacks.nodes[1].depth == 1);
    assert_non_null(line_of("write"));
    assert_string_equal(line_of("write"), "200ms | 20.00% | 0 | write");
}

static void refinements_are_chips_with_a_way_back(void **state)
{
    (void)state;
    show_page(PROFILES_TOP);
    shown_key(&stage, 'r', 0);
    type("focus=parse");
    shown_key(&stage, UI_KEY_ENTER, 0);
    assert_true(shown_says(&stage, "focus parse  \xc3\x97"));
    assert_true(shown_says(&stage, "cpu: shown 400ms, 40.00% of 1000ms"));
    assert_null(line_of("idle"));
    assert_true(profiles_choose(&pages, "read"));
    shown_key(&stage, 'h', UI_SHIFT);
    assert_true(shown_says(&stage, "hide ^read$  \xc3\x97"));
    assert_null(line_of("read"));
    assert_string_equal(line_of("inner (inline)"),
                        "300ms | 30.00% | 30.00% | 300ms | 30.00% | inner (inline)");
    shown_key(&stage, 'z', UI_CTRL);
    assert_non_null(line_of("read"));
    shown_key(&stage, 'z', UI_CTRL);
    assert_non_null(line_of("idle"));
    shown_key(&stage, 'z', UI_CTRL); // there is no more
    shown_key(&stage, 'y', UI_CTRL);
    assert_null(line_of("idle"));
    shown_key(&stage, 'y', UI_CTRL);
    assert_null(line_of("read"));
    // A click removes the first; the second stays.
    shown_click(&stage, 20, row_of("focus parse  \xc3\x97"));
    assert_non_null(line_of("idle"));
    assert_null(line_of("read"));
    assert_int_equal(refine_now(&pages.refine)->count, 1);
}

static void what_leaves_nothing_is_not_taken(void **state)
{
    (void)state;
    struct fscope_error err = {0};
    assert_int_equal(profiles_refine(&pages, "nobody_is_called_so", &err), -ENODATA);
    assert_int_equal(profiles_refine(&pages, "hide=(", &err), -EINVAL);
    assert_int_equal(profiles_refine(&pages, "show=", &err), -EINVAL);
    assert_int_equal(refine_now(&pages.refine)->count, 0);
    shown_key(&stage, 'r', 0);
    type("((");
    shown_key(&stage, UI_KEY_ENTER, 0);
    assert_true(pages.editing); // to be mended
    assert_non_null(strstr(pages.message, "focus"));
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    assert_false(pages.editing);
    assert_true(shown_says(&stage, "cpu: shown 1s, 100% of 1s"));
    // Several of one kind: any of them.
    assert_int_equal(profiles_refine(&pages, "focus=idle", &err), 0);
    assert_int_equal(profiles_refine(&pages, "focus=write", &err), 0);
    shown_once(&stage, NULL);
    assert_true(shown_says(&stage, "cpu: shown 600ms, 60.00% of 1s"));
}

static void sample_types_are_switched(void **state)
{
    (void)state;
    show_page(PROFILES_TOP);
    shown_key(&stage, 't', 0);
    assert_true(shown_says(&stage, "samples: shown 10, 100% of 10"));
    assert_string_equal(line_of("write"), "4 | 40.00% | 40.00% | 4 | 40.00% | write");
    shown_key(&stage, 't', 0);
    assert_true(shown_says(&stage, "cpu: shown 1000ms, 100% of 1000ms"));
    shown_key(&stage, 'z', UI_CTRL);
    assert_true(shown_says(&stage, "samples: shown 10, 100% of 10"));
}

static void a_difference_is_red_and_blue(void **state)
{
    (void)state;
    const struct theme *t = &stage.ui.theme;
    assert_true(shown_says(&stage, "cpu: base 350ms \xe2\x86\x92 450ms (+100ms, +28.6%). "
                                   "Width: what either has"));
    // Widths: gone 150, grew 300, new 50, same 100, by name: of 600.
    static const struct {
        const char *name;
        int step, x, w;
    } want[] = {{"gone", -4, 0, 250},
                {"more", 4 - 1, 250, 500},
                {"new", 4, 750, 83},
                {"same", 0, 833, 167}};
    for (size_t i = 0; i < 4; i++) {
        int y = row_of(want[i].name), found = 0;
        for (uint32_t k = 0; k < stage.list.count; k++) {
            const struct draw_item *item = &stage.list.items[k];
            found += item->op == DRAW_RECT && item->rect.x == want[i].x && item->rect.y < y &&
                     item->rect.y + item->rect.h > y &&
                     item->color == theme_change(t, want[i].step) &&
                     abs(item->rect.w + 1 - want[i].w) <= 1;
        }
        assert_int_equal(found, 1);
    }
    show_page(PROFILES_TOP);
    assert_string_equal(line_of("gone"), "-150ms | 42.86% | 14.29% | -150ms | 42.86% | gone");
    assert_true(shown_says(&stage, "cpu: difference 100ms, 28.57% of the base's 350ms"));
    // What did not change can be chosen where it is drawn, and is in no table.
    show_page(PROFILES_FLAME);
    shown_click(&stage, 900, row_of("same"));
    assert_string_equal(pages.function, "same");
    show_page(PROFILES_SANDWICH);
    assert_true(shown_says(&stage, "same has as much in both: only what changed is here"));
}

static bool is_drawn(const char *function)
{
    for (uint32_t i = 0; i < pages.model->stacks.count; i++)
        if (!strcmp(pages.model->stacks.nodes[i].name, function))
            return true;
    return false;
}

static void check(struct shown *s)
{
    (void)s;
    assert_true(pages.refine.at < pages.refine.count && pages.refine.count <= REFINE_STATES);
    assert_true(refine_now(&pages.refine)->count <= REFINE_CHIPS);
    assert_true(pages.page >= 0 && pages.page < PROFILES_PAGES);
    // Of two profiles, a function without a difference is not in the table.
    assert_true(!pages.function || profile_function(pages.model, pages.function) ||
                (pages.file->base && is_drawn(pages.function)));
    assert_false(pages.failed);
}

static void any_events_do_no_harm(void **state)
{
    (void)state;
    for (int page = 0; page < PROFILES_PAGES; page++) {
        profiles_show(&pages, page);
        shown_fuzz(&stage, 1500, check);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_table_sorts_by_each_column, small, end),
        cmocka_unit_test_setup_teardown(what_is_chosen_is_chosen_everywhere, small, end),
        cmocka_unit_test_setup_teardown(the_tree_opens_and_closes, small, end),
        cmocka_unit_test_setup_teardown(refinements_are_chips_with_a_way_back, small, end),
        cmocka_unit_test_setup_teardown(what_leaves_nothing_is_not_taken, small, end),
        cmocka_unit_test_setup_teardown(sample_types_are_switched, small, end),
        cmocka_unit_test_setup_teardown(a_difference_is_red_and_blue, pair, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, small, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, pair, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
