// SPDX-License-Identifier: MIT
//
// The table of live allocations against a model: whatever was put in and not taken out is found with what
// was said of it, and nothing else; also with threads that use the same buckets.

#include "agent/live.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
// after those
#include <cmocka.h>

enum { TABLE_BYTES = 1 << 20, THREADS = 4, ROUNDS = 200000, POINTERS = 4096 };

static struct live table;
static void *memory;

static void start(uint64_t bytes, uint64_t granule)
{
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    live_init(&table, memory, bytes, granule);
}

static void finds_what_was_put_in(void **state)
{
    struct live_entry stale, e = {.size = 48, .birth = 7, .state = 99}, out;
    (void)state;
    start(TABLE_BYTES, 64);
    assert_false(live_remove(&table, 0x7f0000001000, &out));
    assert_int_equal(live_insert(&table, 0x7f0000001000, &e, &stale), 0);
    assert_false(live_remove(&table, 0x7f0000001010, &out));
    assert_true(live_remove(&table, 0x7f0000001000, &out));
    assert_int_equal(out.size, 48);
    assert_int_equal(out.birth, 7);
    assert_int_equal(out.state, 99);
    assert_false(live_remove(&table, 0x7f0000001000, &out));
    free(memory);
}

static void a_pointer_put_in_twice_gives_back_the_first(void **state)
{
    struct live_entry a = {.size = 1, .state = 1}, b = {.size = 2, .state = 2}, out;
    (void)state;
    start(TABLE_BYTES, 64);
    assert_int_equal(live_insert(&table, 0x1000, &a, &out), 0);
    assert_int_equal(live_insert(&table, 0x1000, &b, &out), 1);
    assert_int_equal(out.size, 1);
    assert_true(live_remove(&table, 0x1000, &out));
    assert_int_equal(out.size, 2);
    assert_false(live_remove(&table, 0x1000, &out));
    free(memory);
}

// Blocks 16 bytes apart, closer than a bucket has places for, in one region after the other.
static void dense_blocks_have_room_elsewhere(void **state)
{
    struct live_entry stale, out;
    (void)state;
    start(TABLE_BYTES * 16, 64);
    for (uint64_t i = 0; i < 4000; i++) {
        struct live_entry e = {.size = i, .state = 3};
        assert_int_equal(live_insert(&table, 0x550000000000 + i * 16, &e, &stale), 0);
    }
    for (uint64_t i = 0; i < 4000; i++) {
        assert_true(live_remove(&table, 0x550000000000 + i * 16, &out));
        assert_int_equal(out.size, i);
    }
    for (uint64_t i = 0; i <= table.mask; i++)
        assert_int_equal(table.buckets[i].displaced, 0);
    free(memory);
}

static void a_full_table_says_so_and_keeps_what_it_has(void **state)
{
    struct live_entry stale, out;
    uint64_t in = 0;
    static unsigned char was_put[65536];
    (void)state;
    start(64 * 64, 64); // 128 places
    for (uint64_t i = 0; i < 65536; i++) {
        struct live_entry e = {.size = i, .state = 3};
        was_put[i] = live_insert(&table, 0x1000 + i * 32, &e, &stale) == 0;
        in += was_put[i];
    }
    assert_in_range(in, 100, 128);
    for (uint64_t i = 0; i < 65536; i++) {
        assert_int_equal(live_remove(&table, 0x1000 + i * 32, &out), was_put[i]);
        if (was_put[i])
            assert_int_equal(out.size, i);
    }
    free(memory);
}

