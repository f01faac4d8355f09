// SPDX-License-Identifier: MIT
//
// The panels do what mouse and keys say: brush, order, choose, jump; and draw what is there.

#include "tests/unit/shown.h"
#include "tests/unit/written_trace.h"
#include "viewer/panels/panel_spans.h"
#include "viewer/panels/panels_timeline.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { JOBS = 400, BEGIN = 3000, OTHERS = 3 };

static struct shown stage;
static struct trace_model *model;
static struct panels panels;
static struct panel_goal went; // where the timeline was sent last
static double shown_begin, shown_end;
static bool is_range;
static int64_t lengths[JOBS];

static void frame(void *view, struct ui *u, struct rect r)
{
    struct panels *p = view;
    bool has_event = u->event.kind != UI_NONE;
    panels_ask(p, shown_begin, shown_end, is_range);
    if (!has_event && panels_ready(p, u))
        panels_work(p);
    int below = panels_height(p, u, r.h);
    panels_frame(p, u, rect_make(r.x, r.y + r.h - below, r.w, below));
    if (!p->goal.wanted)
        return;
    went = p->goal;
    shown_begin = (double)(went.begin_ns - model->begin_ns);
    shown_end = (double)(went.end_ns - model->begin_ns);
    is_range = true;
    p->goal.wanted = false;
}

// Frames until nothing is left to do; a thread may do it.
static void settle(void)
{
    for (int i = 0; i < 4 || panels_are_busy(&panels) || panels_due(&panels); i++) {
        assert_true(i < 20000);
        if (panels_are_busy(&panels))
            usleep(500);
        shown_once(&stage, NULL);
    }
}

static atomic_int woken;

static void wake(void *context)
{
    assert_ptr_equal(context, &woken);
    woken++;
}

static void key(uint32_t which, unsigned mods)
{
    shown_key(&stage, which, mods);
    settle();
}

// main has JOBS regions "job", one after the other, of lengths over five powers of ten, and a few
// "other".
static int begin_with(bool with_thread)
{
    struct written m;
    struct fscope_error err = {0};
    uint64_t at = BEGIN, seed = 1;
    written_begin(&m);
    uint64_t where = written_stack(&m, "work", "main");
    for (int i = 0; i < JOBS + OTHERS; i++) {
        const char *name = i < JOBS ? "job" : "other";
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t length = llround(pow(10, 2 + (double)(seed >> 33) / 4294967296.0 * 10));
        length += i; // no two are alike
        if (i < JOBS)
            lengths[i] = length;
        written_say(&m, 0, TRACE_EV_REGION_BEGIN, at, 0, written_text(&m, name), where, 0);
        at += (uint64_t)length;
        written_say(&m, 0, TRACE_EV_REGION_END, at, 0, written_text(&m, name), where, 0);
        at += 100;
    }
    struct trace_reader *r = written_end(&m);
    if (trace_model_read(&model, r, &err))
        fail_msg("%s", err.text);
    trace_reader_close(r);
    written_free(&m);
    panels_init(&panels, model);
    panels.wake = with_thread ? wake : NULL;
    panels.wake_context = &woken;
    panels.heavy = 0;
    woken = 0;
    shown_init(&stage, 1600, 700);
    stage.frame = frame;
    stage.view = &panels;
    went = (struct panel_goal){0};
    shown_begin = 0;
    shown_end = (double)(model->end_ns - model->begin_ns);
    is_range = false;
    key('6', UI_ALT);
    struct panel_latency *x = &panels.latency;
    assert_int_equal(panel_latency_choose(x, model, "nothing", false), -ENOENT);
    assert_int_equal(panel_latency_choose(x, model, "job", true), -ENOENT);
    assert_int_equal(panel_latency_choose(x, model, "job", false), 0);
    settle();
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return begin_with(false);
}

static int begin_thread(void **state)
{
    (void)state;
    return begin_with(true);
}

static int end(void **state)
{
    (void)state;
    panels_finish(&panels);
    trace_model_free(model);
    shown_finish(&stage);
    return 0;
}

static uint32_t as_long(int64_t from_ns, int64_t to_ns)
{
    uint32_t n = 0;
    for (int i = 0; i < JOBS; i++)
        n += lengths[i] >= from_ns && lengths[i] < to_ns;
    return n;
}

