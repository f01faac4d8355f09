// SPDX-License-Identifier: MIT
//
// Writes the seeds of fuzz_segment into a folder: small black boxes and dumps made by the producer
// itself. Usage: seeds_segment DIR. Run by hand after a change of the layout.

#include "segment/producer.h"

#include <fcntl.h>
#include <stdio.h>
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

int main(int argc, char **argv)
{
    static const int records[] = {0, 1, 5, 40, 5};
    for (int i = 0; argc == 2 && i < 5; i++) {
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
                                .sites = i == 4};
        snprintf(path, sizeof path, "%s/box%d", argv[1], i);
        o.path = path;
        if (seg_create(&s, &o))
            return 1;
        fill(&s, records[i]);
        snprintf(path, sizeof path, "%s/dump%d", argv[1], i);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || seg_dump(&s, fd))
            return 1;
        close(fd);
        seg_close(&s);
    }
    return argc != 2;
}