// Blocks of random sizes and gaps, some so close that they lie elsewhere: who holds an address is what a search
// of all of them says.
static void an_address_is_held_by_its_block(void **state)
{
    enum { BLOCKS = 3000 };
    static const uint64_t granules[] = {64, 4096};
    static uint64_t starts[BLOCKS], sizes[BLOCKS];
    uint64_t random = 1, held = 0, far = 0;
    (void)state;
    for (int g = 0; g < 2; g++) {
        uint64_t at = 0x7f0000000000;
        start(TABLE_BYTES, granules[g]);
        for (uint64_t i = 0; i < BLOCKS; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            uint64_t most = g ? 20000 : (random >> 60 ? 96 : 20000);
            sizes[i] = (random >> 33) % most;
            starts[i] = at;
            at = (at + sizes[i] + 16 + (g ? 2048 : 0)) & ~UINT64_C(15);
            struct live_entry stale, e = {.size = sizes[i], .state = (uint32_t)i};
            assert_int_equal(live_insert(&table, starts[i], &e, &stale), 0);
        }
        for (uint64_t i = 0, address = starts[0] - 64; address < at + 64; address += 1 + i % 61) {
            uint64_t pointer = 0;
            struct live_entry out = {.state = 0}, exact;
            while (i + 1 < BLOCKS && starts[i + 1] <= address)
                i++;
            bool is_in = address >= starts[i] && address - starts[i] < sizes[i];
            assert_int_equal(live_holder(&table, address, &pointer, &out), is_in);
            if (!is_in)
                continue;
            assert_int_equal(pointer, starts[i]);
            assert_int_equal(out.state, i);
            assert_true(live_find(&table, pointer, &exact));
            assert_int_equal(exact.size, sizes[i]);
            held++;
            far += address - pointer > 10000;
        }
        free(memory);
    }
    assert_true(held > 100000 && far > 1000);
}

static void the_greatest_size_is_cut_and_nothing_else(void **state)
{
    struct live_entry stale, e = {.size = UINT64_MAX, .state = (1 << LIVE_STATE_BITS) - 1}, out;
    (void)state;
    start(TABLE_BYTES, 64);
    assert_int_equal(live_insert(&table, 16, &e, &stale), 0);
    assert_true(live_remove(&table, 16, &out));
    assert_int_equal(out.size, LIVE_SIZE_MAX);
    assert_int_equal(out.state, (1 << LIVE_STATE_BITS) - 1);
    free(memory);
}

enum { PARTS = 16 };

static void start_with_parts(uint64_t granule)
{
    uint64_t bytes = PARTS * LIVE_PART_BYTES, all = bytes + live_regions_bytes(bytes) + TABLE_BYTES;
    memory = aligned_alloc(64, all);
    assert_non_null(memory);
    memset(memory, 0, all);
    live_init(&table, memory, TABLE_BYTES, granule);
    live_init_parts(&table, (char *)memory + TABLE_BYTES, bytes);
}

static void neighbours_in_a_part_are_told_apart(void **state)
{
    struct live_entry stale, out;
    (void)state;
    start_with_parts(64);
    const uint64_t base = 0x7f0000000000;
    for (uint64_t i = 0; i < LIVE_PART_BYTES * 2 / 16; i++) {
        struct live_entry e = {.size = i, .birth = i * 3, .state = 1 + (uint32_t)(i & 1)};
        live_expect(&table, base + i * 16);
        assert_int_equal(live_insert(&table, base + i * 16, &e, &stale), 0);
    }
    for (uint64_t i = 0; i <= table.mask; i++) // all of them have a cell
        assert_int_equal(table.buckets[i].places[0].pointer, 0);
    for (uint64_t i = 0; i < LIVE_PART_BYTES * 2 / 16; i++) {
        assert_true(live_remove(&table, base + i * 16, &out));
        assert_int_equal(out.size, i);
        assert_int_equal(out.birth, i * 3);
        assert_int_equal(out.state, 1 + (i & 1));
        assert_false(live_remove(&table, base + i * 16, &out));
    }
    free(memory);
}

static void a_pointer_put_twice_into_a_part_gives_back_the_first(void **state)
{
    struct live_entry a = {.size = 1, .state = 1}, b = {.size = 2, .state = 2}, out;
    (void)state;
    start_with_parts(64);
    assert_int_equal(live_insert(&table, 0x7f0000001010, &a, &out), 0);
    assert_int_equal(live_insert(&table, 0x7f0000001010, &b, &out), 1);
    assert_int_equal(out.size, 1);
    assert_int_equal(out.state, 1);
    assert_true(live_remove(&table, 0x7f0000001010, &out));
    assert_int_equal(out.size, 2);
    free(memory);
}

