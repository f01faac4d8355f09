// SPDX-License-Identifier: MIT
//
// Writes the seeds of fuzz_segment into a folder: small black boxes and dumps made by the producer
// itself. Usage: seeds_segment DIR. Run by hand after a change of the layout.

#include "segment/producer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void fill(struct seg *s, int records)
{
    uint64_t pcs[4] = {0x1000, 0x2000, 0x3000, 0x4000};
    uint32_t pair[1][2] = {{seg_string(s, "key", 3), seg_string(s, "value", 5)}};
    struct seg_module m = {.start = 0x1000, .end = 0x5000, .path = seg_string(s, "/bin/x", 6)};
    int slot = seg_thread_enter(s, 1, "seed");
    seg_module_add(s, &m);
    for (int i = 0; i < records; i++) {
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .values = {1, 1000}};
        pcs[0]++;
        r.user_stack = seg_stack(s, pcs, 4, 0, 0);
        r.labels = seg_labels(s, pair, 1);
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
        seg_state_add(s, SEG_KIND_HEAP, r.user_stack, r.labels, 0, (uint64_t[4]){1, 64, 0, 0});
        seg_state_add(s, SEG_KIND_BLOCK, r.user_stack, 0, 0x2000, (uint64_t[4]){1, 64, 0, 0});
        seg_state_add(s, SEG_KIND_LOCK, r.user_stack, 0, 0x2000, (uint64_t[4]){1, 0, 0, 0});
        seg_state_add(s, SEG_KIND_CUSTOM, r.user_stack, 0, pair[0][0], (uint64_t[4]){5, 2, 0, 0});
        r.kind = SEG_KIND_SERIES;
        seg_record_put(s, slot, SEG_CONTEXT_NORMAL, &r);
    }
    if (s->header->areas[SEG_AREA_SITES].size)
        for (uint32_t i = 0; i < s->header->state_count; i++) {
            atomic_store(&seg_site_at(s, i)->temporary_objects, i);
            atomic_store(&seg_site_at(s, i)->lifetimes[i % SEG_LIFETIMES], i);
        }
    seg_module_remove(s, 0);
}

// Lays two areas out anew and fills them, a trace's and the order of locks: as a producer makes them they are too large
// for seeds. Two buffers of events, of two threads; locks a, b, c and their orders a b, b c, c a.
static uint64_t put_small(struct seg *s)
{
    struct seg_area *trace = &s->header->areas[SEG_AREA_TRACE],
                    *order = &s->header->areas[SEG_AREA_ORDER];
    trace->size = order->size = 4096;
    order->offset = trace->offset + trace->size;
    s->header->total_bytes = order->offset + order->size;

    char *at = (char *)s->header + trace->offset;
    struct seg_trace *t = (void *)at;
    struct seg_trace_buffer *b = (void *)(at + sizeof *t);
    *t = (struct seg_trace){.buffer_count = 2,
                            .buffer_bytes = 256,
                            .units_per_second = UINT64_C(1000000000) / 64,
                            .data_offset = 1024,
                            .session = 1,
                            .first = 1,
                            .generation = 2,
                            .complete = 1};
    b[0] = (struct seg_trace_buffer){
        .state = SEG_TRACE_SEALED, .tid = 1, .session = 1, .generation = 1, .used = 9};
    b[1] = (struct seg_trace_buffer){
        .state = SEG_TRACE_WRITING, .tid = 2, .session = 1, .generation = 2, .used = 256};
    memset(at + t->data_offset, 1, 512);

    at = (char *)s->header + order->offset;
    struct seg_order *o = (void *)at;
    struct seg_order_lock *l = (void *)(o + 1);
    struct seg_order_edge *e = (void *)(l + 4);
    memset(at, 0, order->size);
    *o = (struct seg_order){.lock_count = 4, .edge_count = 8, .wanted = 1, .since_ns = 1};
    for (uint32_t i = 0; i < 3; i++) {
        l[i] = (struct seg_order_lock){
            .address = 0x1000 + 0x40 * i, .number = i + 1, .type = SEG_LOCK_MUTEX};
        e[i] = (struct seg_order_edge){.key = SEG_SLOT_READY | i,
                                       .from = {i, i + 1},
                                       .to = {(i + 1) % 3, (i + 1) % 3 + 1},
                                       .from_stack = 1,
                                       .to_stack = 1,
                                       .count = i + 1,
                                       .first_ns = i,
                                       .who = {i + 1, i + 2}};
    }
    e[2].guard_count = 1;
    e[2].guards[0] = (struct seg_order_name){3 | SEG_ORDER_SHARED, 0};
    return s->header->total_bytes;
}

int main(int argc, char **argv)
{
    static const int records[] = {0, 1, 5, 40, 5, 5};
    for (int i = 0; argc == 2 && i < 6; i++) {
        char path[4096];
        struct seg s;
        struct seg_options o = {.size = sizeof o,
                                .threads = 1,
                                .modules = 2,
                                .state = 16,
                                .stacks = 16,
                                .ring_bytes = 512,
                                .stack_arena_bytes = 4096,
                                .blob_arena_bytes = 4096,
                                .sites = i == 4,
                                .trace_buffers = i == 5,
                                .order = i == 5};
        snprintf(path, sizeof path, "%s/box%d", argv[1], i);
        o.path = path;
        if (seg_create(&s, &o))
            return 1;
        fill(&s, records[i]);
        if (i == 5 && truncate(path, (off_t)put_small(&s)))
            return 1;
        snprintf(path, sizeof path, "%s/dump%d", argv[1], i);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || seg_dump(&s, fd))
            return 1;
        close(fd);
        seg_close(&s);
    }
    return argc != 2;
}
