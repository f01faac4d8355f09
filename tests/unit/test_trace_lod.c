// SPDX-License-Identifier: MIT
//
// Columns of a lane equal what a walk over all its spans finds, at every zoom and place.

#include "analysis/trace/lod.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLUMNS = 97 };

static uint64_t seed;

static uint32_t draw(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static bool with_long;

// A lane of n spans, with gaps, some spans a thousand times as long.
static void make(struct lod *l, uint32_t n, int64_t begin_ns)
{
    *l = (struct lod){0};
    for (uint32_t i = 0; i < n; i++) {
        begin_ns += draw(3) ? 0 : draw(200);
        int64_t end_ns = begin_ns + 1 + draw(draw(400) ? 100 : 100000);
        if (with_long && i % 300 == 7) // beyond 32 bits, and their edge
            end_ns = begin_ns + (int64_t)UINT32_MAX - 2 + i / 300 % 5;
        assert_int_equal(lod_add(l, begin_ns, end_ns, (uint8_t)draw(LOD_CLASSES)), 0);
        begin_ns = end_ns;
    }
    assert_int_equal(l->count, n);
    assert_int_equal(lod_finish(l), 0);
}

// The oracle: every span, in every column.
static void walk(const struct lod *l, int64_t from_ns, int64_t to_ns, struct lod_column *c)
{
    int64_t sums[LOD_CLASSES] = {0}, longest_ns = 0;
    *c = (struct lod_column){.longest = UINT32_MAX};
    for (uint32_t i = 0; i < l->count; i++) {
        int64_t b = lod_begin_ns(l, i) > from_ns ? lod_begin_ns(l, i) : from_ns;
        int64_t e = lod_end_ns(l, i) < to_ns ? lod_end_ns(l, i) : to_ns;
        if (b >= e || lod_class(l, i) == LOD_NONE)
            continue;
        sums[lod_class(l, i)] += e - b;
        if (lod_end_ns(l, i) - lod_begin_ns(l, i) > longest_ns) {
            longest_ns = lod_end_ns(l, i) - lod_begin_ns(l, i);
            c->longest = i;
        }
    }
    while (longest_ns >> c->bits)
        c->bits++;
    c->first_ns = sums[0];
    for (uint8_t k = 0; k < LOD_CLASSES; k++) {
        c->busy_ns += sums[k];
        if (sums[k] > c->class_ns) {
            c->class_ns = sums[k];
            c->class = k;
        }
    }
}

static void check(const struct lod *l, int64_t begin_ns, int64_t end_ns)
{
    struct lod_column got[COLUMNS], right;
    int64_t length_ns = end_ns - begin_ns;
    static int64_t all[COLUMNS][LOD_CLASSES];
    memset(all, 0, sizeof all);
    lod_columns(l, begin_ns, end_ns, COLUMNS, got);
    for (int i = 0; i < 2; i++) // adds
        lod_add_columns(l, begin_ns, end_ns, COLUMNS, got, all);
    for (int64_t i = 0; i < COLUMNS; i++) {
        int64_t from_ns = begin_ns + length_ns * i / COLUMNS;
        int64_t to_ns = begin_ns + length_ns * (i + 1) / COLUMNS;
        walk(l, from_ns, to_ns, &right);
        assert_int_equal(got[i].busy_ns, right.busy_ns);
        assert_int_equal(got[i].class_ns, right.class_ns);
        assert_int_equal(got[i].class, right.class);
        assert_int_equal(got[i].first_ns, right.first_ns);
        assert_int_equal(got[i].bits, right.bits);
        assert_int_equal(all[i][0], 2 * right.first_ns);
        assert_int_equal(all[i][right.class], 2 * right.class_ns);
        for (int k = 1; k < LOD_CLASSES; k++)
            all[i][0] += all[i][k];
        assert_int_equal(all[i][0], 2 * right.busy_ns);
        // Of equally long ones any: their length is what is seen.
        assert_int_equal(got[i].longest == UINT32_MAX, right.longest == UINT32_MAX);
        if (right.longest != UINT32_MAX)
            assert_int_equal(lod_end_ns(l, got[i].longest) - lod_begin_ns(l, got[i].longest),
                             lod_end_ns(l, right.longest) - lod_begin_ns(l, right.longest));
    }
}

static void columns_equal_a_walk(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 2, 63, 64, 65, 127, 1024, 1025, 5000};
    seed = 7;
    for (size_t i = 0; i < 2 * (sizeof sizes / sizeof sizes[0]); i++) {
        struct lod l;
        with_long = i % 2;
        make(&l, sizes[i / 2], 1000);
        int64_t end_ns = l.count ? lod_end_ns(&l, l.count - 1) : 5000;
        check(&l, 1000, end_ns);
        check(&l, -5000, end_ns + 5000); // beyond both ends
        check(&l, end_ns, end_ns + 50);
        for (int k = 0; k < 30; k++) { // any window, down to less than a nanosecond a column
            int64_t b = (int64_t)draw((uint32_t)end_ns);
            check(&l, b, b + 1 + (int64_t)draw(k % 3 ? 2000 : (uint32_t)end_ns));
        }
        int64_t sums[LOD_CLASSES], busy_ns = 0;
        struct lod_column all;
        walk(&l, INT64_MIN, INT64_MAX, &all);
        lod_until(&l, INT64_MAX, sums);
        for (int k = 0; k < LOD_CLASSES; k++)
            busy_ns += sums[k];
        assert_int_equal(busy_ns, all.busy_ns);
        lod_free(&l);
    }
}

