// SPDX-License-Identifier: MIT
//
// The consumer on arbitrary bytes: as a black box, a dump or a core file by content, and as a live
// segment by descriptor. It must neither crash, nor hang, nor read outside.

#include "segment/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct visit {
    struct seg_reader *r;
    uint64_t calls;
};

// Bounds the work on one input, as a caller with a limit would: files may claim many thousand records.
static int more(struct visit *v)
{
    return v->calls++ > 5000;
}

static int on_record(void *arg, const struct seg_record *rec)
{
    struct visit *v = arg;
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    uint32_t pairs[8][2], kind, epoch, flags;
    seg_reader_stack(v->r, rec->user_stack, pcs, SEG_STACK_DEPTH_MAX, &kind, &epoch, &flags);
    seg_reader_stack(v->r, rec->kernel_stack, pcs, 3, NULL, NULL, NULL);
    seg_reader_labels(v->r, rec->labels, pairs, 8);
    return more(v);
}

static int on_state(void *arg, const struct seg_state *e, uint32_t index)
{
    struct visit *v = arg;
    uint64_t pcs[4];
    struct seg_site site;
    seg_reader_site(v->r, index, &site);
    seg_reader_site(v->r, e->labels, &site);
    seg_reader_stack(v->r, e->user_stack, pcs, 4, NULL, NULL, NULL);
    return more(v);
}

static int on_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)m;
    return more(arg) || path[0] == '\1';
}

static int on_thread(void *arg, const struct seg_thread *t)
{
    (void)t;
    return more(arg);
}

static void visit_all(struct seg_reader *r)
{
    struct visit v = {r, 0};
    struct seg_losses losses;
    char text[16];
    uint64_t damaged = 0;
    struct seg_heap heap;
    seg_reader_losses(r, &losses);
    seg_reader_heap(r, &heap);
    seg_reader_control_commit(r);
    for (int round = 0; round < 2; round++) {
        seg_reader_drain(r, on_record, &v, &damaged);
        seg_reader_modules(r, on_module, &v);
        seg_reader_threads(r, on_thread, &v);
        seg_reader_states(r, on_state, &v);
    }
    for (uint32_t id = 0; id < 80; id++)
        seg_reader_string(r, id, text, sizeof text);
    seg_reader_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct seg_reader *r;
    struct fscope_error err;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (seg_reader_open_file(&r, path, &err) == 0)
        visit_all(r);
    if (seg_reader_open(&r, fd, &err) == 0) // takes fd
        visit_all(r);
    return 0;
}
