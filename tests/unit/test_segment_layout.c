// SPDX-License-Identifier: MIT
//
// The byte tables in docs/segment.md are those of segment/layout.h: same fields, offsets and sizes,
// none missing on either side. `test_segment_layout print` prints the tables for the page.

#include "segment/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct field {
    const char *owner, *name;
    size_t offset, size;
};

#define F(type, name)                                                                              \
    {                                                                                              \
#type, #name, offsetof(struct type, name), sizeof(((struct type *)0)->name)                \
    }

static const struct field fields[] = {
    F(seg_area, offset),
    F(seg_area, size),
    F(seg_control, cpu_period_ns),
    F(seg_control, wall_period_ns),
    F(seg_control, heap_rate_bytes),
    F(seg_control, block_rate_ns),
    F(seg_control, mutex_fraction),
    F(seg_control, trace_generation),
    F(seg_control, cpu_source),
    F(seg_control, reserved0),
    F(seg_control, wake),
    F(seg_control, target_exited),
    F(seg_control, consumer_pid),
    F(seg_control, cpu_flags),
    F(seg_control, end_ns),
    F(seg_control, asked),
    F(seg_control, answered),
    F(seg_control, asked_what),
    F(seg_control, answer),
    F(seg_control, asked_heap_bytes),
    F(seg_control, region_times),
    F(seg_control, asked_cpu_period_ns),
    F(seg_control, asked_wall_period_ns),
    F(seg_control, asked_block_ns),
    F(seg_control, asked_mutex_fraction),
    F(seg_control, asked_cpu_source),
    F(seg_control, asked_cpu_flags),
    F(seg_control, asked_off),
    F(seg_control, held),
    F(seg_control, heap_off),
    F(seg_control, reserved1),
    F(seg_losses, ring_full),
    F(seg_losses, stacks_full),
    F(seg_losses, blobs_full),
    F(seg_losses, state_full),
    F(seg_losses, threads_full),
    F(seg_losses, modules_full),
    F(seg_losses, untracked),
    F(seg_losses, reentered),
    F(seg_losses, collapsed),
    F(seg_losses, unknown_frees),
    F(seg_losses, locks_full),
    F(seg_losses, reserved),
    F(seg_heap, live_objects),
    F(seg_heap, live_bytes),
    F(seg_heap, alloc_objects),
    F(seg_heap, alloc_bytes),
    F(seg_heap, peak_bytes),
    F(seg_heap, peak_time_ns),
    F(seg_heap, peak_number),
    F(seg_heap, slack_bytes),
    F(seg_heap, bench_ops),
    F(seg_heap, reserved),
    F(seg_header, magic),
    F(seg_header, version),
    F(seg_header, header_bytes),
    F(seg_header, total_bytes),
    F(seg_header, pid),
    F(seg_header, parent),
    F(seg_header, mono_ns),
    F(seg_header, real_ns),
    F(seg_header, boot_ticks),
    F(seg_header, thread_count),
    F(seg_header, module_count),
    F(seg_header, state_count),
    F(seg_header, reserved0),
    F(seg_header, ring_bytes),
    F(seg_header, areas),
    F(seg_header, ready),
    F(seg_header, epoch),
    F(seg_header, thread_used),
    F(seg_header, module_used),
    F(seg_header, control),
    F(seg_header, losses),
    F(seg_header, heap),
    F(seg_header, program),
    F(seg_thread, tid),
    F(seg_thread, state),
    F(seg_thread, fiber),
    F(seg_thread, reserved0),
    F(seg_thread, generation),
    F(seg_thread, start_ns),
    F(seg_thread, cpu_ns),
    F(seg_thread, name),
    F(seg_thread, reserved),
    F(seg_ring, head),
    F(seg_ring, busy),
    F(seg_ring, pad0),
    F(seg_ring, tail),
    F(seg_ring, pad1),
    F(seg_record, kind),
    F(seg_record, flags),
    F(seg_record, check),
    F(seg_record, tid),
    F(seg_record, time_ns),
    F(seg_record, fiber),
    F(seg_record, user_stack),
    F(seg_record, kernel_stack),
    F(seg_record, labels),
    F(seg_record, epoch),
    F(seg_record, object),
    F(seg_record, values),
    F(seg_table, slot_count),
    F(seg_table, reserved0),
    F(seg_table, arena_offset),
    F(seg_table, arena_size),
    F(seg_table, arena_used),
    F(seg_table, slots_used),
    F(seg_table, reserved),
    F(seg_slot, key),
    F(seg_slot, offset),
    F(seg_slot, size),
    F(seg_slot, epoch),
    F(seg_slot, kind),
    F(seg_slot, flags),
    F(seg_dump_header, magic),
    F(seg_dump_header, version),
    F(seg_dump_header, reserved0),
    F(seg_dump_header, total_bytes),
    F(seg_dump_chunk, offset),
    F(seg_dump_chunk, size),
    F(seg_state, key),
    F(seg_state, kind),
    F(seg_state, user_stack),
    F(seg_state, labels),
    F(seg_state, epoch),
    F(seg_state, object),
    F(seg_state, values),
    F(seg_site, temporary_objects),
    F(seg_site, peak_number),
    F(seg_site, peak_objects),
    F(seg_site, peak_bytes),
    F(seg_site, lifetimes),
    F(seg_site, elsewhere_objects),
    F(seg_site, elsewhere_bytes),
    F(seg_site, reserved),
    F(seg_site, elsewhere_lifetimes),
    F(seg_order, lock_count),
    F(seg_order, edge_count),
    F(seg_order, wanted),
    F(seg_order, reserved0),
    F(seg_order, since_ns),
    F(seg_order, locks_full),
    F(seg_order, edges_full),
    F(seg_order, held_full),
    F(seg_order, forgotten),
    F(seg_order, reserved),
    F(seg_order_lock, address),
    F(seg_order_lock, number),
    F(seg_order_lock, type),
    F(seg_order_name, index),
    F(seg_order_name, number),
    F(seg_order_edge, key),
    F(seg_order_edge, from),
    F(seg_order_edge, to),
    F(seg_order_edge, from_stack),
    F(seg_order_edge, to_stack),
    F(seg_order_edge, flags),
    F(seg_order_edge, guard_count),
    F(seg_order_edge, guards),
    F(seg_order_edge, count),
    F(seg_order_edge, first_ns),
    F(seg_order_edge, who),
    F(seg_order_edge, others),
    F(seg_module, start),
    F(seg_module, end),
    F(seg_module, offset),
    F(seg_module, device),
    F(seg_module, inode),
    F(seg_module, path),
    F(seg_module, load_epoch),
    F(seg_module, unload_epoch),
    F(seg_module, build_id_size),
    F(seg_module, build_id),
    F(seg_module, ready),
    F(seg_trace, buffer_count),
    F(seg_trace, buffer_bytes),
    F(seg_trace, units_per_second),
    F(seg_trace, data_offset),
    F(seg_trace, session),
    F(seg_trace, first),
    F(seg_trace, generation),
    F(seg_trace, last),
    F(seg_trace, complete),
    F(seg_trace, end),
    F(seg_trace, request),
    F(seg_trace, is_flight),
    F(seg_trace, hold),
    F(seg_trace, oldest),
    F(seg_trace, snapshots),
    F(seg_trace, cuts),
    F(seg_trace, stopped_units),
    F(seg_trace, asked_slow_ns),
    F(seg_trace, cut),
    F(seg_trace, met),
    F(seg_trace, met_ns),
    F(seg_trace, hits),
    F(seg_trace, clocks),
    F(seg_trace_clock, generation),
    F(seg_trace_clock, units),
    F(seg_trace_clock, mono_ns),
    F(seg_trace_clock, real_ns),
    F(seg_trace_buffer, state),
    F(seg_trace_buffer, tid),
    F(seg_trace_buffer, session),
    F(seg_trace_buffer, generation),
    F(seg_trace_buffer, order),
    F(seg_trace_buffer, start_units),
    F(seg_trace_buffer, used),
    F(seg_trace_buffer, reserved),
};