// In region i, from address 0 on; at another place in each, as these share buckets.
static uint64_t in_region(uint64_t i)
{
    return i * LIVE_PART_BYTES + i * 4160;
}

// More regions than parts, and pointers that no part can have: nothing is lost, nothing is confused.
static void what_has_no_part_goes_to_the_buckets(void **state)
{
    enum { REGIONS = PARTS * 8 };
    static const uint64_t offsets[] = {16, 24, 1024, 2056};
    const uint64_t n = sizeof offsets / sizeof *offsets;
    struct live_entry stale, out;
    (void)state;
    start_with_parts(64);
    for (uint64_t i = 0; i < REGIONS * n; i++) {
        struct live_entry e = {.size = i, .birth = i, .state = 5};
        uint64_t pointer = in_region(i / n) + offsets[i % n];
        assert_int_equal(live_insert(&table, pointer, &e, &stale), 0);
    }
    uint64_t owned = 0;
    for (uint64_t i = 0; i < PARTS; i++)
        owned += table.regions[i] != 0;
    assert_int_equal(owned, PARTS);
    for (uint64_t i = REGIONS * n; i-- > 0;) {
        uint64_t pointer = in_region(i / n) + offsets[i % n];
        assert_true(live_remove(&table, pointer, &out));
        assert_int_equal(out.size, i);
        assert_false(live_remove(&table, pointer, &out));
    }
    free(memory);
}

// Each thread has pointers of its own, which lie in the same buckets as the others'.
struct worker {
    uint64_t number;
    int is_wrong;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t random = w->number * 7919 + 1;
    static _Thread_local uint32_t model[POINTERS]; // state + 1, 0: not in
    for (uint32_t i = 0; i < ROUNDS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint32_t k = (uint32_t)(random >> 33) % POINTERS;
        uint64_t pointer = 0x7f1200000000 + ((uint64_t)k * THREADS + w->number) * 16;
        struct live_entry stale, out, e = {.size = (uint32_t)pointer ^ i, .birth = i, .state = i};
        if (!model[k]) {
            if (live_insert(&table, pointer, &e, &stale))
                w->is_wrong |= 1;
            else
                model[k] = i + 1;
        } else if (!live_remove(&table, pointer, &out) || out.state != model[k] - 1 ||
                   out.size != ((uint32_t)pointer ^ out.state) || out.birth != out.state) {
            w->is_wrong |= 2;
        } else {
            model[k] = 0;
        }
    }
    struct live_entry out;
    for (uint32_t k = 0; k < POINTERS; k++)
        if (live_remove(&table, 0x7f1200000000 + ((uint64_t)k * THREADS + w->number) * 16, &out) !=
            (model[k] != 0))
            w->is_wrong |= 4;
    return NULL;
}

static void run_threads(void)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS] = {0};
    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].is_wrong, 0);
    }
    for (uint64_t i = 0; i <= table.mask; i++)
        assert_int_equal(table.buckets[i].displaced, 0);
    free(memory);
}

static void threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    start(TABLE_BYTES * 8, 64);
    run_threads();
}

static void threads_do_not_disturb_each_other_in_parts(void **state)
{
    (void)state;
    start_with_parts(64);
    run_threads();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_put_in),
        cmocka_unit_test(a_pointer_put_in_twice_gives_back_the_first),
        cmocka_unit_test(dense_blocks_have_room_elsewhere),
        cmocka_unit_test(a_full_table_says_so_and_keeps_what_it_has),
        cmocka_unit_test(an_address_is_held_by_its_block),
        cmocka_unit_test(the_greatest_size_is_cut_and_nothing_else),
        cmocka_unit_test(neighbours_in_a_part_are_told_apart),
        cmocka_unit_test(a_pointer_put_twice_into_a_part_gives_back_the_first),
        cmocka_unit_test(what_has_no_part_goes_to_the_buckets),
        cmocka_unit_test(threads_do_not_disturb_each_other),
        cmocka_unit_test(threads_do_not_disturb_each_other_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
