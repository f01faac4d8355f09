// SPDX-License-Identifier: MIT
//
// Drafts of the timeline (viewer/views/timeline_columns.c): what they say is true, what stands still is exact, and what is
// exported, copied or clicked while the picture moves is what it goes to, or what was seen.

#include "tests/unit/shown.h"
#include "tests/unit/written_trace.h"
#include "viewer/app.h"
#include "viewer/views/timeline.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { ROUNDS = 1500, SETTLED_MOST = 10000, WIDTH = 1000, HEIGHT = 600, START_MS = 1000 };

static char folder[] = "/tmp/fiberscope-test-XXXXXX";
static const char trace[] = "x.trace";
static struct shown stage;
static struct trace_model *model;
static struct timeline timeline;

// --- A view alone: where it is and where it goes is the test's to say.

static void frame(void *view, struct ui *u, struct rect r)
{
    timeline_frame(view, u, r);
}

// Spans of many lengths, with names, some wide and most narrow at any zoom.
static void write_trace(struct written *m)
{
    written_begin(m);
    uint64_t where = written_stack(m, "work", "main"), at = 10000;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t length = i % 97 == 0 ? 90000 : i % 13 == 0 ? 9000 : 200 + i % 7 * 100;
        written_wake(m, 0, at, 2, where);
        written_start(m, 1, at + 10, 2);
        written_block(m, 1, at + length, i % 3 ? "sync" : "sleep", where);
        at += length + 100 + i % 5 * 1000;
    }
}

static int setup(void **state)
{
    struct written m;
    struct fscope_error err = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    write_trace(&m);
    struct trace_reader *r = written_end(&m);
    assert_int_equal(trace_model_read(&model, r, &err), 0);
    trace_reader_close(r);
    FILE *f = fopen(trace, "w");
    assert_true(f && fwrite(m.bytes, m.size_bytes, 1, f) == 1 && !fclose(f));
    written_free(&m);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    trace_model_free(model);
    return system("rm -r -- \"$PWD\"") || chdir("/");
}

static void open_stage(void)
{
    assert_int_equal(timeline_init(&timeline, model), 0);
    shown_init(&stage, 867, 400);
    stage.frame = frame;
    stage.view = &timeline;
    stage.ui.now_ms = START_MS;
    shown_once(&stage, NULL); // the whole trace
    assert_false(stage.ui.moves);
}

static void close_stage(void)
{
    timeline_finish(&timeline);
    shown_finish(&stage);
}

static char *text_of(struct shown *s)
{
    return strdup(shown_text(s));
}

// What a timeline shows that never moved, of the same.
static char *exact(void)
{
    struct timeline *t = calloc(1, sizeof *t);
    struct shown s;
    assert_true(t && !timeline_init(t, model));
    shown_init(&s, stage.width, stage.height);
    s.frame = frame;
    s.view = t;
    s.ui.theme = stage.ui.theme;
    t->shown = timeline.shown;
    t->scroll = timeline.scroll;
    memcpy(t->rows.filter, timeline.rows.filter, sizeof t->rows.filter);
    t->rows.is_stale = true;
    shown_once(&s, NULL);
    shown_once(&s, NULL);
    char *text = text_of(&s);
    timeline_finish(t);
    shown_finish(&s);
    free(t);
    return text;
}

// Strips are coarse in a draft; each other line of it stands in the exact picture, too.
static void says_nothing_wrong(const char *draft, const char *want)
{
    char *lines = strdup(draft), *rest = lines, *line;
    assert_non_null(lines);
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *ended;
        if (!*line || !strncmp(line, "strip", 5))
            continue;
        assert_true(asprintf(&ended, "%s\n", line) > 0);
        if (!strstr(want, ended))
            fail_msg("only the draft has: %s", line);
        free(ended);
    }
    free(lines);
}

// A frame on the way; whether it is a draft.
static bool passes(double begin, double end, double to_begin, double to_end)
{
    timeline.goal = (struct timeline_window){to_begin, to_end};
    timeline.shown = (struct timeline_window){begin, end};
    stage.ui.now_ms++; // another picture
    shown_once(&stage, NULL);
    char *got = text_of(&stage), *want = exact();
    says_nothing_wrong(got, want);
    if (!stage.ui.moves)
        assert_string_equal(got, want);
    free(got);
    free(want);
    return stage.ui.moves;
}

