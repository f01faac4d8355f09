// SPDX-License-Identifier: MIT
//
// The table of `fiberscope top -p`, as lines: columns stay apart whatever is in them.

#include "cli/top_live.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *top_kind_name(enum top_kind kind)
{
    return kind == TOP_BLOCK ? "block" : "another";
}

bool top_kind_is_level(enum top_kind kind)
{
    return kind == TOP_HEAP;
}

// The row of this name.
static void draw(const struct top_table *t, const char *name, char row[256])
{
    char *text = NULL;
    size_t size = 0;
    const struct top_view v = {.table = t, .program = "p", .focus = "", .kind = TOP_BLOCK};
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    top_draw_lines(out, &v);
    assert_int_equal(fclose(out), 0);
    char *end = strstr(text, name);
    assert_non_null(end);
    *end = '\0';
    const char *line = strrchr(text, '\n');
    assert_non_null(line);
    snprintf(row, 256, "%s", line + 1);
    free(text);
}

static void smallest_shares_have_their_column(void **state)
{
    (void)state;
    char row[256], flat[16], flat_share[16], cum[16], cum_share[16], rest[256];
    struct top_row rows[] = {{.label = "most", .flat = 3000000000, .cum = 3000000000},
                             {.label = "little", .flat = 10000, .cum = 46250}};
    const struct top_table t = {
        .rows = rows, .count = 2, .window = 3000000000, .total = 0, .unit = "nanoseconds"};
    draw(&t, "little", row);
    assert_int_equal(
        sscanf(row, "%15s %15s %15s %15s %255[^\n]", flat, flat_share, cum, cum_share, rest), 5);
    assert_string_equal(flat, "10us");
    assert_string_equal(flat_share, "<0.01%");
    assert_string_equal(cum, "46.25us");
    assert_string_equal(cum_share, "<0.01%");
    draw(&t, "most", row);
    assert_non_null(strstr(row, "100%"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(smallest_shares_have_their_column)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
