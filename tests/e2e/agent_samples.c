// SPDX-License-Identifier: MIT
//
// Prints what a dump, a black box or a live segment holds, for the agent's tests: one line
// "KIND tid samples ns idle broken truncated" per kind and thread, "state KIND count ns", "losses",
// "modules", and with --stacks one line "KIND ns pc;pc;..." per record, pcs as path+offset. With --heap
// instead: "heap ..." for the totals, "series ..." for each record of them, and for each entry
// "site alloc-objects alloc-bytes freed-objects freed-bytes object temporary peak-objects peak-bytes
// lifetime,... pc;pc;...".

#include "segment/consumer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096, MODULES = 8192 };

struct row {
    uint32_t kind, tid;
    uint64_t samples, ns, idle, broken, truncated;
};

struct module {
    uint64_t start, end, offset;
    char path[256];
};

static struct row rows[ROWS];
static uint32_t row_count;
static struct module modules[MODULES];
static uint32_t module_count;
static struct seg_reader *reader;
static int show_stacks, show_heap;
static const char *const kinds[] = {"none",  "cpu",    "wall", "heap",  "block",
                                    "mutex", "custom", "lock", "series"};

static void print_pcs(uint32_t stack)
{
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    int depth = seg_reader_stack(reader, stack, pcs, SEG_STACK_DEPTH_MAX, NULL, NULL, NULL);
    for (int i = 0; i < depth; i++) {
        const struct module *m = NULL;
        for (uint32_t k = 0; k < module_count && !m; k++)
            if (pcs[i] >= modules[k].start && pcs[i] < modules[k].end)
                m = &modules[k];
        if (m)
            printf("%s+%" PRIx64 ";", m->path, pcs[i] - (i ? 1 : 0) - m->start + m->offset);
        else
            printf("?+%" PRIx64 ";", pcs[i]);
    }
    printf("\n");
}

static void print_stack(const struct seg_record *r)
{
    printf("stack %s %" PRIu64 " ", kinds[r->kind], r->values[1]);
    print_pcs(r->user_stack);
}

static void print_site(const struct seg_state *e, uint32_t index)
{
    struct seg_heap heap;
    struct seg_site site = {0};
    const _Atomic uint64_t *v = e->values;
    seg_reader_heap(reader, &heap);
    int rc = seg_reader_site(reader, index, &site); // else all 0
    uint64_t freed_objects = v[2] + site.elsewhere_objects;
    uint64_t freed_bytes = v[3] + site.elsewhere_bytes;
    uint64_t objects = v[0] - freed_objects, bytes = v[1] - freed_bytes;
    if (rc == 0 && site.peak_number == heap.peak_number) {
        objects = site.peak_objects;
        bytes = site.peak_bytes;
    }
    printf("site %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
           " %" PRIu64 " ",
           v[0], v[1], freed_objects, freed_bytes, e->object, site.temporary_objects, objects,
           bytes);
    for (int i = 0; i < SEG_LIFETIMES; i++)
        printf("%s%" PRIu64, i ? "," : "", site.lifetimes[i] + site.elsewhere_lifetimes[i]);
    printf(" ");
    print_pcs(e->user_stack);
}

static int on_record(void *arg, const struct seg_record *r)
{
    (void)arg;
    uint32_t i = 0;
    if (show_heap && r->kind == SEG_KIND_SERIES)
        printf("series %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", r->time_ns, r->values[0],
               r->values[1], r->object);
    while (i < row_count && (rows[i].kind != r->kind || rows[i].tid != r->tid))
        i++;
    if (i == ROWS)
        return -ENOSPC;
    if (i == row_count)
        rows[row_count++] = (struct row){.kind = r->kind, .tid = r->tid};
    rows[i].samples += r->values[0];
    rows[i].ns += r->values[1];
    rows[i].idle += (r->flags & SEG_FLAG_IDLE) != 0;
    rows[i].broken += (r->flags & SEG_FLAG_BROKEN) != 0;
    rows[i].truncated += (r->flags & SEG_FLAG_TRUNCATED) != 0;
    if (show_stacks)
        print_stack(r);
    return 0;
}

static int on_state(void *arg, const struct seg_state *e, uint32_t index)
{
    (void)arg;
    if (show_heap && e->kind == SEG_KIND_HEAP)
        print_site(e, index);
    else if (e->kind < SEG_KIND_COUNT)
        printf("state %s %" PRIu64 " %" PRIu64 "\n", kinds[e->kind], e->values[0], e->values[1]);
    return 0;
}

static int on_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)arg;
    printf("module %s %u %u %u\n", path, m->load_epoch, m->unload_epoch, m->build_id_size);
    if (module_count < MODULES) {
        struct module *o = &modules[module_count++];
        *o = (struct module){m->start, m->end, m->offset, ""};
        snprintf(o->path, sizeof o->path, "%s", path);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct fscope_error err = {0};
    if (argc < 2)
        return 2;
    show_stacks = argc > 2 && !strcmp(argv[2], "--stacks");
    show_heap = argc > 2 && !strcmp(argv[2], "--heap");
    if (seg_reader_open_file(&reader, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct seg_losses lost;
    uint64_t damaged = 0;
    const struct seg_header *h = seg_reader_header(reader);
    printf("header %u %u %s\n", h->pid, h->parent, h->program);
    printf("control %" PRIu64 " %" PRIu64 " %u %u\n", h->control.cpu_period_ns,
           h->control.wall_period_ns, h->control.cpu_source, h->control.target_exited);
    seg_reader_modules(reader, on_module, NULL);
    seg_reader_drain(reader, on_record, NULL, &damaged);
    seg_reader_states(reader, on_state, NULL);
    for (uint32_t i = 0; i < row_count; i++)
        printf("%s %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
               kinds[rows[i].kind], rows[i].tid, rows[i].samples, rows[i].ns, rows[i].idle,
               rows[i].broken, rows[i].truncated);
    seg_reader_losses(reader, &lost);
    printf("losses collapsed %" PRIu64 " reentered %" PRIu64 " threads %" PRIu64 " stacks %" PRIu64
           " damaged %" PRIu64 "\n",
           lost.collapsed, lost.reentered, lost.threads_full, lost.stacks_full, damaged);
    if (show_heap) {
        struct seg_heap heap;
        seg_reader_heap(reader, &heap);
        printf("heap live_objects %" PRIu64 " live_bytes %" PRIu64 " alloc_objects %" PRIu64
               " alloc_bytes %" PRIu64 " peak_bytes %" PRIu64 " slack %" PRIu64
               " untracked %" PRIu64 " unknown_frees %" PRIu64 " state_full %" PRIu64 "\n",
               heap.live_objects, heap.live_bytes, heap.alloc_objects, heap.alloc_bytes,
               heap.peak_bytes, heap.slack_bytes, lost.untracked, lost.unknown_frees,
               lost.state_full);
    }
    seg_reader_close(reader);
    return 0;
}
