// SPDX-License-Identifier: MIT
//
// Stacks below fibers' lanes are where and as long as what was written, and cost what is seen.

#include "tests/unit/shown.h"
#include "tests/unit/written_trace.h"
#include "viewer/views/timeline.h"

#include <stdio.h>

enum { TURNS = 3000, BOXES = 2000 };

static struct shown stage;
static struct trace_model *model;
static struct timeline timeline;

static void frame(void *view, struct ui *u, struct rect r)
{
    timeline_frame(view, u, r);
}

static void show(struct written *m)
{
    struct trace_reader *r = written_end(m);
    struct fscope_error err = {0};
    if (trace_model_read(&model, r, &err))
        fail_msg("%s", err.text);
    trace_reader_close(r);
    written_free(m);
    assert_int_equal(timeline_init(&timeline, model), 0);
    shown_init(&stage, 860, 600); // 700 pixels for lanes
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
    show(&m);
    timeline.shown.end = 7000; // 10 ns are a pixel
    shown_once(&stage, NULL);
    assert_int_equal(timeline.lanes.w, 700);
    return 0;
}

// The worker waits 3000 times, for 90 ns of 100, in one of two functions by turns.
static int turns(void **state)
{
    struct written m;
    (void)state;
    written_begin(&m);
    uint64_t where[] = {written_stack(&m, "odd", "worker"), written_stack(&m, "even", "worker")};
    for (uint64_t i = 0; i < TURNS; i++) {
        uint64_t at = 2000 + 100 * i;
        written_wake(&m, 0, at, 2, 0);
        written_start(&m, 1, at + 5, 2);
        written_block(&m, 1, at + 10, "sync", where[i % 2]);
    }
    show(&m);
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

static const struct lanes_row *row_of(int64_t fiber)
{
    uint32_t lane = trace_spans_lane(model->spans, TRACE_RESOURCE_GOROUTINE, fiber);
    const struct lanes_row *row = lanes_find(&timeline.rows, lane);
    assert_non_null(row);
    return row;
}

static int top_of(const struct lanes_row *row)
{
    return timeline.lanes.y + row->y - timeline.scroll;
}

// Where a row of a fiber's stacks is.
static int stack_y(int64_t fiber, int depth)
{
    const struct lanes_row *row = row_of(fiber);
    const struct lanes_sizes *z = &timeline.rows.sizes;
    return top_of(row) + z->lane + row->depth * z->region + depth * z->frame;
}

// Rectangles of at least so many pixels that are as high as a frame, in a row of a fiber's stacks.
static int boxes_in(int64_t fiber, int depth, int width, struct rect *out, int most)
{
    int n = 0, y = stack_y(fiber, depth);
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *k = &stage.list.items[i];
        if (k->op != DRAW_RECT || k->rect.h != timeline.rows.sizes.frame - 1 ||
            abs(k->rect.y - y) > 1 || k->rect.w < width)
            continue;
        if (n < most)
            out[n] = k->rect;
        n++;
    }
    return n;
}

static void has_boxes(int64_t fiber, int depth, const int (*pixels)[2], int count)
{
    struct rect boxes[8];
    int n = boxes_in(fiber, depth, 2, boxes, 8);
    bool same = n == count;
    for (int i = 0; same && i < n; i++)
        same = boxes[i].x == timeline.lanes.x + pixels[i][0] &&
               boxes[i].x + boxes[i].w == timeline.lanes.x + pixels[i][1];
    if (!same)
        fail_msg("%d boxes of fiber %d at depth %d in\n%s", n, (int)fiber, depth,
                 shown_text(&stage));
}

// The worker waits, then is ready, until 2000 ns, sleeps and is ready from 3000 to 4200, and waits
// from 6000 on. It runs in between: of that no stack is known.
static void a_stack_stands_as_long_as_its_wait(void **state)
{
    (void)state;
    static const int worker[][2] = {{0, 200}, {300, 420}, {600, 700}};
    int height = row_of(2)->height;
    assert_int_equal(row_of(2)->frames, 0); // at first there are none
    assert_false(shown_says(&stage, "receive"));
    shown_key(&stage, 't', 0);
    assert_int_equal(row_of(2)->height, height + 2 * timeline.rows.sizes.frame);
    has_boxes(2, 0, worker, 3);
    has_boxes(2, 1, worker, 3);
    assert_true(shown_says(&stage, "wait") && shown_says(&stage, "sleep"));
    // main waits for the worker and is ready from 1000 to 5500; its region stands between.
    static const int waits[][2] = {{100, 550}};
    assert_int_equal(row_of(1)->depth, 1);
    has_boxes(1, 0, waits, 1);
    has_boxes(1, 1, waits, 1);
    assert_true(shown_says(&stage, "receive") && shown_says(&stage, "job"));
    shown_key(&stage, 't', 0);
    assert_int_equal(row_of(2)->height, height);
    assert_false(shown_says(&stage, "receive"));
}

