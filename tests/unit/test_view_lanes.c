// SPDX-License-Identifier: MIT
//
// Lanes of fibers and threads show what was written, one choice is seen on all of them, and keys
// go from it to who woke it and to whom it woke.

#include "tests/unit/shown.h"
#include "tests/unit/written_trace.h"
#include "viewer/views/timeline.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static struct shown stage;
static struct trace_model *model;
static struct timeline timeline;

static void frame(void *view, struct ui *u, struct rect r)
{
    timeline_frame(view, u, r);
}

static void show(struct written *m, int height)
{
    struct trace_reader *r = written_end(m);
    struct fscope_error err = {0};
    if (trace_model_read(&model, r, &err))
        fail_msg("%s", err.text);
    trace_reader_close(r);
    written_free(m);
    assert_int_equal(timeline_init(&timeline, model), 0);
    shown_init(&stage, 860, height); // the gutter has 160 pixels: 700 remain
    stage.frame = frame;
    stage.view = &timeline;
    shown_once(&stage, NULL);
}

static int relay(void **state)
{
    struct written m;
    (void)state;
    written_begin(&m);
    written_relay(&m);
    show(&m, 900);
    assert_int_equal(timeline.lanes.w, 700);
    timeline.shown.end = 7000; // 10 ns are a pixel
    shown_once(&stage, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    timeline_finish(&timeline);
    trace_model_free(model);
    shown_finish(&stage);
    return 0;
}

static uint32_t fiber(int64_t id)
{
    uint32_t lane = trace_spans_lane(model->spans, TRACE_RESOURCE_GOROUTINE, id);
    assert_true(lane != TRACE_NO_LANE);
    return lane;
}

static struct rect row_of(uint32_t lane)
{
    const struct lanes_row *row = lanes_find(&timeline.rows, lane);
    assert_non_null(row);
    return rect_make(timeline.lanes.x, timeline.lanes.y + row->y - timeline.scroll,
                     timeline.lanes.w, row->height);
}

static const struct draw_item *find_item(uint8_t op, uint32_t color, struct rect row, int begin_ns,
                                         int end_ns)
{
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        struct rect r = item->rect;
        if (item->op == op && item->color == color && r.x == row.x + begin_ns / 10 &&
            r.w == (end_ns - begin_ns) / 10 && r.y >= row.y && r.y + r.h <= row.y + row.h)
            return item;
    }
    return NULL;
}

static void has_box(int64_t id, uint32_t color, int begin_ns, int end_ns)
{
    if (!find_item(DRAW_RECT, color, row_of(fiber(id)), begin_ns, end_ns))
        fail_msg("no box of fiber %" PRId64 " at %d to %d in\n%s", id, begin_ns, end_ns,
                 shown_text(&stage));
}

// The begin of what is chosen, in ns since the trace began.
static int64_t chosen_ns(void)
{
    assert_true(timeline.span != TRACE_NO_SPAN);
    return trace_span_begin_ns(model->spans, timeline.span) - model->begin_ns;
}

static void fibers_have_their_states(void **state)
{
    const struct theme *c = &stage.ui.theme;
    (void)state;
    has_box(1, c->running, 0, 1000);
    has_box(1, c->runnable, 5000, 5500);
    has_box(1, c->running, 5500, 7000);
    has_box(2, c->runnable, 1500, 2000);
    has_box(2, c->running, 2000, 3000);
    has_box(2, c->runnable, 4000, 4200);
    has_box(2, c->running, 4200, 6000);
    assert_true(shown_says(&stage, "chan receive"));
    assert_true(shown_says(&stage, "sleep"));
    assert_true(shown_says(&stage, "1 fiber, ran 2.50us"));
    assert_true(shown_says(&stage, "1 fiber, ran 2.80us"));
    assert_true(shown_says(&stage, "35.7%")); // both the Proc and its only fiber
    // What it waits for is a colour: these differ, and from those who work.
    assert_int_equal(model->state_of[model->spans->kind[model->spans->lanes[fiber(1)].first + 1]],
                     TRACE_STATE_CHANNEL);
    // The region stands below its fiber: 40 pixels of air above it, and its name in it.
    struct rect row = row_of(fiber(1));
    assert_int_equal(row.h, row_of(fiber(2)).h + timeline.rows.sizes.region);
    bool found = false;
    for (uint32_t i = 0; i < stage.list.count; i++) {
        struct rect r = stage.list.items[i].rect;
        found |= stage.list.items[i].op == DRAW_RECT && r.x == row.x + 50 && r.w == 600 &&
                 r.y >= row.y + row.h - timeline.rows.sizes.region - 1 &&
                 r.y + r.h <= row.y + row.h;
    }
    assert_true(found);
    assert_true(shown_says(&stage, "job"));
}

