// SPDX-License-Identifier: MIT
//
// From the bytes of a segment to profiles: whatever a target has written, the profiles of all kinds are
// whole (pprof_check) and no value in them is below 0. Files that it names are not opened.

#include "collector/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct pprof_profile *p)
{
    if (pprof_check(p, NULL))
        abort();
    for (size_t i = 0; i < p->sample_count; i++)
        for (size_t j = 0; j < p->sample_type_count; j++)
            if (p->samples[i]->values[j] < 0)
                abort();
}

static int finish_part(void *arg, const char *part)
{
    struct pprof_profile *p = NULL;
    const struct builder_view view = {.part = part};
    if (builder_finish_view(arg, &view, 1, &p) == 0)
        check(p);
    pprof_free(p);
    return 0;
}

static void finish_all(struct builder *const *builders)
{
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        struct pprof_profile *p = NULL;
        struct builder_stats st;
        struct builder_heap_totals totals;
        builder_get_stats(builders[kind], &st);
        builder_get_heap(builders[kind], &totals);
        finish_part(builders[kind], "");
        builder_each_part(builders[kind], finish_part, builders[kind]);
        if (builder_finish_locks(builders[kind], &p) == 0 && p->sample_count)
            check(p);
        pprof_free(p);
    }
}

static void feed_all(struct seg_reader *r, uint64_t rate_bytes)
{
    struct builder *builders[RECORD_KIND_COUNT] = {0};
    struct feed feed = {0};
    struct series series = {0};
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        const struct builder_options o = {
            .size = sizeof o, .kind = record_seg_kind(kind), .rate_bytes = rate_bytes};
        if (builder_new(&builders[kind], &o))
            abort();
    }
    if (feed_init(&feed, r, builders, 1, NULL, NULL) == 0) {
        feed.series = &series;
        for (int round = 0; round < 3 && feed_pump(&feed) > 0; round++)
            continue;
        feed_finish(&feed);
        finish_all(builders);
    }
    feed_free(&feed);
    series_free(&series);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        builder_free(builders[kind]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct seg_reader *r;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (seg_reader_open_file(&r, path, NULL) == 0) {
        feed_all(r, size % 2 ? 1 : (uint64_t)1 << size % 63);
        seg_reader_close(r);
    }
    close(fd);
    return 0;
}