static void bars_are_as_high_as_there_are_jobs(void **state)
{
    (void)state;
    const struct panel_latency *x = &panels.latency;
    uint32_t most = 0, bars = 0, seen = 0;
    unsigned per = 1, n = x->last_bucket - x->first_bucket;
    while (per < 8 && (int)((n + per - 1) / per) * 3 > x->bars.w)
        per *= 2;
    int64_t bounds[2 * TRACE_HIST_BUCKETS];
    uint32_t counts[TRACE_HIST_BUCKETS] = {0};
    for (unsigned i = x->first_bucket; i < x->last_bucket; i += per, bars++) {
        bounds[bars] = trace_hist_bucket_ns(i);
        bounds[bars + 1] =
            trace_hist_bucket_ns(i + per < x->last_bucket ? i + per : x->last_bucket);
        counts[bars] = as_long(bounds[bars], bounds[bars + 1]);
        most = counts[bars] > most ? counts[bars] : most;
    }
    assert_true(bars > 20 && most > 3);
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *item = &stage.list.items[i];
        struct rect r = item->rect;
        if (item->op != DRAW_RECT || item->color != stage.ui.theme.accent || r.x < x->bars.x ||
            r.x + r.w > x->bars.x + x->bars.w || r.y < x->bars.y)
            continue;
        int bar = (int)lround((double)(r.x - x->bars.x) * n / x->bars.w / per);
        double high = (1 + log10(counts[bar])) / (1 + log10(most)) * x->bars.h;
        assert_true(counts[bar] && fabs(r.h - high) <= 1);
        assert_int_equal(r.y + r.h, x->bars.y + x->bars.h);
        seen++;
    }
    for (uint32_t i = 0; i < bars; i++)
        seen -= counts[i] > 0;
    assert_int_equal(seen, 0); // each once
    assert_true(shown_says(&stage, "all 400"));
}

static void check_rows(int64_t from_ns, int64_t to_ns)
{
    const struct panel_latency *x = &panels.latency;
    assert_int_equal(x->shown, as_long(from_ns, to_ns));
    for (uint32_t i = 0; i < x->shown; i++) {
        const struct trace_instance_span *s = &x->spans[x->order[i]], *before = s;
        int64_t ns = s->end_ns - s->begin_ns;
        assert_true(ns >= from_ns && ns < to_ns);
        if (i)
            before = &x->spans[x->order[i - 1]];
        assert_true(before->end_ns - before->begin_ns >= ns); // longest first
    }
}

static void a_drag_on_the_bars_leaves_what_is_as_long(void **state)
{
    (void)state;
    const struct panel_latency *x = &panels.latency;
    int y = x->bars.y + x->bars.h / 2, left = x->bars.x + x->bars.w / 3;
    shown_mouse(&stage, UI_PRESS, left, y);
    shown_mouse(&stage, UI_MOVE, left + 5, y);
    shown_mouse(&stage, UI_MOVE, left + 90, y);
    shown_mouse(&stage, UI_RELEASE, left + 90, y);
    settle();
    assert_true(x->brush_last > x->brush_first + 8);
    int64_t from = trace_hist_bucket_ns(x->brush_first), to = trace_hist_bucket_ns(x->brush_last);
    assert_true(as_long(from, to) > 10 && as_long(from, to) < JOBS / 2);
    check_rows(from, to);
    char text[64];
    snprintf(text, sizeof text, "%u of 400, those of ", as_long(from, to));
    assert_non_null(strstr(shown_text(&stage), text));
    // What is under the ends of the drag is in.
    unsigned n = x->last_bucket - x->first_bucket;
    double at = (double)(left - x->bars.x) * n / x->bars.w + x->first_bucket;
    assert_true(x->brush_first <= at && x->brush_first > at - 8);
    assert_int_equal(panels.context.part, PANEL_HISTOGRAM); // a click took the keys there
    key(UI_KEY_ESCAPE, 0);
    check_rows(0, INT64_MAX);
    // Any drag at all, backwards as well.
    for (int i = 0; i < 60; i++) {
        int a = x->bars.x + (int)shown_draw(&stage, (uint32_t)x->bars.w);
        int b = x->bars.x + (int)shown_draw(&stage, (uint32_t)x->bars.w);
        shown_mouse(&stage, UI_PRESS, a, y);
        shown_mouse(&stage, UI_MOVE, b, y);
        shown_mouse(&stage, UI_RELEASE, b, y);
        settle();
        if (a != b)
            check_rows(trace_hist_bucket_ns(x->brush_first), trace_hist_bucket_ns(x->brush_last));
    }
}

