// SPDX-License-Identifier: MIT
//
// Files are seen while they are read: parts of them are drawn and can be used, and in the end they are what they are that
// were read at once.

#include "tests/unit/written_trace.h"
#include "viewer/app.h"
#include "viewer/load.h"
#include "viewer/views/profiles.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 9000 }; // 27,000 events: a part may be made after every 4096

static char path[] = "/tmp/fiberscope-test-XXXXXX";
static struct app a;
static sem_t woken, go;
static bool waits; // a thread does, for go

// The thread that reads, or the one that makes a part, stands still until the test has looked.
static void wake(void *context)
{
    (void)context;
    sem_post(&woken);
    sem_wait(&go);
}

// One generation. How many bytes.
static size_t write_rounds(uint64_t rounds)
{
    struct written m;
    uint64_t at = 10000;
    written_begin(&m);
    uint64_t where = written_stack(&m, "work", "main");
    for (uint64_t i = 0; i < rounds; i++, at += 100) {
        written_wake(&m, 0, at, 2, where);
        written_start(&m, 1, at + 10, 2);
        written_block(&m, 1, at + 40, "sync", where);
    }
    trace_reader_close(written_end(&m));
    FILE *f = fopen(path, "w");
    assert_true(f && fwrite(m.bytes, m.size_bytes, 1, f) == 1 && !fclose(f));
    written_free(&m);
    return m.size_bytes;
}

static int write_trace(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_rounds(ROUNDS);
    sem_init(&woken, 0, 0);
    sem_init(&go, 0, 0);
    return 0;
}

static int remove_trace(void **state)
{
    (void)state;
    return unlink(path);
}

static void give(const struct ui_event *ev)
{
    app_frame(&a, 1000, 600, ev);
    for (int i = 0; i < 4 && a.ui.again; i++)
        app_frame(&a, 1000, 600, NULL);
}

static void key(uint32_t code)
{
    give(&(struct ui_event){.kind = UI_KEY, .key = code});
}

__attribute__((noinline)) static char *dump(void)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    draw_dump(&a.list, out);
    fclose(out);
    return text;
}

static bool shown(const char *what)
{
    char *text = dump();
    bool is = strstr(text, what);
    free(text);
    return is;
}