static void arrives(void)
{
    timeline.goal = timeline.shown;
    for (int i = 0; stage.ui.moves || !i; i++) {
        assert_true(i < SETTLED_MOST);
        stage.ui.now_ms++;
        shown_once(&stage, NULL);
    }
    char *got = text_of(&stage), *want = exact();
    assert_string_equal(got, want);
    free(got);
    free(want);
}

// To `part` of what is shown, and by `by` of it.
static int moves(double part, double by)
{
    struct timeline_window w = timeline.shown;
    double length = w.end - w.begin, middle = (w.begin + w.end) / 2 + by * length;
    double all = (double)(model->end_ns - model->begin_ns);
    struct timeline_window to = {middle - length * part / 2, middle + length * part / 2};
    to.begin = to.begin > 0 ? to.begin : 0;
    to.end = to.end < all ? to.end : all;
    int drafts = 0;
    for (int i = 1; i <= 6; i++)
        drafts += passes(w.begin + (to.begin - w.begin) * i / 7, w.end + (to.end - w.end) * i / 7,
                         to.begin, to.end);
    timeline.shown = to;
    arrives();
    return drafts;
}

static void drafts_say_nothing_wrong_and_the_end_is_exact(void **state)
{
    static const double ways[][2] = {{0.3, 0},   {0.3, 0.2},  {1, 0.4},    {1, -0.7},
                                     {0.1, 0.1}, {1, 0.9},    {20, 0},     {0.05, .1},
                                     {3, -1},    {0.02, 0.3}, {0.9, 0.05}, {1000, 0}};
    (void)state;
    open_stage();
    int drafts = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        drafts += moves(ways[i][0], ways[i][1]);
    assert_true(drafts > 20);
    close_stage();
}

// How much of the strips' area is filled.
static double ink(void)
{
    double sum = 0;
    for (uint32_t i = 0; i < stage.list.count; i++) {
        const struct draw_item *s = &stage.list.items[i];
        for (int x = 0; s->op == DRAW_STRIP && s->heights && x < s->rect.w; x++)
            sum += s->colors[x] ? s->heights[x] / 255.0 * s->rect.h : 0;
    }
    return sum;
}

static void drafts_are_as_full_as_the_exact_picture(void **state)
{
    (void)state;
    open_stage();
    double all = timeline.shown.end;
    for (int i = 1; i < 10; i++) {
        double at = i * all / 40, to = all / 2 - at;
        timeline.goal = (struct timeline_window){all / 4, all / 2};
        timeline.shown = (struct timeline_window){at, at + 2 * to < all ? at + 2 * to : all};
        stage.ui.now_ms = START_MS;
        shown_once(&stage, NULL);
        assert_true(stage.ui.moves || i == 10);
        double draft = ink();
        struct timeline fresh;
        assert_int_equal(timeline_init(&fresh, model), 0);
        fresh.shown = timeline.shown;
        stage.view = &fresh;
        stage.ui.now_ms = 0;
        shown_once(&stage, NULL);
        double want = ink();
        stage.view = &timeline;
        timeline_finish(&fresh);
        assert_true(want > 1000 && draft > 0.93 * want && draft < 1.07 * want);
    }
    close_stage();
}

// The window, the theme, what is scrolled to and filtered change amid a movement.
static void changes_amid_a_draft_leave_nothing_old(void **state)
{
    (void)state;
    open_stage();
    double all = timeline.shown.end;
    static const int sizes[][2] = {{867, 400}, {1301, 400}, {400, 300}, {867, 170}, {2560, 1400}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        double at = all * (double)(i + 1) / 20;
        passes(at, all - at, all / 3, all / 2);
        arrives();
        stage.width = sizes[i][0];
        stage.height = sizes[i][1];
        arrives(); // the same, in another size
        passes(at + all / 100, all - at, all / 3, all / 2);
        theme_init(&stage.ui.theme, i % 2);
        passes(at + all / 50, all - at, all / 3, all / 2);
        arrives();
        timeline.scroll = (int)i * 30;
        arrives();
        passes(at + all / 40, all - at, all / 3, all / 2);
        snprintf(timeline.rows.filter, sizeof timeline.rows.filter, "%s", i % 2 ? "work" : "");
        timeline.rows.is_stale = true;
        shown_once(&stage, NULL);
        passes(at + all / 30, all - at, all / 3, all / 2);
        arrives();
    }
    close_stage();
}

