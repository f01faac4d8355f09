// SPDX-License-Identifier: MIT
//
// The trace buffers of a segment become files that Go's parser and ours read: with the names that functions
// have, one file per session, up to the last committed event of a target that was killed.

#include "tests/unit/test_trace_build.h"

// --- Cases.

enum { LONG_GENERATION = 8000 };

static void a_session_becomes_a_file(void **state)
{
    static struct world w;
    struct read c;
    struct trace_build_stats st;
    uint64_t events = 0;
    (void)state;
    make_world(&w, 4);
    open_build(&w, 23);
    assert_int_equal(trace_build_pump(w.build), 0); // before anything was traced
    assert_int_equal(w.opened, 0);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    // Go's parser is asked about each event: one of them is enough of a pool that is smaller than a generation.
    static const int rounds[] = {500, LONG_GENERATION, 500, 500};
    for (int g = 0; g < 4; g++) {
        for (int i = 0; i < rounds[g]; i++) {
            assert_int_equal(round_trip(&w), 0);
            if (i % 500 == 0)
                assert_int_equal(trace_build_pump(w.build), 0);
        }
        made_trace_advance(&w.m);
        assert_int_equal(trace_build_pump(w.build), 0);
        trace_build_get_stats(w.build, &st);
        assert_true(st.events > events && w.opened == 1 && w.closed == 0);
        events = st.events;
        announce(&w, true);
    }
    assert_false(trace_build_stop(w.build));
    assert_int_equal(atomic_load(&w.m.t->request), SEG_TRACE_STOP);
    made_trace_stop(&w.m);
    assert_true(trace_build_stop(w.build));
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_int_equal(w.closed, 1);
    const struct trace_build_file *f = &w.files[0];
    assert_true(f->generations == 5 && !f->was_cut && !f->was_killed && !f->left_out);
    assert_int_equal(f->lost_names, 0);
    assert_int_equal(f->events,
                     (LONG_GENERATION + 1500) * ROUND_EVENTS + 4 + 5 + 4 * 5 + 5 +
                         1); // a Sync each, and the last
    assert_int_equal(f->start_ns, (15625000 + 1) * 64);
    end_world(&w);

    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.version, 23);
    assert_int_equal(c.generations, 5);
    assert_int_equal(c.events, f->events);
    assert_string_equal(c.worker_name, "worker");
    // The root is stripped, the runtime is told, what is inlined is a frame with a pc of its own.
    assert_int_equal(c.block_depth, 3);
    assert_string_equal(c.block_names[0], "runtime.fib_chan_recv");
    assert_string_equal(c.block_names[1], "inlined_part");
    assert_string_equal(c.block_names[2], "worker");
    assert_true(c.block_pcs[1] != c.block_pcs[2]);
    // 200 frames without start_thread: the leaf's 127 and the outermost one.
    assert_int_equal(c.main_depth, TRACE_STACK_FRAMES_MAX);
    assert_string_equal(c.main_outermost, "worker");
    uint64_t lines[2];
    read_with_go(w.paths[0], (const char *const[]){"Running->Waiting", "runtime.fib_chan_recv"},
                 lines);
    assert_int_equal(lines[0], LONG_GENERATION + 1500 + 1);
    // Twice, as the stack of who blocks and of what is blocked.
    assert_int_equal(lines[1], 2 * (LONG_GENERATION + 1500 + 1 + 4));
}

static void the_newer_format_has_the_time_of_day(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 26);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    for (int i = 0; i < 10; i++)
        round_trip(&w);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.version, 26);
    assert_int_equal(c.generations, 2);
    // 1,700,000,000 s of the wall clock where CLOCK_MONOTONIC is at 1 s is November 2023.
    assert_true(lines_of_go(w.paths[0], "2023-11-14") >= 2);
}

static void samples_fall_into_their_generation(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    uint64_t leaf[] = {(uintptr_t)handler, in(worker)}; // the leaf's pc is exact
    uint32_t stack = seg_stack(&w.s, leaf, 2, 0, 0);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    uint64_t start_ns = w.m.now * 64;
    announce(&w, false);
    create_worker(&w);
    struct seg_record r = {.kind = SEG_KIND_CPU, .tid = THREAD, .user_stack = stack};
    for (int i = 0; i < 9; i++) {
        r.time_ns = start_ns - 64 * 4 + (uint64_t)i * 64 * 2; // two of them before the trace
        r.fiber = i % 2 ? G_WORKER : 0;
        trace_build_sample(w.build, &r);
    }
    made_trace_advance(&w.m);
    announce(&w, true);
    r.time_ns = w.m.now * 64;
    trace_build_sample(w.build, &r);
    assert_int_equal(trace_build_pump(w.build), 0);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_int_equal(w.files[0].samples, 8);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_int_equal(c.samples, 8);
    assert_int_equal(c.worker_samples, 3);
    assert_int_equal(lines_of_go(w.paths[0], "StackSample"), 8);
}