static void keys_move_the_brush(void **state)
{
    (void)state;
    const struct panel_latency *x = &panels.latency;
    while (panels.context.part != PANEL_HISTOGRAM)
        key(UI_KEY_TAB, 0);
    assert_true(x->brush_first == x->brush_last);
    key(UI_KEY_RIGHT, 0); // the slow ones
    assert_true(trace_hist_bucket_ns(x->brush_first) <= x->p99_ns);
    assert_int_equal(x->brush_last, x->last_bucket);
    check_rows(trace_hist_bucket_ns(x->brush_first), INT64_MAX);
    unsigned first = x->brush_first, last = x->brush_last;
    key(UI_KEY_LEFT, 0);
    assert_int_equal(first - x->brush_first, last - x->brush_last);
    assert_true(first > x->brush_first);
    check_rows(trace_hist_bucket_ns(x->brush_first), trace_hist_bucket_ns(x->brush_last));
    last = x->brush_last;
    key(UI_KEY_LEFT, UI_SHIFT);
    key(UI_KEY_RIGHT, UI_SHIFT);
    for (int i = 0; i < 200; i++)
        key(UI_KEY_LEFT, 0);
    assert_true(x->brush_first < x->first_bucket + 8 && x->brush_last > x->brush_first);
    key(UI_KEY_ESCAPE, 0);
    assert_true(shown_says(&stage, "all 400"));
    assert_true(panels.context.has_keys);
    key(UI_KEY_ESCAPE, 0); // and this one gives the keys back
    assert_false(panels.context.has_keys);
}

static void enter_shows_an_instance_on_the_timeline(void **state)
{
    (void)state;
    const struct panel_latency *x = &panels.latency;
    int64_t at = BEGIN, longest = 0, longest_at = 0;
    for (int i = 0; i < JOBS; i++) {
        longest_at = lengths[i] > longest ? at : longest_at;
        longest = lengths[i] > longest ? lengths[i] : longest;
        at += lengths[i] + 100;
    }
    assert_int_equal(panels.context.part, PANEL_SPANS); // where a panel begins
    key(UI_KEY_DOWN, 0);
    key(UI_KEY_ENTER, 0);
    assert_int_equal(went.begin_ns, longest_at);
    assert_int_equal(went.end_ns, longest_at + longest);
    assert_int_equal(x->count, JOBS); // the panel is of the trace still
    key('4', UI_ALT);                 // whose end is its fiber's, alone
    assert_int_equal(panels.critical.whole_ns, longest);
    assert_int_equal(panels.critical.sums_ns[TRACE_PART_RUNNING], longest);
    assert_true(shown_says(&stage, "to the end of main 1"));
    key('6', UI_ALT);
    key('r', 0); // of that range
    assert_int_equal(x->count, 1);
    key('r', 0);
    assert_int_equal(x->count, JOBS);
}

static void columns_order_the_rows(void **state)
{
    (void)state;
    const struct panel_latency *x = &panels.latency;
    key(UI_KEY_LEFT, 0); // from length to begins: from the last on
    assert_int_equal(x->table.column, PANEL_SPANS_BEGIN);
    for (uint32_t i = 1; i < x->shown; i++)
        assert_true(x->spans[x->order[i - 1]].begin_ns > x->spans[x->order[i]].begin_ns);
    key(UI_KEY_HOME, 0);
    uint32_t chosen = x->order[x->table.chosen];
    assert_int_equal(x->spans[chosen].end_ns - x->spans[chosen].begin_ns, lengths[JOBS - 1]);
    key('o', 0);
    assert_int_equal(x->table.chosen, JOBS - 1); // the same one, at the other end
    assert_int_equal(x->order[x->table.chosen], chosen);
    assert_true(x->spans[x->order[0]].begin_ns < x->spans[x->order[1]].begin_ns);
}

