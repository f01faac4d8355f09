// SPDX-License-Identifier: MIT
//
// The program without its window: files and their tabs, commands by key and palette, saving and copying, movement by
// the clock.

#include "viewer/app.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct app a;

static int begin(void **state)
{
    (void)state;
    const struct app_options o = {.font = "builtin", .scale = 100};
    struct fscope_error err = {0};
    assert_int_equal(app_init(&a, &o, &err), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    app_close(&a);
    return 0;
}

static void add(const char *path)
{
    struct fscope_error err = {0};
    assert_int_equal(app_add(&a, path, &err), 0);
    assert_int_equal(app_show(&a, NULL, &err), 0);
}

static void give(const struct ui_event *ev)
{
    app_frame(&a, 900, 500, ev);
    for (int i = 0; i < 4 && a.ui.again; i++)
        app_frame(&a, 900, 500, NULL);
}

static void key(uint32_t code, unsigned mods)
{
    const struct ui_event ev = {.kind = UI_KEY, .key = code, .mods = (uint8_t)mods};
    give(&ev);
}

static void type(const char *text)
{
    for (; *text; text++) {
        const struct ui_event ev = {.kind = UI_TEXT, .text = {*text}};
        give(&ev);
    }
}

// The frame as text, which the caller frees.
static char *dump(void)
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

static void files_have_tabs(void **state)
{
    (void)state;
    give(NULL);
    assert_true(shown("No file is open."));
    add(FUZZ_TRACE);
    give(NULL);
    assert_true(shown("\"P0\""));
    add(FUZZ_PROFILE);
    give(NULL);
    assert_true(shown("\"view.trace\"") && shown("\"go_goroutine.pb\"") && !shown("\"P0\""));
    key(UI_KEY_TAB, UI_CTRL);
    assert_true(shown("\"P0\""));
    key(UI_KEY_TAB, UI_CTRL | UI_SHIFT);
    assert_false(shown("\"P0\""));
    key(UI_KEY_F1 + 3, UI_CTRL);
    assert_true(shown("\"P0\"") && !shown("\"go_goroutine.pb\""));
    key(UI_KEY_F1 + 3, UI_CTRL);
    assert_true(shown("No file is open."));
}

static void the_palette_gives_commands(void **state)
{
    (void)state;
    add(FUZZ_TRACE);
    assert_true(a.ui.theme.dark);
    key('p', UI_CTRL);
    type("drk");
    assert_true(shown("\"Dark or light\"") && !shown("\"Quit\""));
    key(UI_KEY_ENTER, 0);
    assert_false(a.ui.theme.dark || a.palette.open);
    key(':', UI_SHIFT);
    type("quit");
    key(UI_KEY_ESCAPE, 0);
    assert_false(a.quit || a.palette.open);
    // Letters that are commands elsewhere are letters here.
    key('p', UI_CTRL);
    key('w', 0);
    assert_true(a.palette.open);
}

static void a_path_is_opened_or_said_why_not(void **state)
{
    (void)state;
    key('o', UI_CTRL);
    type("/nonexistent");
    key(UI_KEY_ENTER, 0);
    assert_true(a.count == 0 && shown("/nonexistent: "));
    key('o', UI_CTRL);
    type(FUZZ_TRACE);
    key(UI_KEY_ENTER, 0);
    assert_int_equal(a.count, 1);
}

static void pictures_are_saved_beside_each_other(void **state)
{
    (void)state;
    char folder[] = "/tmp/fiberscope-test-XXXXXX";
    static const char *const names[] = {"view.trace-timeline-1.png", "view.trace-timeline-1.svg",
                                        "view.trace-timeline-2.png", "view.trace-timeline-2.svg"};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    add(FUZZ_TRACE);
    give(NULL);
    for (int i = 0; i < 2; i++) {
        key('e', UI_CTRL);
        assert_true(shown("Saved view.trace-timeline-"));
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(unlink(names[i]), 0);
    assert_int_equal(rmdir(folder), 0);
    key('e', UI_CTRL); // the folder is gone
    assert_true(shown("Not saved: "));
    assert_int_equal(chdir("/"), 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(text, f) >= 0 && !fclose(f));
}

// Nothing that is there is replaced: not by a picture with a free number, nor when the numbers are used up.
static void saving_replaces_nothing(void **state)
{
    (void)state;
    char folder[] = "/tmp/fiberscope-test-XXXXXX", name[64];
    struct stat st;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    add(FUZZ_TRACE);
    give(NULL);
    for (int i = 1; i <= 1000; i++) { // one of the two is enough; a dead link is something, too
        snprintf(name, sizeof name, "view.trace-timeline-%d.%s", i, i % 2 ? "svg" : "png");
        if (i % 10)
            write_text(name, "mine");
        else
            assert_int_equal(symlink("nowhere", name), 0);
    }
    key('e', UI_CTRL);
    assert_true(shown("Not saved: view.trace-timeline-1 to -1000 are there"));
    for (int i = 1; i <= 1000; i++) {
        snprintf(name, sizeof name, "view.trace-timeline-%d.%s", i, i % 2 ? "svg" : "png");
        assert_int_equal(lstat(name, &st), 0);
        assert_true(S_ISLNK(st.st_mode) || st.st_size == 4);
        if (i != 7)
            assert_int_equal(unlink(name), 0);
    }
    assert_int_equal(rename("view.trace-timeline-7.svg", "view.trace-timeline-1.svg"), 0);
    key('e', UI_CTRL);
    assert_true(shown("Saved view.trace-timeline-2.png"));
    // The name of an address that ends in a slash is all of it.
    free(a.documents[0]->path);
    a.documents[0]->path = strdup("http://host:1/debug/?a=/b");
    key('e', UI_CTRL);
    assert_true(shown("Saved http:__host:1_debug_-timeline-1.png"));
    static const char *const left[] = {
        "view.trace-timeline-1.svg", "view.trace-timeline-2.png", "view.trace-timeline-2.svg",
        "http:__host:1_debug_-timeline-1.png", "http:__host:1_debug_-timeline-1.svg"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        assert_int_equal(unlink(left[i]), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void words_are_copied_in_rows(void **state)
{
    (void)state;
    add(FUZZ_TRACE);
    give(NULL);
    key('c', UI_CTRL);
    assert_non_null(a.wants.copy);
    assert_non_null(strstr(a.wants.copy, "P0\t70.0%\tmain\t"));
}

static void letters_grow_and_come_back(void **state)
{
    (void)state;
    add(FUZZ_TRACE);
    give(NULL);
    char *before = dump();
    for (int i = 0; i < 12; i++)
        key('=', UI_CTRL);
    assert_int_equal(a.font_scale, 220);
    assert_int_equal(font_size(a.font), 18);
    for (int i = 0; i < 60; i++)
        key('-', UI_CTRL);
    assert_int_equal(a.font_scale, APP_SCALE_MIN);
    key('0', UI_CTRL);
    char *after = dump();
    assert_string_equal(before, after);
    free(before);
    free(after);
    app_set_ratio(&a, 2); // a screen of twice as many pixels
    assert_int_equal(font_size(a.font), 18);
}

static char *at(int64_t now_ms)
{
    a.ui.now_ms = now_ms;
    give(NULL);
    return dump();
}

static void zooming_moves_and_turns(void **state)
{
    (void)state;
    add(FUZZ_TRACE);
    give(NULL);
    char *whole = dump();
    key('+', 0); // without a clock: at once
    char *half = dump();
    assert_string_not_equal(whole, half);
    key('0', 0);
    char *texts[4] = {at(1000)};
    assert_string_equal(texts[0], whole);
    key('+', 0);
    assert_true(a.ui.moves);
    texts[1] = at(1040);
    assert_string_not_equal(texts[1], whole);
    assert_string_not_equal(texts[1], half);
    key('0', 0); // back from where it is
    assert_true(a.ui.moves);
    texts[2] = at(1041);
    assert_string_not_equal(texts[2], whole);
    texts[3] = at(1300);
    assert_string_equal(texts[3], whole);
    assert_false(a.ui.moves);
    for (int i = 0; i < 4; i++)
        free(texts[i]);
    free(whole);
    free(half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_have_tabs, begin, end),
        cmocka_unit_test_setup_teardown(the_palette_gives_commands, begin, end),
        cmocka_unit_test_setup_teardown(a_path_is_opened_or_said_why_not, begin, end),
        cmocka_unit_test_setup_teardown(pictures_are_saved_beside_each_other, begin, end),
        cmocka_unit_test_setup_teardown(saving_replaces_nothing, begin, end),
        cmocka_unit_test_setup_teardown(words_are_copied_in_rows, begin, end),
        cmocka_unit_test_setup_teardown(letters_grow_and_come_back, begin, end),
        cmocka_unit_test_setup_teardown(zooming_moves_and_turns, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