// --- The program, whose clock the test has.

static void open_app(struct app *a, bool clock)
{
    const struct app_options o = {.font = "builtin", .scale = 100};
    struct fscope_error err = {0};
    assert_int_equal(app_init(a, &o, &err), 0);
    assert_int_equal(app_add(a, trace, &err), 0);
    assert_int_equal(app_show(a, NULL, &err), 0);
    a->ui.now_ms = clock ? START_MS : 0;
    app_frame(a, WIDTH, HEIGHT, NULL);
}

static void event(struct app *a, struct ui_event ev)
{
    app_frame(a, WIDTH, HEIGHT, &ev);
}

static void key(struct app *a, uint32_t code, unsigned mods)
{
    event(a, (struct ui_event){.kind = UI_KEY, .key = code, .mods = (uint8_t)mods});
}

static void settle(struct app *a)
{
    app_frame(a, WIDTH, HEIGHT, NULL);
    for (int i = 0; i < 4 && a->ui.again; i++)
        app_frame(a, WIDTH, HEIGHT, NULL);
}

static void same_files(const char *one, const char *other)
{
    char *command;
    assert_true(asprintf(&command, "cmp %s %s", one, other) > 0);
    assert_int_equal(system(command), 0);
    free(command);
}

// As long after the last movement as it takes, and until the picture is exact.
static void rest(struct app *a)
{
    a->ui.now_ms += 300;
    settle(a);
    for (int i = 0; a->ui.moves; i++) {
        assert_in_range(i, 0, SETTLED_MOST);
        usleep(1000);
        a->ui.now_ms++;
        settle(a);
    }
}

// Keys that move the picture, then, after_ms later, what is copied and saved: what a program has that does not move.
static void saved_amid(int after_ms, bool is_drawn)
{
    struct app still, moving;
    struct fscope_error err = {0};
    open_app(&still, false);
    open_app(&moving, true);
    for (int i = 0; i < 5; i++) {
        key(&still, 'w', 0);
        key(&moving, 'w', 0);
    }
    settle(&still);
    key(&still, 'c', UI_CTRL);
    still.note[0] = 0;
    settle(&still);
    assert_int_equal(app_write_png(&still, "want.png", &err), 0);
    assert_int_equal(app_write_svg(&still, "want.svg", &err), 0);
    if (is_drawn)
        settle(&moving);
    moving.ui.now_ms += after_ms;
    if (is_drawn)
        settle(&moving);
    assert_true(!is_drawn || moving.ui.moves);
    key(&moving, 'c', UI_CTRL);
    assert_string_equal(moving.wants.copy, still.wants.copy);
    moving.note[0] = 0;
    key(&moving, 'd', 0); // moves again
    key(&moving, 'a', 0);
    if (is_drawn)
        settle(&moving);
    key(&moving, 'e', UI_CTRL);
    same_files("want.png", "x.trace-timeline-1.png");
    same_files("want.svg", "x.trace-timeline-1.svg");
    assert_int_equal(unlink("x.trace-timeline-1.png") | unlink("x.trace-timeline-1.svg"), 0);
    app_close(&still);
    app_close(&moving);
}

static void what_is_saved_is_whole_and_where_the_picture_goes(void **state)
{
    (void)state;
    saved_amid(0, false);  // at once
    saved_amid(0, true);   // the first picture of the movement
    saved_amid(40, true);  // amid it
    saved_amid(40, false); // a frame that is late
}

// The widest box on the second Proc's lane.
static struct rect widest(const struct app *a)
{
    const struct timeline *t = a->documents[0]->states[0];
    struct rect best = {0};
    int top = t->lanes.y + t->rows.sizes.proc, bottom = top + t->rows.sizes.proc;
    for (uint32_t i = 0; i < a->list.count; i++) {
        const struct draw_item *item = &a->list.items[i];
        bool is_box = item->op == DRAW_RECT && item->color == a->ui.theme.series[1];
        if (is_box && item->rect.y >= top && item->rect.y + item->rect.h <= bottom &&
            item->rect.x >= t->lanes.x && item->rect.x + item->rect.w < t->lanes.x + t->lanes.w &&
            item->rect.w > best.w)
            best = item->rect;
    }
    return best;
}