static void open_file(bool at_once)
{
    const struct app_options o = {
        .font = "builtin", .scale = 100, .part_ms = -1, .wake = at_once ? NULL : wake};
    struct fscope_error err = {0};
    while (!sem_trywait(&go) || !sem_trywait(&woken))
        ; // of the case before
    waits = false;
    assert_int_equal(app_init(&a, &o, &err), 0);
    assert_int_equal(app_add(&a, path, &err), 0);
    if (at_once)
        assert_int_equal(app_show(&a, NULL, &err), 0);
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

static void a_part_is_drawn_and_the_whole_is_the_whole(void **state)
{
    (void)state;
    open_file(true);
    give(NULL);
    char *want = dump();
    uint32_t spans = a.documents[0]->trace->spans->span_count, before = 0;
    app_close(&a);
    open_file(false);
    assert_false(a.documents[0]->trace);
    int parts = 0;
    for (; next_part(); parts++) {
        uint32_t now = a.documents[0]->trace->spans->span_count;
        assert_true(now > before && now < spans);
        before = now;
        assert_true(shown("loading ") && shown(" %\"") && shown("\"P1\"") && shown("strip"));
    }
    assert_true(parts > 0);
    assert_false(shown("loading "));
    char *got = dump();
    assert_string_equal(got, want);
    free(got);
    free(want);
    app_close(&a);
}

// The text of the first item that says this.
static char *said(const char *what)
{
    char *all = dump(), *at = strstr(all, what);
    if (!at)
        fail_msg("nothing says %s in\n%s", what, all);
    char *text = at ? strndup(at, strcspn(at, "\n")) : NULL;
    free(all);
    return text;
}

static void what_was_chosen_stays_chosen(void **state)
{
    (void)state;
    open_file(false);
    assert_true(next_part());
    for (int i = 0; i < 12; i++)
        key('w');
    // The second Proc, wherever its row is; it does not always run.
    for (int i = 0; i < 20 * 34 && !shown("worker  fiber 2"); i++) {
        int x = 600 + i % 34 * 3, y = 70 + i / 34 * 6;
        give(&(struct ui_event){.kind = UI_PRESS, .x = x, .y = y, .clicks = 1});
        give(&(struct ui_event){.kind = UI_RELEASE, .x = x, .y = y});
    }
    char *who = said("worker  fiber 2"), *what = said("running 30ns"), *where = said("Shown ");
    while (next_part())
        ;
    char *after[] = {said("worker  fiber 2"), said("running 30ns"), said("Shown ")};
    assert_string_equal(after[0], who);
    assert_string_equal(after[1], what); // with its time
    assert_string_equal(after[2], where);
    for (int i = 0; i < 3; i++)
        free(after[i]);
    free(who);
    free(what);
    free(where);
    app_close(&a);
}

static void closing_meanwhile_leaves_nothing(void **state)
{
    (void)state;
    open_file(false);
    assert_true(next_part());
    for (int i = 0; i < 100; i++)
        sem_post(&go);
    app_close(&a);
}

// Cancelling waits for a call of `wake` to return. The thread that reads stands in one until the program has looked for parts
// for the last time and cancels: what it makes after that is never asked for.
void __real_load_cancel(struct load *l); // NOLINT: the linker's name
void __wrap_load_cancel(struct load *l); // NOLINT
void __wrap_load_cancel(struct load *l)  // NOLINT
{
    for (int i = 0; l && i < 100; i++)
        sem_post(&go);
    __real_load_cancel(l);
}

static void escape_ends_the_reading_and_keeps_the_part(void **state)
{
    (void)state;
    open_file(false);
    const struct document *d = a.documents[0];
    assert_true(next_part());
    const struct trace_model *part = d->trace;
    key(UI_KEY_ESCAPE);
    assert_null(d->loading);
    assert_ptr_equal(d->trace, part);
    assert_true(shown("cancelled") && shown("\"P1\"") && !shown("loading "));
    app_close(&a);
}

// What this process has read until now, of files and all else.
static uint64_t read_bytes(void)
{
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    assert_true(f && fscanf(f, "rchar: %llu", &n) == 1 && !fclose(f));
    return n;
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

// Here the thread calls for the first time after 4096 events, and waits.
static void a_generation_is_not_read_to_its_end_first_nor_after_a_cancel(void **state)
{
    (void)state;
    struct load_progress p;
    size_t size = write_rounds(30 * (uint64_t)ROUNDS);
    int before = threads();
    uint64_t began = read_bytes();
    open_file(false);
    sem_wait(&woken);
    load_look(a.documents[0]->loading, &p);
    assert_true(p.done_bytes > 0 && p.done_bytes < size / 8);
    assert_in_range(read_bytes() - began, 1, size / 4);
    app_close(&a); // which lets it go
    for (int i = 0; i < 3000 && threads() > before; i++)
        usleep(10000);
    assert_in_range(read_bytes() - began, 1, size / 2);
    write_rounds(ROUNDS);
}

static void write_profile(const char *to)
{
    enum { SAMPLES = 120000, FUNCTIONS = 300 };
    struct fscope_error err = {0};
    struct pprof_profile *p = pprof_new();
    struct pprof_mapping *m = pprof_add_mapping(p, 0x1000, 0x9000, 0, "program", "");
    pprof_add_sample_type(p, "cpu", "nanoseconds");
    for (uint64_t i = 0; i < FUNCTIONS; i++) {
        char name[16];
        snprintf(name, sizeof name, "function_%d", (int)i);
        struct pprof_line l = {.function = pprof_intern_function(p, name, name, "", 0), .line = 1};
        pprof_intern_location(p, m, 0x1000 + i, &l, 1);
    }
    for (uint64_t i = 0; i < SAMPLES; i++) {
        struct pprof_location *stack[] = {p->locations[i * i % FUNCTIONS], p->locations[i % 17],
                                          p->locations[0]};
        assert_non_null(
            pprof_append_sample(p, stack, 3, (int64_t[]){1000 + (int64_t)(i % 7)}, NULL, 0));
    }
    assert_int_equal(pprof_write_file(p, to, &err), 0);
    pprof_free(p);
}

static void a_large_profile_is_seen_by_some_of_its_samples(void **state)
{
    (void)state;
    char trace[sizeof path];
    memcpy(trace, path, sizeof path);
    memcpy(path + sizeof path - 7, "profil", 6);
    write_profile(path);
    open_file(true);
    give(NULL);
    char *want = dump();
    app_close(&a);
    open_file(false);
    const struct document *d = a.documents[0];
    const struct profile_model *part = NULL;
    bool done = false;
    while (!done) { // the thread that reads waits for each picture
        struct load_progress p;
        sem_wait(&woken);
        load_look(d->loading, &p);
        done = p.done;
        if (!done)
            give(NULL);
        if (!done && d->profile && d->profile != part) {
            part = d->profile;
            assert_true(shown("loading") && shown("function_0") && shown("one sample of every 12"));
        }
        sem_post(&go);
    }
    give(NULL);
    assert_non_null(part);
    assert_true(d->profile && d->profile != part && d->file);
    char *got = dump();
    assert_string_equal(got, want);
    free(got);
    free(want);
    app_close(&a);
    unlink(path);
    memcpy(path, trace, sizeof path);
}

static int threads_before;

static void *nothing(void *arg)
{
    return arg;
}

static int begin(void **state)
{
    pthread_t t; // with the first one a sanitizer begins one of its own
    assert_false(pthread_create(&t, NULL, nothing, NULL) || pthread_join(t, NULL));
    threads_before = threads();
    return write_trace(state);
}

// A reading that was cancelled ends by itself, later: all that it had begun is gone then.
static int end(void **state)
{
    for (int i = 0; i < 3000 && threads() > threads_before; i++)
        usleep(10000);
    return remove_trace(state) || threads() > threads_before;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_is_drawn_and_the_whole_is_the_whole),
        cmocka_unit_test(what_was_chosen_stays_chosen),
        cmocka_unit_test(a_large_profile_is_seen_by_some_of_its_samples),
        cmocka_unit_test(escape_ends_the_reading_and_keeps_the_part),
        cmocka_unit_test(closing_meanwhile_leaves_nothing),
        cmocka_unit_test(a_generation_is_not_read_to_its_end_first_nor_after_a_cancel),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
