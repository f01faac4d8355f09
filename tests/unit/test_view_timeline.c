// SPDX-License-Identifier: MIT
//
// The timeline shows what was written, where it was, and does what keys and mouse say.

#include "tests/unit/shown.h"
#include "tests/unit/written_trace.h"
#include "viewer/views/timeline.h"

#include <math.h>
#include <stdio.h>

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
    // The gutter has 160 pixels, 72 of them for names, and the bar 7: 700 remain.
    shown_init(&stage, 867, 400);
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
    assert_int_equal(timeline.lanes.w, 700);
    assert_int_equal(model->end_ns - model->begin_ns, 7001);
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

// A box of this colour at exactly these nanoseconds since the beginning.
static void has_box(int class, uint32_t lane, int begin_ns, int end_ns)
{
    struct rect want = {timeline.lanes.x + begin_ns / 10, 0, (end_ns - begin_ns) / 10, 0};
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        struct rect r = item->rect;
        int top = timeline.lanes.y + (int)lane * timeline.rows.sizes.proc;
        if (item->op == DRAW_RECT && item->color == stage.ui.theme.series[class] && r.x == want.x &&
            r.w == want.w && r.y >= top && r.y + r.h <= top + timeline.rows.sizes.proc)
            return;
    }
    fail_msg("no box of class %d on lane %u at %d to %d in\n%s", class, lane, begin_ns, end_ns,
             shown_text(&stage));
}

// main: 1000 + 1500 ns, worker: 1000 + 1800 ns, so the worker is the first class.
static void spans_are_boxes_at_their_times(void **state)
{
    (void)state;
    assert_string_equal(trace_model_class_name(model, 0), "worker");
    assert_string_equal(trace_model_class_name(model, 1), "main");
    assert_int_equal(model->lane_count, 2);
    has_box(1, 0, 0, 1000);
    has_box(1, 0, 5500, 7000);
    has_box(0, 1, 2000, 3000);
    has_box(0, 1, 4200, 6000);
    assert_true(shown_says(&stage, "P0"));
    assert_true(shown_says(&stage, "P1"));
    assert_true(shown_says(&stage, "worker"));
    assert_true(shown_says(&stage, "35.7%")); // of 7000 ns main ran 2500
    assert_true(shown_says(&stage, "40.0%"));
    assert_true(shown_says(&stage, "2.80us")); // the sums below: all that the worker ran
    assert_true(shown_says(&stage, "2.50us"));
    assert_true(shown_says(&stage, "Shown 0s \xe2\x80\x93 7.000us (7us): 2 Procs ran fibers for "
                                   "5.30us, 0.76 at a time"));
}

static void zooming_keeps_the_moment_under_the_mouse(void **state)
{
    (void)state;
    int x = timeline.lanes.x + 300, y = timeline.lanes.y + 5;
    shown_mouse(&stage, UI_MOVE, x, y);
    for (int i = 0; i < 4; i++) {
        shown_key(&stage, 'w', 0);
        double at = timeline.shown.begin + (timeline.shown.end - timeline.shown.begin) * 300 / 700;
        assert_true(fabs(at - 3000) < 1e-6);
    }
    double length = timeline.shown.end - timeline.shown.begin;
    assert_true(fabs(length - 7000 / pow(1.5, 4)) < 1e-6);
    shown_event(&stage,
                (struct ui_event){.kind = UI_WHEEL, .x = x, .y = y, .dy = 120, .mods = UI_CTRL});
    assert_true(fabs(timeline.shown.end - timeline.shown.begin - length / 1.25) < 1e-6);
    shown_key(&stage, 'd', 0);
    shown_key(&stage, '0', 0);
    assert_true(timeline.shown.begin == 0 && timeline.shown.end == 7001);
    shown_key(&stage, 's', 0); // there is no more
    assert_true(timeline.shown.begin == 0 && timeline.shown.end == 7001);
    shown_key(&stage, 'z', UI_CTRL);
    assert_true(timeline.shown.begin > 0);
    for (int i = 0; i < 50; i++)
        shown_key(&stage, 'w', UI_SHIFT);
    length = timeline.shown.end - timeline.shown.begin;
    assert_true(length > 199 && length < 201); // and no less
    for (int i = 0; i < 50; i++)
        shown_key(&stage, 'd', UI_SHIFT);
    assert_true(fabs(timeline.shown.end - 7001) < 1e-6);
}

