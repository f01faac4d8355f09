// SPDX-License-Identifier: MIT
//
// Panels of a file that is read in parts: nobody waits for the thread of a panel, whatever becomes of its file, and what
// was chosen in a panel is chosen in that of the next part.

#include "tests/unit/written_trace.h"
#include "viewer/app.h"
#include "viewer/load.h"
#include "viewer/panels/panels.h"
#include "viewer/views/timeline.h"

#include <dirent.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JOBS = 14000, PATIENCE_S = 20 };

static char path[] = "/tmp/fiberscope-test-XXXXXX";
static struct app a;
static sem_t woken, go, begun, end_work;
static atomic_bool holds; // panels' threads
static bool waits;        // the reading thread does, for go

struct shown_state { // as views/registry.c has it
    struct timeline timeline;
    struct panels panels;
};

// A panel's thread stands still until the test lets it go.
int __real_panel_latency_work(struct panel_latency *x,
                              const struct panel_context *c); // NOLINT: the linker's name
int __wrap_panel_latency_work(struct panel_latency *x, const struct panel_context *c); // NOLINT
int __wrap_panel_latency_work(struct panel_latency *x, const struct panel_context *c)  // NOLINT
{
    if (holds) {
        sem_post(&begun);
        sem_wait(&end_work);
    }
    return __real_panel_latency_work(x, c);
}

static void wake(void *context)
{
    (void)context;
    sem_post(&woken);
    sem_wait(&go);
}

static int begin(void **state)
{
    (void)state;
    struct written m;
    uint64_t at = 10000;
    written_begin(&m);
    uint64_t where = written_stack(&m, "work", "main");
    uint64_t names[] = {written_text(&m, "job"), written_text(&m, "other")};
    for (uint64_t i = 0; i < JOBS; i++, at += 100000) {
        uint64_t name = names[i % 3 == 0];
        written_say(&m, 0, TRACE_EV_REGION_BEGIN, at, 0, name, where, 0);
        written_say(&m, 0, TRACE_EV_REGION_END, at + (100u << i % 8), 0, name, where, 0);
    }
    trace_reader_close(written_end(&m));
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, m.bytes, m.size_bytes) == (ssize_t)m.size_bytes);
    close(fd);
    written_free(&m);
    sem_init(&woken, 0, 0);
    sem_init(&go, 0, 0);
    sem_init(&begun, 0, 0);
    sem_init(&end_work, 0, 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    return unlink(path);
}

static void give(const struct ui_event *ev)
{
    app_frame(&a, 1000, 600, ev);
    for (int i = 0; i < 6 && a.ui.again; i++)
        app_frame(&a, 1000, 600, NULL);
}

static struct panels *panels(void)
{
    struct document *d = a.documents[0];
    return &((struct shown_state *)d->states[d->view])->panels;
}

// Reads on until there is another part, which is drawn; false: all is there, and drawn.
static bool next_part(void)
{
    const struct document *d = a.documents[0];
    const struct trace_model *was = d->trace;
    for (;;) {
        struct load_progress p;
        if (waits)
            sem_post(&go);
        sem_wait(&woken);
        waits = true;
        load_look(d->loading, &p);
        if (p.done)
            break;
        give(NULL);
        if (d->trace != was)
            return true;
    }
    waits = false;
    sem_post(&go);
    give(NULL);
    assert_null(d->loading);
    return false;
}

static int open_first(void **state)
{
    (void)state;
    const struct app_options o = {.font = "builtin",
                                  .scale = 100,
                                  .part_ms = -1,
                                  .wake = wake,
                                  .region = "other"}; // its panel is open
    struct fscope_error err = {0};
    while (!sem_trywait(&go) || !sem_trywait(&woken))
        ; // of the case before
    waits = false;
    holds = false;
    assert_int_equal(app_init(&a, &o, &err), 0);
    assert_int_equal(app_add(&a, path, &err), 0);
    assert_true(next_part());
    alarm(PATIENCE_S); // who waits for a thread that stands still waits for ever
    return 0;
}

static int let_all_go(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        sem_post(&go);
    app_close(&a);
    alarm(0);
    return 0;
}

// The panel's thread reads the trace, and is held there.
static void hold_the_thread(void)
{
    panels()->heavy = 0;
    panels()->latency.names.has = false;
    holds = true;
    give(NULL);
    sem_wait(&begun);
    assert_true(panels_are_busy(panels()));
    holds = false; // the next one
}

static int threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void wait_for_threads(int most)
{
    for (int i = 0; i < 3000 && threads() > most; i++)
        usleep(10000);
    assert_true(threads() <= most);
}

static void the_next_part_does_not_wait_for_the_thread_of_the_last(void **state)
{
    (void)state;
    hold_the_thread();
    const struct trace_model *was = a.documents[0]->trace;
    bool is_part = next_part(); // or all of it
    assert_ptr_not_equal(a.documents[0]->trace, was);
    give(NULL);
    assert_false(panels_are_busy(panels()));
    const struct trace_instance_name *n = panel_latency_name(&panels()->latency);
    const struct trace_names *names = &a.documents[0]->trace->spans->names;
    assert_non_null(n); // what was chosen, though it had not been made yet
    assert_string_equal(trace_names_text(names, n->name), "other");
    sem_post(&end_work);
    while (is_part)
        is_part = next_part();
}

static void closing_does_not_wait_for_a_panels_thread(void **state)
{
    while (next_part())
        ;
    int before = threads();
    hold_the_thread();
    let_all_go(state); // closes
    sem_post(&end_work);
    wait_for_threads(before);
    open_first(state);
}

static void a_brush_stays_while_parts_come(void **state)
{
    (void)state;
    give(NULL);
    struct panel_latency *x = &panels()->latency;
    uint32_t count = x->count;
    unsigned first = x->first_bucket + 1, last = x->last_bucket;
    assert_true(x->has && count && first < last);
    panel_latency_brush(x, first, last);
    give(NULL);
    assert_in_range(x->shown, 1, x->count - 1);
    for (bool is_part = true; is_part;) {
        is_part = next_part();
        give(NULL);
        x = &panels()->latency;
        assert_true(x->has && x->count > count);
        assert_int_equal(x->brush_first, first);
        assert_int_equal(x->brush_last, last);
        assert_in_range(x->shown, 1, x->count - 1);
        count = x->count;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_next_part_does_not_wait_for_the_thread_of_the_last,
                                        open_first, let_all_go),
        cmocka_unit_test_setup_teardown(closing_does_not_wait_for_a_panels_thread, open_first,
                                        let_all_go),
        cmocka_unit_test_setup_teardown(a_brush_stays_while_parts_come, open_first, let_all_go),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