// What a strip is at a moment: its height of 255, and its colour; 0: nothing there.
static int strip_at(struct rect row, int at_ns, uint32_t *color)
{
    int height = 0;
    *color = 0;
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        if (item->op != DRAW_STRIP || item->rect.y < row.y || item->rect.y >= row.y + row.h ||
            !item->colors[at_ns / 10])
            continue;
        height = height ? height : item->heights[at_ns / 10]; // the first is the whole
        *color = item->colors[at_ns / 10];                    // the last covers it
    }
    return height;
}

static void what_ran_is_stacked_by_function(void **state)
{
    const struct theme *c = &stage.ui.theme;
    struct rect busy = {0, timeline.lanes.y - 33, 0, 33};
    uint32_t worker = theme_mix(c->ground, c->series[0], 0.8), color;
    uint32_t main_color = theme_mix(c->ground, c->series[1], 0.8);
    (void)state;
    assert_int_equal(strip_at(busy, 500, &color), 128); // one of two Procs
    assert_int_equal(color, main_color);
    assert_int_equal(strip_at(busy, 1800, &color), 0);
    assert_int_equal(strip_at(busy, 2500, &color), 128);
    assert_int_equal(color, worker);
    assert_int_equal(strip_at(busy, 5700, &color), 255); // both; the worker is below
    assert_int_equal(color, worker);
    // The groups' heads have each its own part.
    for (uint32_t i = 0; i < timeline.rows.count; i++) {
        const struct lanes_row *r = &timeline.rows.rows[i];
        struct rect row = {0, timeline.lanes.y + r->y, 0, r->height};
        if (r->kind != LANES_GROUP)
            continue;
        bool is_worker = model->groups[r->what].name == model->named[0];
        assert_int_equal(strip_at(row, 500, &color), is_worker ? 0 : 128);
        assert_int_equal(strip_at(row, 2500, &color), is_worker ? 128 : 0);
        assert_int_equal(strip_at(row, 5700, &color), 128);
    }
}

static void one_choice_is_seen_on_all_its_lanes(void **state)
{
    uint32_t p1 = trace_spans_lane(model->spans, TRACE_RESOURCE_PROC, 1), m1 = TRACE_NO_LANE;
    (void)state;
    shown_click(&stage, row_of(p1).x + 250, row_of(p1).y + 20);
    assert_int_equal(chosen_ns(), 2000);
    assert_int_equal(timeline.lane, p1);
    const struct theme *c = &stage.ui.theme;
    assert_non_null(find_item(DRAW_FRAME, c->text, row_of(p1), 2000, 3000));
    assert_non_null(find_item(DRAW_FRAME, c->accent, row_of(fiber(2)), 2000, 3000));
    assert_null(find_item(DRAW_FRAME, c->accent, row_of(fiber(1)), 2000, 3000));
    for (int i = 0; i < 2; i++) { // to its thread, which opens them, and to its fiber
        uint32_t span = timeline.span;
        shown_key(&stage, 'v', 0);
        assert_int_equal(timeline.span, span);
        uint8_t kind = trace_spans_lane_kind(model->spans, timeline.lane);
        assert_int_equal(kind, i ? TRACE_RESOURCE_GOROUTINE : TRACE_RESOURCE_THREAD);
        m1 = i ? m1 : timeline.lane;
        assert_non_null(find_item(DRAW_FRAME, c->text, row_of(timeline.lane), 2000, 3000));
    }
    assert_int_equal(model->spans->lanes[m1].id, 11); // what the trace says of Proc 1
    shown_key(&stage, '.', 0);                        // along the fiber, through all its states
    assert_int_equal(chosen_ns(), 3000);
    assert_true(shown_says(&stage, "sleep 1us, at 3us, then runnable"));
}