static void a_click_chooses_the_span_under_it(void **state)
{
    (void)state;
    int x = timeline.lanes.x + 250, y = timeline.lanes.y + timeline.rows.sizes.proc + 12;
    shown_mouse(&stage, UI_MOVE, x, y);
    assert_true(shown_says(&stage, "running 1us on P1, at 2us, then sleep"));
    shown_click(&stage, x, y);
    uint32_t p1 = trace_spans_lane(model->spans, TRACE_RESOURCE_PROC, 1);
    uint32_t worker = trace_spans_lane(model->spans, TRACE_RESOURCE_GOROUTINE, 2);
    uint32_t first = model->spans->lanes[worker].first; // waits, is runnable, runs
    assert_int_equal(timeline.lane, p1);
    assert_int_equal(timeline.span, first + 2);
    assert_true(shown_says(&stage, "worker  fiber 2"));
    assert_true(shown_says(&stage, "sleep")); // where it ends, leaf first
    shown_key(&stage, '.', 0);
    assert_int_equal(timeline.span, first + 5); // the next run on this Proc
    shown_key(&stage, '.', 0);
    assert_int_equal(timeline.span, first + 5); // the last
    shown_key(&stage, 'f', 0);
    assert_true(timeline.shown.begin < 4200 && timeline.shown.begin > 3000);
    shown_key(&stage, ',', 0);
    assert_int_equal(timeline.span, first + 2);
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    assert_int_equal(timeline.lane, TRACE_NO_LANE);
    shown_key(&stage, '0', 0);
    shown_click(&stage, timeline.lanes.x + 150, y); // where P1 is idle
    assert_int_equal(timeline.span, TRACE_NO_SPAN);
}

static void a_drag_chooses_a_range_with_its_sums(void **state)
{
    (void)state;
    int x = timeline.lanes.x, y = timeline.lanes.y + 10;
    shown_mouse(&stage, UI_PRESS, x + 450, y);
    shown_mouse(&stage, UI_MOVE, x + 300, y);
    shown_mouse(&stage, UI_MOVE, x + 250, y);
    shown_mouse(&stage, UI_RELEASE, x + 250, y);
    assert_true(fabs(timeline.range.begin - 2500) < 1e-6);
    assert_true(fabs(timeline.range.end - 4500) < 1e-6);
    // The worker to 3000 and from 4200: 800 of 2 x 2000 ns.
    assert_true(shown_says(&stage,
                           "Range 2.500us \xe2\x80\x93 4.500us (2us): 2 Procs ran fibers for "
                           "800ns, 0.40 at a time"));
    assert_true(shown_says(&stage, "800ns"));
    // A click on a span leaves it.
    timeline.under_span = TRACE_NO_SPAN;
    for (int at = timeline.lanes.x; at < timeline.lanes.x + timeline.lanes.w; at += 5) {
        shown_mouse(&stage, UI_MOVE, at, y);
        if (timeline.under_span != TRACE_NO_SPAN)
            break;
    }
    assert_true(timeline.under_span != TRACE_NO_SPAN);
    shown_click(&stage, stage.ui.mouse_x, y);
    assert_true(timeline.span != TRACE_NO_SPAN);
    assert_true(fabs(timeline.range.begin - 2500) < 1e-6);
    shown_key(&stage, 'f', 0);
    assert_true(fabs(timeline.shown.begin - 2500) < 1e-6);
    assert_true(fabs(timeline.shown.end - 4500) < 1e-6);
    // The other button moves what is shown.
    struct ui_event ev = {.kind = UI_PRESS, .button = UI_RIGHT, .x = x + 400, .y = y, .clicks = 1};
    shown_event(&stage, ev);
    shown_mouse(&stage, UI_MOVE, x + 330, y);
    ev.kind = UI_RELEASE;
    ev.x = x + 330;
    shown_event(&stage, ev);
    assert_true(fabs(timeline.shown.begin - 2700) < 1);
    shown_key(&stage, UI_KEY_ESCAPE, 0);
    assert_true(timeline.range.end <= timeline.range.begin);
}