static void a_click_amid_a_movement_chooses_what_is_seen(void **state)
{
    (void)state;
    for (int after_ms = 10; after_ms < 130; after_ms += 30) {
        struct app a;
        open_app(&a, true);
        const struct timeline *t = a.documents[0]->states[0];
        for (int i = 0; i < 9; i++)
            key(&a, 'w', 0);
        settle(&a);
        a.ui.now_ms += 200; // there
        settle(&a);
        key(&a, 's', UI_SHIFT);
        settle(&a);
        a.ui.now_ms += after_ms;
        settle(&a);
        assert_true(a.ui.moves);
        struct rect box = widest(&a);
        assert_true(box.w > 5);
        struct ui_event ev = {
            .kind = UI_MOVE, .x = box.x + box.w / 2, .y = box.y + box.h / 2, .clicks = 1};
        event(&a, ev);
        ev.kind = UI_PRESS;
        event(&a, ev);
        ev.kind = UI_RELEASE;
        event(&a, ev);
        settle(&a);
        assert_int_not_equal(t->span, TRACE_NO_SPAN);
        bool framed = false; // what is chosen has a frame, where it was clicked
        for (uint32_t i = 0; i < a.list.count; i++) {
            const struct draw_item *item = &a.list.items[i];
            framed |= item->op == DRAW_FRAME && item->size == 2 && item->rect.x == box.x &&
                      item->rect.w == box.w && item->color == a.ui.theme.text;
        }
        assert_true(framed);
        a.ui.now_ms += 300; // and the movement goes on to where it went
        double length = t->shown.end - t->shown.begin;
        settle(&a);
        assert_false(a.ui.moves);
        assert_true(t->shown.end - t->shown.begin >= length - 1);
        app_close(&a);
    }
}

// The left button goes down on a box's left edge while the picture moves, and up in the picture that has come to rest:
// the range is from the box's beginning to what the mouse was on then. `at_once`: the movement begins after the press.
static void drag_amid(int after_ms, bool at_once)
{
    struct app a;
    open_app(&a, true);
    const struct document *d = a.documents[0];
    const struct timeline *t = d->states[0];
    for (int i = 0; i < 9; i++)
        key(&a, 'w', 0);
    settle(&a);
    rest(&a);
    if (!at_once)
        key(&a, 's', UI_SHIFT);
    settle(&a);
    a.ui.now_ms += after_ms;
    settle(&a);
    assert_int_equal(a.ui.moves, !at_once);
    struct rect box = widest(&a);
    struct ui_event ev = {
        .kind = UI_MOVE, .x = box.x + box.w / 2, .y = box.y + box.h / 2, .clicks = 1};
    event(&a, ev);
    ev.kind = UI_PRESS;
    event(&a, ev);
    ev.kind = UI_RELEASE;
    event(&a, ev);
    double want = (double)(trace_span_begin_ns(t->model->spans, t->span) - t->model->begin_ns);
    ev = (struct ui_event){.kind = UI_PRESS, .x = box.x, .y = box.y + 2, .clicks = 1};
    event(&a, ev);
    ev.kind = UI_MOVE;
    ev.x += 10;
    event(&a, ev);
    settle(&a);
    if (at_once)
        key(&a, 's', UI_SHIFT);
    settle(&a);
    rest(&a);
    ev.x = t->lanes.x + t->lanes.w - 30;
    event(&a, ev);
    ev.kind = UI_RELEASE;
    event(&a, ev);
    double pixel = (t->shown.end - t->shown.begin) / t->lanes.w;
    double end = t->shown.begin + (ev.x - t->lanes.x) * pixel;
    assert_true(fabs(d->range.begin_ns - want) <= pixel);
    assert_true(fabs(d->range.end_ns - end) <= pixel);
    app_close(&a);
}

static void a_drag_amid_a_movement_is_from_what_was_seen(void **state)
{
    (void)state;
    for (int after_ms = 10; after_ms < 130; after_ms += 30)
        drag_amid(after_ms, false);
    drag_amid(0, true);
}

