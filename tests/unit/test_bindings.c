// SPDX-License-Identifier: MIT
//
// No view has two commands on one key, keys give the commands they stand for, and the palette finds
// by a few letters.

#include "viewer/bindings.h"
#include "viewer/palette.h"
#include "viewer/view.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

static bool same_key(const struct command *a, const struct command *b)
{
    for (int i = 0; i < COMMAND_KEYS; i++) {
        for (int k = 0; k < COMMAND_KEYS; k++) {
            const struct command_key *x = &a->keys[i], *y = &b->keys[k];
            if (!x->code || x->code != y->code)
                continue;
            // Strides take a key without modifiers with Shift and with Ctrl as well.
            bool x_takes = a->strides && !x->mods && !(y->mods & UI_ALT);
            bool y_takes = b->strides && !y->mods && !(x->mods & UI_ALT);
            if (x->mods == y->mods || x_takes || y_takes)
                return true;
        }
    }
    return false;
}

static void no_view_has_two_commands_on_one_key(void **state)
{
    (void)state;
    for (int v = 0; views[v]; v++) {
        unsigned contexts = views[v]->contexts | CONTEXT_ANY;
        for (const struct command *a = commands; a->help; a++)
            for (const struct command *b = a + 1; b->help; b++)
                if (a->contexts & contexts && b->contexts & contexts && same_key(a, b))
                    fail_msg("%s: \"%s\" and \"%s\" have one key", views[v]->id, a->help, b->help);
    }
}

static void rows_are_whole_and_ids_are_there_once(void **state)
{
    (void)state;
    for (const struct command *a = commands; a->help; a++) {
        assert_true(a->contexts);
        assert_true((a->id != COMMAND_NONE) == (a->keys[0].code != 0));
        assert_true(a->id != COMMAND_NONE || (a->mouse && !a->name));
        assert_true(a->id < COMMAND_COUNT);
        assert_true(a->id == COMMAND_NONE || command_of(a->id) == a);
        for (const struct command *b = a + 1; b->help; b++) // groups stand together
            if (command_group(b) == command_group(a))
                assert_ptr_equal(command_group(b - 1), command_group(a));
    }
}

static double stride(uint32_t key, unsigned mods, enum command_id id)
{
    struct ui u = {.event = {.kind = UI_KEY, .key = key, .mods = (uint8_t)mods}};
    bool given = command_given(&u, id);
    assert_true(given == (u.event.kind == UI_NONE));
    return given ? u.stride : 0;
}

static void keys_give_commands(void **state)
{
    (void)state;
    assert_true(stride('w', 0, COMMAND_ZOOM_IN) == 1);
    assert_true(stride(UI_KEY_UP, UI_SHIFT, COMMAND_ZOOM_IN) == 4);
    assert_true(stride('w', UI_CTRL, COMMAND_ZOOM_IN) == 0.25);
    assert_true(stride('w', UI_CTRL | UI_SHIFT, COMMAND_ZOOM_IN) == 0);
    assert_true(stride('w', UI_ALT, COMMAND_ZOOM_IN) == 0);
    assert_true(stride('s', 0, COMMAND_ZOOM_IN) == 0);
    assert_true(stride('z', 0, COMMAND_UNDO) == 0);
    assert_true(stride('z', UI_CTRL, COMMAND_UNDO) == 1);
    assert_true(stride('z', UI_CTRL | UI_SHIFT, COMMAND_UNDO) == 0);
    assert_true(stride('?', UI_SHIFT, COMMAND_HELP) == 1); // where the keyboard has it
    assert_true(stride('?', 0, COMMAND_HELP) == 1);

    struct ui u = {.command = COMMAND_UNDO}; // from the palette, whatever the event
    assert_false(command_given(&u, COMMAND_HELP));
    assert_true(command_given(&u, COMMAND_UNDO));
    assert_false(command_given(&u, COMMAND_UNDO)); // once
    assert_false(command_given(&u, COMMAND_NONE));
}

static void a_field_keeps_its_letters(void **state)
{
    (void)state;
    struct ui u = {.focus = 7, .event = {.kind = UI_KEY, .key = 'w'}};
    assert_false(command_given(&u, COMMAND_ZOOM_IN));
    u.event.key = UI_KEY_BACKSPACE;
    assert_false(command_given(&u, COMMAND_UNDO));
    u.event = (struct ui_event){.kind = UI_KEY, .key = 'q', .mods = UI_CTRL};
    assert_true(command_given(&u, COMMAND_QUIT));
}

static void keys_are_written_as_people_do(void **state)
{
    (void)state;
    char buf[COMMAND_KEYS_TEXT];
    assert_string_equal(command_keys(command_of(COMMAND_UNDO), buf), "Ctrl+Z  Backspace");
    assert_string_equal(command_keys(command_of(COMMAND_ZOOM_IN), buf), "W  Up");
    assert_string_equal(command_keys(command_of(COMMAND_THEME), buf), "F2");
}

static void the_palette_finds_by_letters(void **state)
{
    (void)state;
    assert_true(palette_match("Zoom in", ""));
    assert_true(palette_match("Zoom in", "zi"));
    assert_true(palette_match("Zoom in", "ZOOM IN"));
    assert_false(palette_match("Zoom in", "iz"));
    assert_false(palette_match("Zoom in", "zoom out"));
    // Beginnings of words, then letters side by side, are better than letters anywhere.
    assert_true(palette_match("Zoom in", "zi") > palette_match("Size it", "zi"));
    assert_true(palette_match("Undo zooming", "zoom") > palette_match("Undo zxoxom", "zoom"));
    // The best way counts, not the first.
    assert_int_equal(palette_match("Frozen zone", "zone"), palette_match("A zone", "zone"));
}

static void keys_are_read_as_they_are_written(void **state)
{
    (void)state;
    char text[COMMAND_KEYS_TEXT];
    struct command_key k;
    for (const struct command *c = commands; c->help; c++)
        for (int i = 0; i < COMMAND_KEYS && c->keys[i].code; i++) {
            const struct command one = {.keys = {c->keys[i]}};
            assert_true(command_key_read(command_keys(&one, text), &k));
            assert_int_equal(k.code, c->keys[i].code);
            assert_int_equal(k.mods, c->keys[i].mods);
        }
    static const char *const wrong[] = {"",    " ",       "Alt+", "F0",      "F13",
                                        "F1x", "Hyper+A", "ab",   "\xc3\xa9"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(command_key_read(wrong[i], &k));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_view_has_two_commands_on_one_key),
        cmocka_unit_test(rows_are_whole_and_ids_are_there_once),
        cmocka_unit_test(keys_give_commands),
        cmocka_unit_test(a_field_keeps_its_letters),
        cmocka_unit_test(keys_are_written_as_people_do),
        cmocka_unit_test(keys_are_read_as_they_are_written),
        cmocka_unit_test(the_palette_finds_by_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