// Many more spans than pixels: the items are bounded, and the columns' ink is the time that was
// run.
static int crowd(void **state)
{
    struct written m;
    (void)state;
    written_begin(&m);
    uint64_t where = written_stack(&m, "wait", "main");
    for (uint64_t i = 0, at = 2000; i < 20000; i++, at += 100) {
        written_block(&m, 0, at, "sleep", where);
        written_wake(&m, 0, at + 10 + i % 7 * 10, 1, 0);
        written_start(&m, 0, at + 80, 1);
    }
    show(&m);
    return 0;
}

static void crowds_are_columns(void **state)
{
    (void)state;
    assert_int_equal(model->lanes[0].lod.count, 20001);
    const struct draw_item *strip = NULL;
    for (uint32_t i = 0; i < stage.list.count; i++)
        if (stage.list.items[i].op == DRAW_STRIP && !strip)
            strip = &stage.list.items[i];
    assert_non_null(strip);
    assert_true(stage.list.count < 200);
    double part = 0;
    for (int i = 0; i < strip->rect.w; i++) {
        assert_true(!strip->heights[i] || strip->colors[i] == stage.ui.theme.series[0]);
        part += strip->heights[i] / 255.0 / strip->rect.w;
    }
    int64_t whole = model->end_ns - model->begin_ns;
    double ran = (double)trace_model_ran_ns(&model->lanes[0], model->begin_ns, model->end_ns) /
                 (double)whole;
    assert_true(ran > 0.19 && ran < 0.22);
    assert_true(fabs(part - ran) < 0.01);
    for (int i = 0; i < 60; i++) { // never more than a few items a pixel, at any zoom
        shown_key(&stage, 'w', 0);
        assert_true(stage.list.count < 12 * 700); // of a Proc's lane and a fiber's
    }
    assert_true(stage.list.count > 10);
}

static void check(struct shown *s)
{
    double all = (double)(model->end_ns - model->begin_ns);
    (void)s;
    assert_true(timeline.shown.begin >= 0 && timeline.shown.end <= all + 1e-3);
    assert_true(timeline.shown.end - timeline.shown.begin >= 199);
    assert_true(timeline.range.begin >= 0 && timeline.range.end <= all);
    assert_true(timeline.scroll >= 0);
    assert_int_equal(timeline.lane == TRACE_NO_LANE, timeline.span == TRACE_NO_SPAN);
    if (timeline.span != TRACE_NO_SPAN)
        assert_true(lanes_index(model->spans, timeline.lane, timeline.span) != UINT32_MAX);
    assert_true(timeline.history.undo_count <= TIMELINE_UNDO);
    assert_true(timeline.mark_count <= TIMELINE_MARKS);
}

static void any_events_do_no_harm(void **state)
{
    (void)state;
    shown_fuzz(&stage, 6000, check);
}

static void broken_traces_are_refused(void **state)
{
    (void)state;
    struct trace_model *none = NULL;
    struct fscope_error err = {0};
    assert_true(trace_model_open(&none, "/nonexistent.trace", &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent.trace"));
    assert_true(trace_model_open(&none, "/dev/null", &err) < 0);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(spans_are_boxes_at_their_times, relay, end),
        cmocka_unit_test_setup_teardown(zooming_keeps_the_moment_under_the_mouse, relay, end),
        cmocka_unit_test_setup_teardown(a_click_chooses_the_span_under_it, relay, end),
        cmocka_unit_test_setup_teardown(a_drag_chooses_a_range_with_its_sums, relay, end),
        cmocka_unit_test_setup_teardown(crowds_are_columns, crowd, end),
        cmocka_unit_test_setup_teardown(any_events_do_no_harm, crowd, end),
        cmocka_unit_test(broken_traces_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