static void the_mouse_asks_and_chooses(void **state)
{
    (void)state;
    uint32_t worker = trace_spans_lane(model->spans, TRACE_RESOURCE_GOROUTINE, 2);
    uint32_t first = model->spans->lanes[worker].first;
    shown_key(&stage, 't', 0);
    int x = timeline.lanes.x + 350, y = stack_y(2, 1) + 3;
    shown_mouse(&stage, UI_MOVE, x, y);
    assert_true(shown_says(&stage, "1.20us on the stack, at 3us"));
    shown_click(&stage, x, y);
    assert_int_equal(timeline.span, first + 3); // after a wait, ready, running
    assert_int_equal(timeline.lane, worker);
    shown_click(&stage, x + 100, y); // while it ran: nothing is there
    assert_int_equal(timeline.span, TRACE_NO_SPAN);
    shown_click(&stage, timeline.lanes.x + 410, y); // it is ready
    assert_int_equal(timeline.span, first + 4);
    // Of what goes on beyond the edge at least that is known.
    timeline.shown = (struct timeline_window){500, 1400};
    shown_mouse(&stage, UI_MOVE, x, y);
    assert_true(shown_says(&stage, "1.50us or more on the stack, at 0s"));
}

static void the_lane_looked_at_stays_where_it_is(void **state)
{
    (void)state;
    uint32_t worker = trace_spans_lane(model->spans, TRACE_RESOURCE_GOROUTINE, 2);
    stage.height = 300; // little room: rows are scrolled
    timeline_choose(&timeline, model->spans->lanes[worker].first, worker);
    shown_once(&stage, NULL);
    shown_key(&stage, 't', 0);
    int y = top_of(row_of(2));
    assert_true(timeline.scroll > 0);
    shown_key(&stage, 't', 0);
    shown_key(&stage, 't', 0);
    assert_int_equal(top_of(row_of(2)), y);
}

// As many boxes as can be told apart, and never more than are drawn in time.
static void a_crowd_is_a_strip(void **state)
{
    (void)state;
    struct rect box;
    double all = timeline.shown.end;
    shown_key(&stage, 't', 0);
    assert_int_equal(boxes_in(2, 1, 2, &box, 1), 1); // it waited before the turns: 2 pixels or more
    assert_int_equal(boxes_in(2, 0, 500, &box, 1), 1); // the turns
    for (int width = 2000; width <= 8000; width += 1500) {
        stage.width = width;
        shown_once(&stage, NULL);
        assert_in_range(boxes_in(2, 1, 2, &box, 1), 1, BOXES); // 3000 have room in the widest
    }
    stage.width = 860;
    timeline.shown = (struct timeline_window){all / 2, all / 2 + 1000}; // ten turns
    shown_once(&stage, NULL);
    assert_in_range(boxes_in(2, 1, 20, &box, 1), 9, 11);
    assert_true(shown_says(&stage, "odd") && shown_says(&stage, "even"));
}

static void check(struct shown *s)
{
    (void)s;
    assert_false(timeline.failed);
    assert_int_equal(timeline.lane == TRACE_NO_LANE, timeline.span == TRACE_NO_SPAN);
}

static void any_events_do_no_harm(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        stage.ui.focus = 0;
        shown_key(&stage, 't', 0);
        shown_fuzz(&stage, 150, check);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stack_stands_as_long_as_its_wait, relay, end),
        cmocka_unit_test_setup_teardown(the_mouse_asks_and_chooses, relay, end),
        cmocka_unit_test_setup_teardown(the_lane_looked_at_stays_where_it_is, relay, end),
        cmocka_unit_test_setup_teardown(a_crowd_is_a_strip, turns, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, turns, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