// Whatever the moment: what was committed is a trace.
static void a_killed_target_leaves_a_valid_trace(void **state)
{
    (void)state;
    for (int events = 1; events < 40; events++) {
        static struct world w;
        struct read c;
        make_world(&w, 16);
        open_build(&w, 23 + 3 * (uint32_t)(events % 2));
        made_trace_start(&w.m, &w.s, 15625000);
        announce(&w, false);
        create_worker(&w);
        if (events % 3) {
            made_trace_advance(&w.m);
            announce(&w, true);
        }
        if (events % 2)
            trace_build_pump(w.build);
        for (int i = 0; i < events; i++)
            round_trip(&w);
        // Some of the last generation's events are there, some are not; of one there is a beginning.
        bool in_flight = events % 5 == 0;
        if (in_flight)
            made_trace_begin_event(&w.m, THREAD);
        assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
        assert_int_equal(w.closed, 1);
        assert_true(w.files[0].was_killed);
        assert_int_equal(w.files[0].left_out, 0);
        int generations = events % 3 ? 2 : 1, ends = in_flight;
        assert_int_equal(w.files[0].events,
                         4 + 5 * generations + events * ROUND_EVENTS + generations + 1 + 2 * ends);
        end_world(&w);
        read_with_ours(w.paths[0], &c);
        assert_int_equal(c.generations, generations + ends); // the last one says what is missing
        assert_string_equal(c.missing, in_flight ? "killed" : "");
        if (events % 13 == 0)
            lines_of_go(w.paths[0], "");
        assert_int_equal(c.events, w.files[0].events);
    }
}

// A target that lives on and does not answer: events at or after the moment are left out.
static void a_living_target_is_cut_in_time(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    uint64_t until = w.m.now + 1 + ROUND_EVENTS * 3 + 2;
    for (int i = 0; i < 100; i++)
        round_trip(&w);
    assert_int_equal(trace_build_finish(w.build, until * 64, 0), 0);
    assert_int_equal(w.files[0].events, 4 + 5 + ROUND_EVENTS * 3 + 2 + 1 + 1);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_string_equal(c.missing, "");
}

// What waits as recording ends has waited until then.
static void a_trace_lasts_until_recording_ends(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    for (uint32_t version = 23; version <= 26; version += 3) {
        make_world(&w, 16);
        open_build(&w, version);
        made_trace_start(&w.m, &w.s, 15625000);
        announce(&w, false);
        create_worker(&w);
        uint64_t end_ns = w.m.now * 64 + 10 * UINT64_C(1000000000);
        assert_int_equal(trace_build_finish(w.build, UINT64_MAX, end_ns), 0);
        assert_int_equal(w.files[0].end_ns, end_ns);
        end_world(&w);
        read_with_ours(w.paths[0], &c);
        assert_int_equal(c.generations, 2);
        assert_int_equal(c.events, w.files[0].events);
        assert_in_range(c.last_ns - c.first_ns, UINT64_C(10000000000), UINT64_C(10000010000));
        assert_int_equal(lines_of_go(w.paths[0], "Sync"), 3);
    }
}

static void a_cut_session_goes_on_in_the_next_file(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 4);
    open_build(&w, 23);
    for (int session = 0; session < 3; session++) {
        made_trace_start(&w.m, &w.s, 15625000 * (uint64_t)(session + 1));
        announce(&w, session > 0);
        if (session == 0)
            create_worker(&w);
        for (int i = 0; i < 5; i++)
            round_trip(&w);
        atomic_store(&w.m.t->end, session < 2 ? SEG_TRACE_FULL : SEG_TRACE_STOPPED);
        if (session < 2)
            atomic_fetch_add(&w.m.t->cuts, 1);
        made_trace_stop(&w.m);
        assert_int_equal(trace_build_pump(w.build), 0);
    }
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_int_equal(w.closed, 3);
    end_world(&w);
    int64_t cut_ns = 0;
    for (int i = 0; i < 3; i++) {
        static const char *const missing[] = {"full", "gap full", "gap"};
        assert_int_equal(w.files[i].was_cut, i < 2);
        read_with_ours(w.paths[i], &c);
        assert_int_equal(c.generations, 2); // the last one says so
        assert_string_equal(c.missing, missing[i]);
        assert_int_equal(c.events, w.files[i].events);
        const struct trace_note *full = &c.notes[i > 0];
        if (i < 2) { // from its last event on
            assert_true(full->from_ns > c.first_ns && full->from_ns < c.last_ns);
            assert_true(c.last_ns - full->from_ns < 200 && !full->to_ns);
            assert_non_null(strstr(full->text, "buffers were full"));
        }
        if (i > 0) // from the end of the file before to its own beginning
            assert_true(c.notes[0].from_ns == cut_ns && c.notes[0].to_ns >= c.first_ns);
        cut_ns = full->from_ns;
        lines_of_go(w.paths[i], "");
    }
}

