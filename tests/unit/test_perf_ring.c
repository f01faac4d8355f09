// SPDX-License-Identifier: MIT
//
// Perf records are parsed as the kernel lays them out, cut ones are refused at every length, and rings
// are read in order of time, also where a record wraps.

#include "collector/perf_ring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RING_BYTES = 4096 };

struct bytes {
    uint8_t data[RING_BYTES];
    size_t size;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    assert_true(b->size + n <= sizeof b->data);
    memcpy(b->data + b->size, p, n);
    b->size += n;
}

static void put_u32(struct bytes *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_u64(struct bytes *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void begin(struct bytes *b, uint32_t type, uint16_t misc)
{
    struct perf_event_header h = {.type = type, .misc = misc};
    b->size = 0;
    put(b, &h, sizeof h);
}

static void end(struct bytes *b)
{
    struct perf_event_header h;
    memcpy(&h, b->data, sizeof h);
    h.size = (uint16_t)b->size;
    memcpy(b->data, &h, sizeof h);
}

static void end_with_trailer(struct bytes *b, uint64_t time_ns)
{
    put_u32(b, 70);
    put_u32(b, 71);
    put_u64(b, time_ns);
    put_u64(b, 5);
    end(b);
}

static void make_sample(struct bytes *b, uint64_t time_ns, bool kernel, uint64_t stack_bytes)
{
    begin(b, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
    put_u64(b, 5);
    put_u64(b, 0x401000);
    put_u32(b, 70);
    put_u32(b, 71);
    put_u64(b, time_ns);
    if (kernel) {
        put_u64(b, 4);
        put_u64(b, (uint64_t)PERF_CONTEXT_KERNEL);
        put_u64(b, 0xffffffff81000010);
        put_u64(b, 0xffffffff81000020);
        put_u64(b, (uint64_t)PERF_CONTEXT_USER);
    }
    put_u64(b, 2);
    for (uint64_t i = 0; i < 17; i++)
        put_u64(b, 1000 + i);
    put_u64(b, stack_bytes);
    for (uint64_t i = 0; i < stack_bytes; i += 8)
        put_u64(b, i);
    if (stack_bytes)
        put_u64(b, stack_bytes - 8);
    end(b);
}

static void make_comm(struct bytes *b, uint64_t time_ns, const char name[8])
{
    begin(b, PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);
    put_u64(b, 0);
    put(b, name, 8);
    end_with_trailer(b, time_ns);
}

static int parse(struct perf_record *r, const struct bytes *b, size_t size, bool kernel)
{
    struct perf_event_attr attr = {0};
    perf_format_fill(&attr, kernel, 64);
    uint8_t *exact = malloc(size ? size : 1); // ASan sees a byte too many
    assert_non_null(exact);
    memcpy(exact, b->data, size);
    int rc = perf_record_parse(r, exact, size, &attr);
    free(exact);
    return rc;
}

static void a_sample_has_registers_stack_and_kernel_chain(void **state)
{
    (void)state;
    struct bytes b;
    struct perf_record r;
    struct perf_event_attr attr = {0};
    uint64_t pcs[8];
    perf_format_fill(&attr, true, 64);
    make_sample(&b, 99, true, 64);
    assert_int_equal(perf_record_parse(&r, b.data, b.size, &attr), 0);
    assert_int_equal(r.pid, 70);
    assert_int_equal(r.tid, 71);
    assert_int_equal(r.time_ns, 99);
    assert_int_equal(r.id, 5);
    assert_int_equal(r.sample.abi, PERF_ABI_64);
    // The kernel writes ax bx cx dx si di bp sp ip r8..r15.
    assert_int_equal(r.sample.registers.rbp, 1006);
    assert_int_equal(r.sample.registers.rsp, 1007);
    assert_int_equal(r.sample.registers.rip, 1008);
    assert_int_equal(r.sample.registers.other[3], 1001); // DWARF 3 is rbx
    assert_int_equal(r.sample.registers.other[10], 1011);
    assert_int_equal(r.sample.stack_asked, 64);
    assert_int_equal(r.sample.stack_bytes, 56);
    assert_int_equal(perf_chain_copy(&r.sample, pcs, 8), 2);
    assert_int_equal(pcs[0], 0xffffffff81000010);
    assert_int_equal(pcs[1], 0xffffffff81000020);
    assert_int_equal(perf_chain_copy(&r.sample, pcs, 1), 1);
}

static void a_sample_without_user_side_has_none(void **state)
{
    (void)state;
    struct bytes b;
    struct perf_record r;
    begin(&b, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL);
    for (int i = 0; i < 4; i++)
        put_u64(&b, 1);
    put_u64(&b, 0); // no registers
    put_u64(&b, 0); // no stack, and then no dynamic size
    end(&b);
    assert_int_equal(parse(&r, &b, b.size, false), 0);
    assert_int_equal(r.sample.abi, PERF_ABI_NONE);
    assert_int_equal(r.sample.stack_bytes, 0);
}

static void cut_records_are_refused_at_every_length(void **state)
{
    (void)state;
    struct bytes b;
    struct perf_record r;
    make_sample(&b, 1, true, 64);
    for (size_t n = 0; n < b.size; n++)
        assert_int_equal(parse(&r, &b, n, true), -EINVAL);
    assert_int_equal(parse(&r, &b, b.size, true), 0);
    make_comm(&b, 1, "python3");
    for (size_t n = 0; n < 32; n++) // shorter than header and trailer
        assert_int_equal(parse(&r, &b, n, true), -EINVAL);
    for (size_t n = 32; n < b.size; n++)
        (void)parse(&r, &b, n, true); // stays inside, whatever it makes of it
}

static void sizes_that_lie_are_refused(void **state)
{
    (void)state;
    struct bytes b;
    struct perf_record r;
    uint64_t huge[] = {UINT64_MAX, UINT64_MAX / 8 + 1, 65536, 200};
    for (size_t i = 0; i < 4; i++) {
        make_sample(&b, 1, true, 64);
        memcpy(b.data + 40, &huge[i], 8); // chain_count
        assert_int_equal(parse(&r, &b, b.size, true), -EINVAL);
        make_sample(&b, 1, false, 64);
        memcpy(b.data + 40 + 18 * 8, &huge[i], 8); // stack size
        assert_int_equal(parse(&r, &b, b.size, false), -EINVAL);
        make_sample(&b, 1, false, 64);
        memcpy(b.data + b.size - 8, &huge[i], 8); // more read than asked for
        assert_int_equal(parse(&r, &b, b.size, false), -EINVAL);
    }
    begin(&b, PERF_RECORD_COMM, 0);
    put_u64(&b, 0);
    put(&b, "AAAAAAAA", 8); // no end
    end_with_trailer(&b, 1);
    assert_int_equal(parse(&r, &b, b.size, false), -EINVAL);
}

static void a_mapping_has_device_or_build_id(void **state)
{
    (void)state;
    struct perf_event_attr attr = {0};
    struct perf_record r;
    struct bytes b;
    perf_format_fill(&attr, false, 64);
    for (int with_id = 0; with_id < 2; with_id++) {
        begin(&b, PERF_RECORD_MMAP2, with_id ? PERF_RECORD_MISC_MMAP_BUILD_ID : 0);
        put_u64(&b, 0);
        put_u64(&b, 0x7f0000001000);
        put_u64(&b, 0x2000);
        put_u64(&b, 0x1000);
        uint8_t identity[24] = {[0] = 8, [4] = 1, [8] = 42};
        put(&b, identity, 24);
        put_u32(&b, 5);
        put_u32(&b, 2);
        put(&b, "/lib/x.so\0\0\0\0\0\0\0", 16);
        end_with_trailer(&b, 7);
        assert_int_equal(perf_record_parse(&r, b.data, b.size, &attr), 0);
        assert_string_equal(r.mmap.path, "/lib/x.so");
        assert_int_equal(r.mmap.start, 0x7f0000001000);
        assert_int_equal(r.mmap.offset, 0x1000);
        assert_int_equal(r.mmap.protection, 5);
        assert_int_equal(r.mmap.build_id_size, with_id ? 8 : 0);
        assert_int_equal(r.mmap.inode, with_id ? 0 : 42);
    }
}

// --- Rings.

struct seen {
    uint64_t times[64];
    size_t count;
    int stop_at; // 0: never
};

static int see(void *arg, const struct perf_record *r)
{
    struct seen *s = arg;
    s->times[s->count++] = r->time_ns;
    return s->stop_at && (int)s->count == s->stop_at ? -ECANCELED : 0;
}

static void make_ring(struct perf_ring *r, uint64_t start)
{
    *r = (struct perf_ring){.size = RING_BYTES, .head = start, .tail = start};
    r->data = calloc(1, RING_BYTES);
    r->scratch = malloc(65536);
    assert_true(r->data && r->scratch);
}

static void push(struct perf_ring *r, const struct bytes *b)
{
    uint8_t *ring;
    memcpy(&ring, &r->data, sizeof ring);
    for (size_t i = 0; i < b->size; i++)
        ring[(r->head + i) % RING_BYTES] = b->data[i];
    r->head += b->size;
}

static void drop_ring(struct perf_ring *r)
{
    void *ring;
    memcpy(&ring, &r->data, sizeof ring);
    free(ring);
    perf_ring_close(r);
}

static void rings_are_merged_by_time_up_to_the_horizon(void **state)
{
    (void)state;
    struct perf_event_attr attr = {0};
    struct perf_ring rings[2];
    struct seen s = {0};
    struct bytes b;
    perf_format_fill(&attr, false, 64);
    make_ring(&rings[0], RING_BYTES - 24); // its first record wraps
    make_ring(&rings[1], 0);
    for (uint64_t t = 1; t <= 9; t++) {
        make_sample(&b, t, false, 64);
        push(&rings[t % 3 == 0], &b);
    }
    assert_int_equal(perf_rings_drain(rings, 2, &attr, 7, see, &s), 7);
    assert_int_equal(perf_rings_drain(rings, 2, &attr, 7, see, &s), 0);
    assert_int_equal(perf_rings_drain(rings, 2, &attr, UINT64_MAX, see, &s), 2);
    assert_int_equal(s.count, 9);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(s.times[i], i + 1);
    assert_int_equal(rings[0].damaged + rings[1].damaged, 0);
    drop_ring(&rings[0]);
    drop_ring(&rings[1]);
}

static void a_callback_can_stop(void **state)
{
    (void)state;
    struct perf_event_attr attr = {0};
    struct perf_ring ring;
    struct seen s = {.stop_at = 2};
    struct bytes b;
    perf_format_fill(&attr, false, 64);
    make_ring(&ring, 0);
    for (uint64_t t = 1; t <= 3; t++) {
        make_comm(&b, t, "abcdefg");
        push(&ring, &b);
    }
    assert_int_equal(perf_rings_drain(&ring, 1, &attr, UINT64_MAX, see, &s), -ECANCELED);
    s.stop_at = 0;
    assert_int_equal(perf_rings_drain(&ring, 1, &attr, UINT64_MAX, see, &s), 1);
    assert_int_equal(s.times[2], 3);
    drop_ring(&ring);
}

static void damage_costs_what_is_damaged(void **state)
{
    (void)state;
    struct perf_event_attr attr = {0};
    struct perf_ring ring;
    struct seen s = {0};
    struct bytes b;
    perf_format_fill(&attr, false, 64);
    make_ring(&ring, 0);
    make_comm(&b, 1, "abcdefg");
    push(&ring, &b);
    make_comm(&b, 2, "abcdefg");
    memset(b.data + 16, 'A', 8); // a name without end
    push(&ring, &b);
    make_comm(&b, 3, "abcdefg");
    push(&ring, &b);
    assert_int_equal(perf_rings_drain(&ring, 1, &attr, UINT64_MAX, see, &s), 2);
    assert_int_equal(ring.damaged, 1);
    // A size that cannot be loses what is in the ring, and the next round goes on.
    static const uint16_t sizes[] = {0, 4, 12, 4000};
    for (size_t i = 0; i < 4; i++) {
        make_comm(&b, 4, "abcdefg");
        memcpy(b.data + 6, &sizes[i], 2);
        push(&ring, &b);
        assert_int_equal(perf_rings_drain(&ring, 1, &attr, UINT64_MAX, see, &s), 0);
        assert_int_equal(ring.damaged, 2 + i);
    }
    make_comm(&b, 5, "abcdefg");
    push(&ring, &b);
    assert_int_equal(perf_rings_drain(&ring, 1, &attr, UINT64_MAX, see, &s), 1);
    drop_ring(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_has_registers_stack_and_kernel_chain),
        cmocka_unit_test(a_sample_without_user_side_has_none),
        cmocka_unit_test(cut_records_are_refused_at_every_length),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(a_mapping_has_device_or_build_id),
        cmocka_unit_test(rings_are_merged_by_time_up_to_the_horizon),
        cmocka_unit_test(a_callback_can_stop),
        cmocka_unit_test(damage_costs_what_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