static void what_the_panel_does_not_want_is_the_timelines(void **state)
{
    (void)state;
    struct ui_event ev = {.kind = UI_KEY, .key = 'w'};
    shown_once(&stage, &ev);
    assert_int_equal(stage.ui.event.kind, UI_KEY);
    shown_mouse(&stage, UI_PRESS, 10, 10); // outside
    shown_mouse(&stage, UI_RELEASE, 10, 10);
    assert_false(panels.context.has_keys);
    for (int i = UI_KEY_LEFT; i <= UI_KEY_ESCAPE; i++) {
        ev.key = (uint32_t)i;
        shown_once(&stage, &ev);
        assert_int_equal(stage.ui.event.kind, UI_KEY);
    }
    for (int i = 0; i < PANEL_LATENCY_PARTS; i++) { // Tab goes round
        key(UI_KEY_TAB, 0);
        assert_true(panels.context.has_keys);
        assert_int_equal(panels.context.part, i);
    }
    key(UI_KEY_TAB, 0);
    assert_false(panels.context.has_keys);
    key('0', UI_ALT);
    assert_int_equal(panels.open, PANELS_NONE);
    key(UI_KEY_TAB, 0);
    assert_false(panels.context.has_keys);
}

static void the_edge_can_be_dragged(void **state)
{
    (void)state;
    int y = stage.height - panels_height(&panels, &stage.ui, stage.height) + 5;
    shown_mouse(&stage, UI_PRESS, 1000, y);
    shown_mouse(&stage, UI_MOVE, 1000, y - 100);
    shown_mouse(&stage, UI_RELEASE, 1000, y - 100);
    int now = stage.height - panels_height(&panels, &stage.ui, stage.height) + 5;
    assert_true(now >= y - 101 && now <= y - 99);
}

// --- With a timeline above.

static struct timeline above;

static void both_frame(void *view, struct ui *u, struct rect r)
{
    (void)view;
    r = panels_beneath(&panels, &above, u, r);
    if (r.h > 0)
        timeline_frame(&above, u, r);
}

static void a_jump_chooses_the_range_and_the_fiber(void **state)
{
    (void)state;
    assert_int_equal(timeline_init(&above, model), 0);
    stage.frame = both_frame;
    settle();
    double all = above.shown.end;
    key('w', 0); // no key of the panel: the timeline zooms
    assert_true(above.shown.end - above.shown.begin < all);
    key(UI_KEY_DOWN, 0); // but this one is the panel's
    key(UI_KEY_ENTER, 0);
    const struct panel_latency *x = &panels.latency;
    const struct trace_instance_span *s = &x->spans[x->order[x->table.chosen]];
    assert_int_equal(llround(above.range.begin), s->begin_ns - model->begin_ns);
    assert_int_equal(llround(above.range.end), s->end_ns - model->begin_ns);
    assert_true(above.shown.begin <= above.range.begin && above.shown.end >= above.range.end);
    assert_true(above.shown.end - above.shown.begin <= 1.3 * (above.range.end - above.range.begin));
    assert_int_equal(trace_spans_fiber(model->spans, above.span), s->lane);
    timeline_finish(&above);
}

// --- A table of its own.

static uint64_t asked;

static double number(const void *context, uint32_t row, int column, char *text)
{
    (void)context;
    asked++;
    snprintf(text, PANEL_CELL_MAX, "%u/%d", row, column);
    return 0;
}

static struct panel_table table;

static void table_frame(void *view, struct ui *u, struct rect r)
{
    static const struct panel_column columns[] = {
        {"name", NULL}, {"a", "0000000"}, {"b", "0000000"}};
    const struct panel_rows rows = {
        .columns = columns, .column_count = 3, .count = 1000000, .cell = number, .none = "nothing"};
    (void)view;
    panel_table(&table, u, 1, r, &rows, true);
}