enum { FIELD_COUNT = sizeof fields / sizeof *fields };

static void page_equals_header(void **state)
{
    (void)state;
    char path[4096], line[512], owner[64] = "", name[64];
    const char *source = getenv("FSCOPE_SOURCE");
    snprintf(path, sizeof path, "%s/docs/segment.md", source ? source : ".");
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s is missing", path);
    size_t i = 0, offset, size;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "### struct %63[a-z_]", owner) == 1)
            continue;
        if (sscanf(line, "| %zu | %zu | `%63[a-z0-9_]`", &offset, &size, name) != 3)
            continue;
        assert_true(i < FIELD_COUNT);
        assert_string_equal(owner, fields[i].owner);
        assert_string_equal(name, fields[i].name);
        assert_int_equal(offset, fields[i].offset);
        assert_int_equal(size, fields[i].size);
        i++;
    }
    fclose(f);
    assert_int_equal(i, FIELD_COUNT);
}

static void fields_leave_no_gap(void **state)
{
    (void)state;
    for (size_t i = 1; i < FIELD_COUNT; i++)
        if (!strcmp(fields[i].owner, fields[i - 1].owner))
            assert_int_equal(fields[i].offset, fields[i - 1].offset + fields[i - 1].size);
}

static int print(void)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (i == 0 || strcmp(fields[i].owner, fields[i - 1].owner) != 0)
            printf("\n### struct %s\n\n| offset | bytes | field |\n|---|---|---|\n",
                   fields[i].owner);
        printf("| %zu | %zu | `%s` |\n", fields[i].offset, fields[i].size, fields[i].name);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_equals_header),
        cmocka_unit_test(fields_leave_no_gap),
    };
    if (argc > 1 && !strcmp(argv[1], "print"))
        return print();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
