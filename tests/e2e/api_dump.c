// SPDX-License-Identifier: MIT
//
// Prints what a dump holds of the kinds that the API makes, one line each, separated by tabs:
// "KIND", the entry's four values (a record's two), its labels "key=value,...", the custom profile's name,
// and its stack "path+offset;...", leaf first. Then "control heap_rate" and "losses".

#include "segment/consumer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MODULES = 1024, LABELS = 64 };

static struct {
    uint64_t start, end, offset;
    char path[256];
} modules[MODULES];
static uint32_t module_count;
static struct seg_reader *reader;
static const char *const kinds[] = {"none",  "cpu",    "wall", "heap",  "block",
                                    "mutex", "custom", "lock", "series"};

static int on_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)arg;
    if (module_count < MODULES) {
        modules[module_count].start = m->start;
        modules[module_count].end = m->end;
        modules[module_count].offset = m->offset;
        snprintf(modules[module_count++].path, sizeof modules->path, "%s", path);
    }
    return 0;
}

static const char *text_of(uint32_t id, char text[600])
{
    text[0] = '\0';
    if (id && seg_reader_string(reader, id, text, 600) < 0)
        return "DAMAGED";
    return text;
}

static void print_labels(uint32_t id)
{
    uint32_t pairs[LABELS][2];
    char text[600];
    int n = id ? seg_reader_labels(reader, id, pairs, LABELS) : 0;
    if (n < 0)
        printf("DAMAGED");
    for (int i = 0; i < n; i++) {
        printf("%s%s=", i ? "," : "", text_of(pairs[i][0], text));
        printf("%s", text_of(pairs[i][1], text));
    }
}

static void print_stack(uint32_t id)
{
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    int depth = seg_reader_stack(reader, id, pcs, SEG_STACK_DEPTH_MAX, NULL, NULL, NULL);
    for (int i = 0; i < depth; i++) {
        uint64_t pc = pcs[i] - (i ? 1 : 0);
        for (uint32_t k = 0; k < module_count; k++)
            if (pc >= modules[k].start && pc < modules[k].end)
                printf("%s+%" PRIx64 ";", modules[k].path,
                       pc - modules[k].start + modules[k].offset);
    }
}

static int on_record(void *arg, const struct seg_record *r)
{
    (void)arg;
    printf("%s\t%" PRIu64 "\t%" PRIu64 "\t0\t0\t", kinds[r->kind], r->values[0], r->values[1]);
    print_labels(r->labels);
    printf("\t\t");
    print_stack(r->user_stack);
    printf("\n");
    return 0;
}

static int on_state(void *arg, const struct seg_state *e, uint32_t index)
{
    char text[600];
    (void)arg;
    (void)index;
    if (e->kind >= SEG_KIND_COUNT || !(e->values[0] | e->values[1] | e->values[2]))
        return 0;
    printf("%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t", kinds[e->kind], e->values[0],
           e->values[1], e->values[2], e->values[3]);
    print_labels(e->labels);
    printf("\t%s\t", e->kind == SEG_KIND_CUSTOM ? text_of((uint32_t)e->object, text) : "");
    print_stack(e->user_stack);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    struct fscope_error err = {0};
    struct seg_losses lost;
    if (argc != 2)
        return 2;
    if (seg_reader_open_file(&reader, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    seg_reader_modules(reader, on_module, NULL);
    seg_reader_drain(reader, on_record, NULL, NULL);
    seg_reader_states(reader, on_state, NULL);
    seg_reader_losses(reader, &lost);
    printf("control\t%" PRIu64 "\n", seg_reader_header(reader)->control.heap_rate_bytes);
    printf("losses\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", lost.state_full, lost.blobs_full,
           lost.reentered);
    seg_reader_close(reader);
    return 0;
}