static void a_table_asks_only_for_what_is_seen(void **state)
{
    (void)state;
    struct shown s;
    table = (struct panel_table){.chosen = UINT32_MAX};
    shown_init(&s, 800, 600);
    s.frame = table_frame;
    asked = 0;
    shown_once(&s, NULL);
    int height = panel_row_height(&s.ui);
    assert_true(asked <= 3u * (unsigned)(600 / height + 1));
    assert_true(shown_says(&s, "0/0") && shown_says(&s, "3/2"));
    shown_key(&s, UI_KEY_END, 0);
    assert_int_equal(table.chosen, 999999);
    assert_true(shown_says(&s, "999999/1"));
    shown_key(&s, UI_KEY_UP, 0);
    assert_int_equal(table.chosen, 999998);
    shown_key(&s, UI_KEY_UP, UI_SHIFT);
    int page = (600 - height) / height - 1;
    assert_int_equal(table.chosen, 999998 - page);
    shown_click(&s, 100, height + 2 * height + 3); // the third row that is seen
    assert_int_equal(table.chosen, (table.scroll + 2 * height + 3) / height);
    for (int i = 0; i < 300; i++) { // the wheel stops at both ends
        struct ui_event ev = {.kind = UI_WHEEL, .x = 100, .y = 300, .dy = i < 100 ? -120 : 1200000};
        shown_event(&s, ev);
        assert_true(table.scroll >= 0 && table.scroll <= 1000000 * height - (600 - height));
    }
    assert_int_equal(table.scroll, 0);
    shown_finish(&s);
}

// --- Anything.

static void check(struct shown *s)
{
    const struct panel_latency *x = &panels.latency;
    if (panels_are_busy(&panels)) // the facts are the thread's
        return;
    assert_true(panels.open < PANELS_COUNT && panels.context.part < PANEL_LATENCY_PARTS);
    assert_true(x->brush_first <= x->brush_last && x->brush_last <= TRACE_HIST_BUCKETS);
    assert_true(!x->has || x->shown <= x->count);
    assert_true(panels.share > 0.1 && panels.share < 0.9);
    assert_false(panels.failed);
    if (!shown_draw(s, 100)) { // the timeline is somewhere else
        shown_begin = shown_draw(s, 1000000);
        shown_end = shown_begin + 1 + shown_draw(s, shown_draw(s, 2) ? 5000 : 50000000);
    }
}

static void nothing_breaks_them(void **state)
{
    (void)state;
    shown_fuzz(&stage, 12000, check);
    settle();
}

static void a_thread_wakes_the_window(void **state)
{
    (void)state;
    assert_true(woken >= 2); // the names, then the one that was chosen
    int was = woken;
    key('4', UI_ALT);
    assert_int_equal(woken, was + 1);
    shown_end = (double)(lengths[0] + BEGIN);
    shown_once(&stage, NULL);
    assert_int_equal(panels.critical.has, true);
    panels_wait(&panels); // as when the window closes meanwhile
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bars_are_as_high_as_there_are_jobs, begin, end),
        cmocka_unit_test_setup_teardown(a_drag_on_the_bars_leaves_what_is_as_long, begin, end),
        cmocka_unit_test_setup_teardown(keys_move_the_brush, begin, end),
        cmocka_unit_test_setup_teardown(enter_shows_an_instance_on_the_timeline, begin, end),
        cmocka_unit_test_setup_teardown(columns_order_the_rows, begin, end),
        cmocka_unit_test_setup_teardown(what_the_panel_does_not_want_is_the_timelines, begin, end),
        cmocka_unit_test_setup_teardown(the_edge_can_be_dragged, begin, end),
        cmocka_unit_test_setup_teardown(a_jump_chooses_the_range_and_the_fiber, begin, end),
        cmocka_unit_test(a_table_asks_only_for_what_is_seen),
        cmocka_unit_test_setup_teardown(nothing_breaks_them, begin, end),
        cmocka_unit_test_setup_teardown(a_drag_on_the_bars_leaves_what_is_as_long, begin_thread,
                                        end),
        cmocka_unit_test_setup_teardown(enter_shows_an_instance_on_the_timeline, begin_thread, end),
        cmocka_unit_test_setup_teardown(columns_order_the_rows, begin_thread, end),
        cmocka_unit_test_setup_teardown(a_thread_wakes_the_window, begin_thread, end),
        cmocka_unit_test_setup_teardown(nothing_breaks_them, begin_thread, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