static void wakeups_are_walked_both_ways(void **state)
{
    (void)state;
    struct rect row = row_of(fiber(1));
    shown_click(&stage, row.x + 600, row.y + 10);
    assert_int_equal(chosen_ns(), 5500);
    assert_true(shown_says(&stage, "woken by worker  fiber 2 in send, at 5us"));
    // Its arrow goes from the worker's lane to this one, at 5000 ns.
    struct rect from = row_of(fiber(2));
    int x = row.x + 500, lines = 0;
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        if (item->op != DRAW_LINE || item->color != stage.ui.theme.accent)
            continue;
        lines++;
        assert_int_equal(item->x, x);
        assert_int_equal(item->x2, x);
        assert_true(item->y > from.y && item->y < from.y + from.h);
        assert_true(item->y2 > row.y - 8 && item->y2 < row.y + row.h + 8);
    }
    assert_int_equal(lines, 1);
    shown_key(&stage, '[', 0);
    assert_int_equal(timeline.lane, fiber(2));
    assert_int_equal(chosen_ns(), 4200);
    shown_key(&stage, ']', 0);
    assert_int_equal(timeline.lane, fiber(1));
    assert_int_equal(chosen_ns(), 5500);
    shown_key(&stage, '[', 0); // who woke the worker is not in the trace: it goes back in time
    shown_key(&stage, '[', 0);
    assert_int_equal(timeline.lane, fiber(2));
    assert_int_equal(chosen_ns(), 4000);
}

static void lanes_below_and_above_are_reached_by_key(void **state)
{
    (void)state;
    shown_key(&stage, 'j', 0);
    assert_int_equal(timeline.lane, model->lanes[0].lane);
    shown_key(&stage, 'j', 0);
    shown_key(&stage, 'j', 0);
    assert_int_equal(timeline.lane, fiber(2)); // it ran longest
    shown_key(&stage, 'j', 0);
    assert_int_equal(timeline.lane, fiber(1));
    shown_key(&stage, 'j', 0);
    assert_int_equal(timeline.lane, fiber(1)); // the last
    shown_key(&stage, 'k', 0);
    assert_int_equal(timeline.lane, fiber(2));
}

static void navigation_is_undone_and_done_again(void **state)
{
    (void)state;
    timeline.shown.end = 7001;
    struct timeline_window whole = timeline.shown;
    for (int i = 0; i < 3; i++)
        shown_key(&stage, 'w', 0); // one thing to undo
    struct timeline_window near = timeline.shown;
    shown_key(&stage, '0', 0);
    shown_key(&stage, 'z', UI_CTRL);
    assert_memory_equal(&timeline.shown, &near, sizeof near);
    shown_key(&stage, 'z', UI_CTRL);
    assert_memory_equal(&timeline.shown, &whole, sizeof whole);
    shown_key(&stage, 'z', UI_CTRL); // there is no more
    shown_key(&stage, 's', 0);       // nothing changes: what was undone can still be done again
    shown_key(&stage, 'y', UI_CTRL);
    assert_memory_equal(&timeline.shown, &near, sizeof near);
    // The minimap: its middle shows the middle.
    shown_click(&stage, timeline.lanes.x + 350, 5);
    assert_true(fabs((timeline.shown.begin + timeline.shown.end) / 2 - 3500.5) < 10);
}

static void marks_are_set_and_found_again(void **state)
{
    (void)state;
    struct rect row = row_of(fiber(2));
    shown_click(&stage, row.x + 250, row.y + 10);
    shown_key(&stage, 'm', 0);
    assert_int_equal(timeline.mark_count, 1);
    assert_true(timeline.marks[0].begin == 2000 && timeline.marks[0].end == 3000);
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    shown_mouse(&stage, UI_MOVE, row.x + 600, row.y + 10);
    shown_key(&stage, 'm', 0);
    assert_true(fabs(timeline.marks[1].begin - 6000) < 1e-6);
    assert_true(shown_says(&stage, "A") && shown_says(&stage, "B"));
    timeline_show(&timeline, 6000, 7000);
    shown_key(&stage, '\'', 0); // the one after the last: the first
    assert_true(timeline.shown.begin < 2500 && timeline.shown.end > 2500);
    assert_true(timeline.range.begin == 2000 && timeline.range.end == 3000);
    shown_key(&stage, 'm', 0); // again: takes it away
    assert_int_equal(timeline.mark_count, 1);
    assert_true(fabs(timeline.marks[0].begin - 6000) < 1e-6);
    shown_key(&stage, 'm', UI_SHIFT);
    assert_int_equal(timeline.mark_count, 0);
}