// The right button takes the picture as it is seen: what was under the mouse stays there.
static void a_picture_held_amid_a_movement_does_not_jump(void **state)
{
    (void)state;
    struct app a;
    open_app(&a, true);
    const struct timeline *t = a.documents[0]->states[0];
    for (int i = 0; i < 9; i++)
        key(&a, 'w', 0);
    settle(&a);
    rest(&a);
    key(&a, 's', UI_SHIFT);
    settle(&a);
    a.ui.now_ms += 40;
    settle(&a);
    struct rect box = widest(&a);
    struct ui_event ev = {
        .kind = UI_PRESS, .x = box.x, .y = t->lanes.y + 4, .button = UI_RIGHT, .clicks = 1};
    event(&a, ev);
    ev.kind = UI_MOVE;
    for (int i = 0; i < 3; i++) { // in one batch
        ev.x += 7;
        event(&a, ev);
    }
    rest(&a);
    bool is_there = false;
    for (uint32_t i = 0; i < a.list.count; i++) {
        const struct draw_item *item = &a.list.items[i];
        is_there |= item->op == DRAW_RECT && item->color == a.ui.theme.series[1] &&
                    item->rect.w == box.w && abs(item->rect.x - box.x - 21) <= 1;
    }
    assert_true(is_there);
    app_close(&a);
}

// A key and the press come before a picture of either is made: the press meets the last one that was seen.
static void a_press_right_after_a_key_meets_what_was_seen(void **state)
{
    (void)state;
    struct app a;
    open_app(&a, true);
    const struct document *d = a.documents[0];
    const struct timeline *t = d->states[0];
    double pixel = (t->shown.end - t->shown.begin) / t->lanes.w;
    int x = t->lanes.x + 40;
    struct ui_event ev = {.kind = UI_MOVE, .x = x, .y = t->lanes.y + 20, .clicks = 1};
    event(&a, ev);
    settle(&a);
    key(&a, '+', 0);
    ev.kind = UI_PRESS;
    event(&a, ev);
    ev.kind = UI_MOVE;
    ev.x += 80;
    event(&a, ev);
    ev.kind = UI_RELEASE;
    event(&a, ev);
    assert_true(fabs(d->range.begin_ns - 40 * pixel) <= pixel);
    assert_true(fabs(d->range.end_ns - 120 * pixel) <= pixel);
    settle(&a);
    rest(&a); // and the key is obeyed
    assert_true(fabs((t->shown.end - t->shown.begin) / t->lanes.w - pixel / 2) < pixel / 100);
    app_close(&a);
}

// Marks at three places, then one of them by its name in the palette.
static void the_palette_lists_marks_and_goes_to_them(void **state)
{
    struct app a;
    (void)state;
    open_app(&a, false);
    struct timeline *t = a.documents[0]->states[0];
    for (int i = 0; i < 3; i++) {
        double at = 1000000.0 * (i + 1);
        t->shown = (struct timeline_window){at - 100000, at + 100000};
        settle(&a);
        key(&a, 'm', 0);
        settle(&a);
    }
    assert_int_equal(t->mark_count, 3);
    struct ui_event ev = {.kind = UI_TEXT};
    key(&a, 'p', UI_CTRL);
    for (const char *c = "markb"; *c; c++) {
        settle(&a);
        ev.text[0] = *c;
        event(&a, ev);
    }
    settle(&a);
    bool listed = false;
    for (uint32_t i = 0; i < a.list.count; i++)
        listed |=
            a.list.items[i].op == DRAW_TEXT && !strcmp(a.list.items[i].text, "Mark B: at 2.0000ms");
    assert_true(listed);
    key(&a, UI_KEY_ENTER, 0);
    settle(&a);
    assert_false(a.palette.open);
    assert_true(t->shown.begin < 2000000 && t->shown.end > 2000000);
    assert_true(t->shown.begin > 1800000 && t->shown.end < 2200000);
    app_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_say_nothing_wrong_and_the_end_is_exact),
        cmocka_unit_test(drafts_are_as_full_as_the_exact_picture),
        cmocka_unit_test(changes_amid_a_draft_leave_nothing_old),
        cmocka_unit_test(what_is_saved_is_whole_and_where_the_picture_goes),
        cmocka_unit_test(a_click_amid_a_movement_chooses_what_is_seen),
        cmocka_unit_test(a_drag_amid_a_movement_is_from_what_was_seen),
        cmocka_unit_test(a_picture_held_amid_a_movement_does_not_jump),
        cmocka_unit_test(a_press_right_after_a_key_meets_what_was_seen),
        cmocka_unit_test(the_palette_lists_marks_and_goes_to_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