// An event that no recorder writes: its generation is left out and told, the next one is a file of its own.
static void what_makes_no_sense_is_left_out(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    MADE(&w.m, THREAD, 200, 1, 2, 3);
    round_trip(&w);
    MADE(&w.m, OTHER, TRACE_EV_GO_UNBLOCK, G_WORKER, 7, 0);
    made_trace_advance(&w.m);
    announce(&w, true);
    round_trip(&w);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_int_equal(w.closed, 2);
    assert_int_equal(w.files[0].generations, 1);
    assert_int_equal(w.files[0].left_out, 1);
    assert_true(strlen(w.files[0].why) > 10);
    assert_int_equal(w.files[1].generations, 1);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
    assert_string_equal(c.missing, "refused");
    assert_non_null(strstr(c.notes[0].text, w.files[0].why));
    lines_of_go(w.paths[0], "");
    read_with_ours(w.paths[1], &c);
    assert_string_equal(c.missing, "");
}

static void a_killed_trace_that_makes_no_sense_ends_before(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    MADE(&w.m, THREAD, TRACE_EV_GO_START, G_WORKER, 9); // it waits, and nobody has woken it
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.files[0].generations, 1);
    assert_int_equal(w.files[0].left_out, 1);
    end_world(&w);
    read_with_ours(w.paths[0], &c);
}

static void a_flight_recorder_gives_snapshots(void **state)
{
    static struct world w;
    struct read c;
    (void)state;
    make_world(&w, 32); // nothing is given back
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    atomic_store(&w.m.t->is_flight, 1);
    announce(&w, false);
    create_worker(&w);
    for (int i = 0; i < 3; i++) {
        made_trace_advance(&w.m);
        announce(&w, true);
        round_trip(&w);
        assert_int_equal(trace_build_pump(w.build), 0);
    }
    assert_int_equal(w.opened, 0); // nobody asked
    trace_build_snapshot(w.build);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(atomic_load(&w.m.t->request), SEG_TRACE_ADVANCE);
    assert_int_equal(w.opened, 0); // it waits for the generation to end
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.files[0].generations, 4);

    // The oldest has given way; a condition in the target was met.
    atomic_store(&w.m.t->oldest, 3);
    atomic_fetch_add(&w.m.t->snapshots, 1);
    assert_int_equal(trace_build_pump(w.build), 0);
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0);
    assert_int_equal(w.closed, 2);
    assert_int_equal(w.files[1].generations, 3);
    round_trip(&w);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0); // it was killed
    assert_int_equal(w.closed, 3);
    if (w.files[2].left_out)
        fail_msg("%s", w.files[2].why);
    assert_int_equal(w.files[2].left_out, 0);
    assert_int_equal(w.files[2].generations, 4);
    assert_int_equal(atomic_load(&w.m.t->hold), 0);
    end_world(&w);
    for (int i = 0; i < 3; i++) {
        read_with_ours(w.paths[i], &c);
        lines_of_go(w.paths[i], "");
    }
}

static void a_full_disk_costs_the_rest_of_the_file(void **state)
{
    static struct world w;
    (void)state;
    make_world(&w, 16);
    open_build(&w, 23);
    made_trace_start(&w.m, &w.s, 15625000);
    announce(&w, false);
    create_worker(&w);
    made_trace_advance(&w.m);
    announce(&w, true);
    w.fail_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(w.fail_fd >= 0);
    assert_int_equal(trace_build_pump(w.build), -ENOSPC);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.rc[0], -ENOSPC);
    made_trace_advance(&w.m);
    announce(&w, true);
    assert_int_equal(trace_build_pump(w.build), 0); // told once
    assert_int_equal(w.opened, 1);
    made_trace_stop(&w.m);
    assert_int_equal(trace_build_finish(w.build, UINT64_MAX, 0), 0);
    assert_true(strlen(trace_build_error(w.build)) > 0);
    end_world(&w);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char path[64];
    (void)state;
    for (int i = 1; i <= 16; i++) {
        snprintf(path, sizeof path, "%s/%d.trace", folder, i);
        unlink(path);
    }
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_becomes_a_file),
        cmocka_unit_test(the_newer_format_has_the_time_of_day),
        cmocka_unit_test(samples_fall_into_their_generation),
        cmocka_unit_test(a_killed_target_leaves_a_valid_trace),
        cmocka_unit_test(a_living_target_is_cut_in_time),
        cmocka_unit_test(a_trace_lasts_until_recording_ends),
        cmocka_unit_test(a_cut_session_goes_on_in_the_next_file),
        cmocka_unit_test(what_makes_no_sense_is_left_out),
        cmocka_unit_test(a_killed_trace_that_makes_no_sense_ends_before),
        cmocka_unit_test(a_flight_recorder_gives_snapshots),
        cmocka_unit_test(a_full_disk_costs_the_rest_of_the_file),
    };
    (void)argc;
    (void)argv;
    return skip_status(cmocka_run_group_tests(tests, make_folder, remove_folder));
}