// --- Many fibers, of two functions.

enum { CROWD = 2000 };

static int crowd(void **state)
{
    struct written m;
    (void)state;
    written_begin(&m);
    uint64_t waits = written_stack(&m, "wait", "main"), at = 2000;
    uint64_t even = written_stack(&m, "even", "even_run"),
             odd = written_stack(&m, "odd", "odd_run");
    written_block(&m, 0, at, "sleep", waits);
    for (uint64_t i = 0; i < CROWD; i++)
        written_say(&m, 1, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, 100 + i, UINT64_MAX,
                    TRACE_GO_STATUS_WAITING, i % 2 ? odd : even);
    for (uint64_t i = 0; i < 40; i++, at += 2000) { // fiber 100 + i runs for 10 (i + 1) ns
        written_wake(&m, 0, at + 10, 100 + i, 0);
        written_start(&m, 0, at + 20, 100 + i);
        written_block(&m, 0, at + 30 + 10 * i, i % 2 ? "sleep" : "chan receive",
                      i % 2 ? odd : even);
    }
    show(&m, 900);
    return 0;
}

static uint32_t fibers_shown(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < timeline.rows.count; i++)
        n += timeline.rows.rows[i].kind == LANES_FIBER;
    return n;
}

static int64_t nth_fiber(uint32_t n)
{
    for (uint32_t i = 0; i < timeline.rows.count; i++)
        if (timeline.rows.rows[i].kind == LANES_FIBER && !n--)
            return model->spans->lanes[timeline.rows.rows[i].what].id;
    fail();
    return 0;
}

static void type(const char *text)
{
    for (; *text; text++)
        shown_event(&stage, (struct ui_event){.kind = UI_TEXT, .text = {*text}});
}

static void groups_open_close_and_cost_what_is_seen(void **state)
{
    (void)state;
    assert_int_equal(model->group_count, 4); // even_run, odd_run, main, worker
    assert_int_equal(fibers_shown(), 2);     // the small ones are open
    char text[64];
    snprintf(text, sizeof text, "%d fibers, ran %s", CROWD / 2, "4.20us"); // of 20 + 40 + .. + 400
    assert_true(shown_says(&stage, text));
    shown_key(&stage, 'c', 0); // closes them, opens all
    assert_int_equal(fibers_shown(), 0);
    shown_key(&stage, 'c', 0);
    assert_int_equal(fibers_shown(), CROWD + 2);
    assert_true(timeline.rows.live_count < 60); // levels of detail only of what is in sight
    assert_true(stage.list.count < 40000);
    for (int i = 0; i < 100; i++)
        shown_event(&stage, (struct ui_event){.kind = UI_WHEEL, .x = 400, .y = 300, .dy = -1200});
    assert_true(timeline.rows.bytes < 9 << 20);
    // A click on a head closes its group.
    timeline.scroll = 0;
    shown_once(&stage, NULL);
    const struct lanes_row *head = NULL;
    for (uint32_t i = 0; i < timeline.rows.count && !head; i++)
        head = timeline.rows.rows[i].kind == LANES_GROUP ? &timeline.rows.rows[i] : NULL;
    shown_click(&stage, 30, timeline.lanes.y + head->y + 5);
    assert_int_equal(fibers_shown(), CROWD / 2 + 2);
}

static void filter(const char *text)
{
    snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "%s", text);
    timeline.rows.is_stale = true;
    shown_once(&stage, NULL);
}

