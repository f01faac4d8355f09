// SPDX-License-Identifier: MIT
//
// See slabs.h.

#include "collector/bpf/slabs.h"

#include "collector/bpf/layout.h"
#include "collector/bpf/privileges.h"
#include "symbols/unwind_layout.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLAB_BYTES ((size_t)BPF_SLAB_PAGES * UNWIND_PAGE_BYTES)

enum { PAGES = BPF_SLABS_MAX * BPF_SLAB_PAGES, MADE_AT_ONCE = 64 };

struct bpf_slabs {
    int map_fd;
    uint8_t *memory[BPF_SLABS_MAX]; // NULL: not made
    uint32_t used[BPF_SLABS_MAX];   // pages
    uint32_t length[PAGES];         // of the run that begins here; 0: none does
    bool taken[PAGES];
};

int bpf_slabs_new(struct bpf_slabs **out, int map_fd)
{
    struct bpf_slabs *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->map_fd = map_fd;
    s->taken[0] = true;
    s->used[0] = 1;
    *out = s;
    return 0;
}

void bpf_slabs_free(struct bpf_slabs *s)
{
    for (uint32_t i = 0; s && i < BPF_SLABS_MAX; i++)
        if (s->memory[i])
            munmap(s->memory[i], SLAB_BYTES);
    free(s);
}

// The first run of free pages, in slabs that are there if there is one; 0: none.
static uint32_t find_run(const struct bpf_slabs *s, uint32_t pages, bool made_only)
{
    uint32_t n = 0;
    for (uint32_t page = 1; page < PAGES; page++) {
        n = s->taken[page] || (made_only && !s->memory[page / BPF_SLAB_PAGES]) ? 0 : n + 1;
        if (n == pages)
            return page + 1 - pages;
    }
    return 0;
}

static int make_slab(uint8_t **memory)
{
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
    uint64_t before = privileges_take_bpf();
    int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "slab", sizeof(uint32_t), UNWIND_PAGE_BYTES,
                            BPF_SLAB_PAGES, &opts);
    int error = errno;
    privileges_return(before);
    if (fd < 0)
        return -error;
    *memory = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*memory != MAP_FAILED)
        return fd;
    int rc = -errno;
    *memory = NULL;
    close(fd);
    return rc;
}

static int put_one_by_one(struct bpf_slabs *s, const uint32_t *slabs, const int *fds, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (bpf_map_update_elem(s->map_fd, &slabs[i], &fds[i], BPF_ANY))
            return -errno;
    return 0;
}

// Makes up to MADE_AT_ONCE of the slabs [at, end) that are not there. The kernel waits for running programs at each update,
// so they are put in together, where it can. 0 or -errno.
static int make_some(struct bpf_slabs *s, uint32_t *at, uint32_t end)
{
    uint32_t slabs[MADE_AT_ONCE], n = 0;
    int fds[MADE_AT_ONCE], rc = 0;
    for (; !rc && *at < end && n < MADE_AT_ONCE; ++*at) {
        if (s->memory[*at])
            continue;
        slabs[n] = *at;
        rc = fds[n] = make_slab(&s->memory[*at]);
        rc = rc < 0 ? rc : 0;
        n += !rc;
    }
    uint32_t count = n;
    LIBBPF_OPTS(bpf_map_batch_opts, opts);
    if (!rc && n && (n == 1 || bpf_map_update_batch(s->map_fd, slabs, fds, &count, &opts)))
        rc = put_one_by_one(s, slabs, fds, n);
    for (uint32_t i = 0; i < n; i++)
        close(fds[i]); // the array of maps holds it
    for (uint32_t i = 0; rc && i < n; i++) {
        bpf_map_delete_elem(s->map_fd, &slabs[i]);
        munmap(s->memory[slabs[i]], SLAB_BYTES);
        s->memory[slabs[i]] = NULL;
    }
    return rc;
}

int bpf_slabs_put(struct bpf_slabs *s, const uint32_t *words, uint32_t pages, uint32_t *first)
{
    if (!pages || pages >= PAGES)
        return -EINVAL;
    uint32_t at = find_run(s, pages, true);
    if (!at)
        at = find_run(s, pages, false);
    if (!at)
        return -ENOSPC;
    uint32_t slab = at / BPF_SLAB_PAGES, end = (at + pages - 1) / BPF_SLAB_PAGES + 1;
    while (slab < end) {
        int rc = make_some(s, &slab, end);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t page = at + i;
        uint8_t *memory = s->memory[page / BPF_SLAB_PAGES];
        if (!memory)
            return -ENOENT; // made above
        memcpy(memory + (size_t)(page % BPF_SLAB_PAGES) * UNWIND_PAGE_BYTES,
               words + (size_t)i * UNWIND_PAGE_WORDS, UNWIND_PAGE_BYTES);
    }
    for (uint32_t page = at; page < at + pages; page++) {
        s->taken[page] = true;
        s->used[page / BPF_SLAB_PAGES]++;
    }
    s->length[at] = pages;
    __atomic_store_n(first, at, __ATOMIC_RELEASE);
    return 0;
}

void bpf_slabs_drop(struct bpf_slabs *s, uint32_t first)
{
    uint32_t pages = first < PAGES ? s->length[first] : 0;
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t slab = (first + i) / BPF_SLAB_PAGES;
        s->taken[first + i] = false;
        if (--s->used[slab])
            continue;
        bpf_map_delete_elem(s->map_fd, &slab);
        munmap(s->memory[slab], SLAB_BYTES);
        s->memory[slab] = NULL;
    }
    if (pages)
        s->length[first] = 0;
}
