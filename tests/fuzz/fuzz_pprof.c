// SPDX-License-Identifier: MIT
//
// Any bytes, read as a profile of any format: a profile that satisfies pprof_check, is the same
// after writing and reading, and merges; or an error with a text. The first byte chooses options.

#include "formats/pprof.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void same_samples(const struct pprof_profile *p, const struct pprof_profile *q)
{
    must(p->sample_count == q->sample_count && p->location_count == q->location_count);
    must(p->function_count == q->function_count && p->mapping_count == q->mapping_count);
    must(p->comment_count == q->comment_count && p->period == q->period);
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *a = p->samples[i], *b = q->samples[i];
        must(a->location_count == b->location_count && a->label_count == b->label_count);
        must(memcmp(a->values, b->values, p->sample_type_count * sizeof *a->values) == 0);
        for (uint32_t j = 0; j < a->location_count; j++)
            must(a->locations[j]->id == b->locations[j]->id);
        for (uint32_t j = 0; j < a->label_count; j++)
            must(strcmp(a->labels[j].str, b->labels[j].str) == 0);
    }
}

static void round_trip(const struct pprof_profile *p)
{
    struct fscope_error err = {0};
    struct stat st;
    struct pprof_profile *q;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    must(fd >= 0 && pprof_write_fd(p, fd, false, &err) == 0 && fstat(fd, &st) == 0);
    size_t n = (size_t)st.st_size;
    void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    must(bytes != MAP_FAILED);
    must(pprof_read_memory(&q, bytes, n, NULL, &err) == 0);
    same_samples(p, q);
    pprof_free(q);
    munmap(bytes, n);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint64_t salvaged = 0;
    struct pprof_read_options o = {.size = sizeof o,
                                   .inflated_max = 1 << 20,
                                   .salvage = data[0] & 1,
                                   .salvaged_samples = &salvaged};
    struct fscope_error err = {0};
    struct pprof_profile *p, *merged;
    int rc = pprof_read_memory(&p, data + 1, size - 1, &o, &err);
    if (rc) {
        must(!p && err.code == rc && err.text[0]);
        return 0;
    }
    must(pprof_check(p, &err) == 0);
    must(salvaged == 0 || salvaged == p->sample_count);
    round_trip(p);
    if (pprof_merge(&merged, (struct pprof_profile *[]){p, p}, 2, &err) == 0) {
        must(pprof_check(merged, &err) == 0 && merged->sample_count <= p->sample_count);
        round_trip(merged);
        pprof_free(merged);
    }
    pprof_free(p);
    return 0;
}