static void words_that_mean_nothing_are_told(void **state)
{
    (void)state;
    static const char *const words[][2] = {{"ran>abc", "\"abc\" is no time"},
                                           {"there>1x", "\"1x\" is no time"},
                                           {"state:asleep", "no state \"asleep\""},
                                           {"stat:lock", "nothing has \"stat:lock\""},
                                           {"ran>1m", ""}, // being typed
                                           {"state:", ""},
                                           {"state:network", ""}, // there is such a state
                                           {"state:chan", ""}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        filter(words[i][0]);
        assert_string_equal(lanes_filter_error(&timeline.rows), words[i][1]);
        assert_true(!*words[i][1] || shown_says(&stage, words[i][1]));
    }
    // What stands on lanes, "sleep", is a reason; so is "chan receive", whose state is "channel".
    const struct trace_lane *odd = &model->spans->lanes[fiber(101)];
    timeline.rows.sort_at_ns = odd->end_ns - 1;
    filter("state:sleep");
    uint32_t asleep = timeline.rows.matching;
    filter("state:receive");
    assert_int_equal(asleep, 1 + 20); // main, and those that ran as odd_run
    assert_int_equal(timeline.rows.matching, 20);
}

static void heads_are_of_what_matches(void **state)
{
    (void)state;
    assert_false(timeline.rows.unfolded[model->group_count - 1] && fibers_shown() > 2);
    filter("ran>350ns");                 // 135 to 139, of 360 to 400 ns, and main
    assert_int_equal(fibers_shown(), 6); // in groups that are closed otherwise
    assert_true(shown_says(&stage, "2 of 1000 fibers, ran 760ns"));  // 136 and 138
    assert_true(shown_says(&stage, "3 of 1000 fibers, ran 1.14us")); // 135, 137, 139
    // A group can be closed under a filter, and is as it was without it.
    shown_key(&stage, 'c', 0);
    assert_int_equal(fibers_shown(), 0);
    filter("");
    assert_int_equal(fibers_shown(), 2);
    filter("ran>350ns");
    assert_int_equal(fibers_shown(), 6);
    // "ran" is of the same time as the percentages.
    int64_t begin = trace_span_begin_ns(model->spans, model->spans->lanes[fiber(139)].first + 2);
    timeline.range = (struct timeline_window){(double)(begin - model->begin_ns),
                                              (double)(begin - model->begin_ns) + 100};
    shown_once(&stage, NULL);
    assert_true(shown_says(&stage, "3 of 1000 fibers, ran 100ns"));
    assert_true(shown_says(&stage, "2 of 1000 fibers, ran 0"));
}

// With a clock a filter is looked for in slices, under the rows before it.
static void typing_waits_for_no_filter(void **state)
{
    (void)state;
    shown_once(&stage, NULL);
    uint32_t rows = timeline.rows.count, calls = 0;
    timeline.rows.slice = 100;
    snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "odd_run");
    timeline.rows.is_stale = true;
    struct lanes_sizes sizes = timeline.rows.sizes;
    do {
        assert_int_equal(timeline.rows.count, rows);
        assert_int_equal(lanes_arrange(&timeline.rows, &sizes), 0);
        calls++;
    } while (timeline.rows.making);
    assert_true(calls > 50);
    assert_int_equal(timeline.rows.matching, CROWD / 2);
    // Taken back while it is looked for.
    snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "even_run");
    timeline.rows.is_stale = true;
    assert_int_equal(lanes_arrange(&timeline.rows, &sizes), 0);
    assert_non_null(timeline.rows.making);
    snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "odd_run");
    timeline.rows.is_stale = true;
    assert_int_equal(lanes_arrange(&timeline.rows, &sizes), 0);
    assert_null(timeline.rows.making);
    assert_int_equal(timeline.rows.matching, CROWD / 2);
}