// Columns that belong to others, as a fiber's spans: without gaps, some as if they were not there,
// some without a length, times beyond 32 bits.
static void borrowed_spans_count_the_same(void **state)
{
    enum { N = 3000 };
    static uint32_t low[N];
    static uint16_t high[N], kind[N];
    static const uint8_t class_of[] = {3, LOD_NONE, 0, 7};
    const int64_t base_ns = 77;
    (void)state;
    seed = 5;
    for (uint32_t n = 0; n <= N; n += n < 3 ? 1 : 333) {
        uint64_t at = ((uint64_t)1 << 32) - 40000;
        for (uint32_t i = 0; i < n; i++, at += draw(4) ? draw(100) : 0) {
            low[i] = (uint32_t)at;
            high[i] = (uint16_t)(at >> 32);
            kind[i] = (uint16_t)draw(4);
        }
        struct lod l;
        int64_t begin_ns = base_ns + ((int64_t)1 << 32) - 40000,
                end_ns = base_ns + (int64_t)at + 50;
        lod_borrow(&l, base_ns, low, high, kind, class_of, n, end_ns);
        assert_int_equal(lod_finish(&l), 0);
        check(&l, begin_ns, end_ns);
        check(&l, begin_ns - 5000, end_ns + 5000);
        for (int k = 0; k < 30; k++) {
            int64_t b = begin_ns + draw((uint32_t)(end_ns - begin_ns));
            check(&l, b, b + 1 + draw(5000));
        }
        assert_true(lod_bytes(&l) <= 400 + (size_t)n * 5 / 4); // its index only
        lod_free(&l);
    }
}

static void spans_are_found_by_time(void **state)
{
    (void)state;
    struct lod l;
    seed = 11;
    make(&l, 3000, 0);
    for (int k = 0; k < 3000; k++) {
        int64_t t = (int64_t)draw((uint32_t)lod_end_ns(&l, 2999) + 100);
        uint32_t i = 0;
        while (i < l.count && lod_end_ns(&l, i) <= t)
            i++;
        assert_int_equal(lod_at(&l, t), i);
    }
    lod_free(&l);
}

static void bad_spans_are_refused_or_cut(void **state)
{
    (void)state;
    struct lod l = {0};
    assert_int_equal(lod_add(&l, 10, 5, 0), -EINVAL);
    assert_int_equal(lod_add(&l, 0, 5, LOD_CLASSES), -EINVAL);
    assert_int_equal(lod_add(&l, 0, 100, 1), 0);
    assert_int_equal(lod_add(&l, 50, 150, 2), 0); // the rest of it
    assert_int_equal(lod_add(&l, 60, 120, 3), 0); // nothing is left
    assert_int_equal(lod_add(&l, 150, 150, 3), 0);
    assert_int_equal(lod_add(&l, 150, (int64_t)1 << 48, 3), -EFBIG);
    assert_int_equal(l.count, 4); // a span's number is that of its adding
    assert_int_equal(lod_begin_ns(&l, 1), 100);
    assert_int_equal(lod_finish(&l), 0);
    check(&l, 0, 200);
    lod_free(&l);
    lod_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_equal_a_walk),
        cmocka_unit_test(borrowed_spans_count_the_same),
        cmocka_unit_test(spans_are_found_by_time),
        cmocka_unit_test(bad_spans_are_refused_or_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