static void fibers_are_filtered_and_sorted(void **state)
{
    (void)state;
    shown_key(&stage, '/', 0);
    type("ODD_");
    assert_int_equal(timeline.rows.matching, CROWD / 2);
    assert_true(shown_says(&stage, "1000 of 2002 match, found 1000 times (n, N)"));
    type("x");
    assert_true(shown_says(&stage, "nothing has \"ODD_x\""));
    assert_int_equal(timeline.rows.matching, 0);
    shown_key(&stage, UI_KEY_ENTER, 0);
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    assert_int_equal(timeline.rows.matching, CROWD + 2);
    shown_key(&stage, 'c', 0);
    shown_key(&stage, 'c', 0);
    // Words: each has to hold.
    struct {
        const char *text;
        uint32_t count;
    } words[] = {{"even_run ran>350ns", 2}, // 136 and 138; 134 ran 350 and no more
                 {"ran>395ns", 2},          // 139, and main with its 1000
                 {"ran>0.3us _run", 10},
                 {"state:sleep", 1},
                 {"name:odd_run", CROWD / 2},
                 {"name:wait", 0}, // a function of main's stacks
                 {"there>1s", 0}};
    uint32_t asleep = model->spans->lanes[fiber(1)].first + 1; // main, and nobody else yet
    timeline.rows.sort_at_ns = trace_span_begin_ns(model->spans, asleep);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "%s", words[i].text);
        timeline.rows.is_stale = true;
        shown_once(&stage, NULL);
        if (timeline.rows.matching != words[i].count)
            fail_msg("%s: %u", words[i].text, timeline.rows.matching);
    }
    timeline.rows.filter[0] = 0;
    timeline.rows.is_stale = true;
    shown_once(&stage, NULL);
    // By activity: odd_run's 139 ran 400 ns, 137 380 ns; even_run's 138 390 ns.
    assert_int_equal(nth_fiber(0), 139);
    assert_int_equal(nth_fiber(1), 137);
    assert_int_equal(nth_fiber(CROWD / 2), 138);
    shown_key(&stage, 'o', 0); // by name: groups, then ids
    assert_int_equal(nth_fiber(0), 100);
    assert_int_equal(nth_fiber(1), 102);
    assert_int_equal(nth_fiber(CROWD / 2 + 1), 101);
    // By state, at the beginning of what is chosen: only this one runs.
    uint32_t lane = fiber(121), span = model->spans->lanes[lane].first + 2;
    assert_int_equal(trace_span_state(model->spans, span), TRACE_GO_RUNNING);
    timeline_choose(&timeline, span, lane);
    shown_key(&stage, 'o', 0);
    assert_int_equal(timeline.rows.sort, LANES_BY_STATE);
    bool found = false;
    for (uint32_t i = 0; i < timeline.rows.count; i++)
        if (timeline.rows.rows[i].kind == LANES_GROUP)
            found |= lanes_of_row(&timeline.rows, &timeline.rows.rows[i + 1]) == lane;
    assert_true(found); // the first of its group
    shown_key(&stage, 'o', 0);
    assert_int_equal(timeline.rows.sort, LANES_BY_DURATION); // there are no labels
}

static void check(struct shown *s)
{
    (void)s;
    assert_false(timeline.failed);
    assert_int_equal(timeline.lane == TRACE_NO_LANE, timeline.span == TRACE_NO_SPAN);
    if (timeline.span != TRACE_NO_SPAN)
        assert_true(lanes_index(model->spans, timeline.lane, timeline.span) != UINT32_MAX);
}

static void any_events_do_no_harm(void **state)
{
    (void)state;
    shown_fuzz(&stage, 1500, check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fibers_have_their_states, relay, end),
        cmocka_unit_test_setup_teardown(what_ran_is_stacked_by_function, relay, end),
        cmocka_unit_test_setup_teardown(one_choice_is_seen_on_all_its_lanes, relay, end),
        cmocka_unit_test_setup_teardown(wakeups_are_walked_both_ways, relay, end),
        cmocka_unit_test_setup_teardown(lanes_below_and_above_are_reached_by_key, relay, end),
        cmocka_unit_test_setup_teardown(navigation_is_undone_and_done_again, relay, end),
        cmocka_unit_test_setup_teardown(marks_are_set_and_found_again, relay, end),
        cmocka_unit_test_setup_teardown(groups_open_close_and_cost_what_is_seen, crowd, end),
        cmocka_unit_test_setup_teardown(fibers_are_filtered_and_sorted, crowd, end),
        cmocka_unit_test_setup_teardown(words_that_mean_nothing_are_told, crowd, end),
        cmocka_unit_test_setup_teardown(heads_are_of_what_matches, crowd, end),
        cmocka_unit_test_setup_teardown(typing_waits_for_no_filter, crowd, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, crowd, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
