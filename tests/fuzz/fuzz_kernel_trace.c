// SPDX-License-Identifier: MIT
//
// Whatever stands in the ring of the kernel trace's programs, in whatever order: each file that is made of it is one that
// our validator takes whole, and nothing is read beyond a record.
//
// Input: a byte of choices (bits 0 and 1: CPUs less one; bit 2: version 26), and then: 'R', 8 bits of size, a record;
// 'A', a thread that is there; 'F', a time up to which is written; 'C', two times between which records were lost; 'E', a
// time that ends it.

#include "collector/bpf/kernel_build.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at;
    size_t left;
};

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    (void)number, (void)err;
    int fd = memfd_create("trace", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    *(int *)arg = fd;
    return fd;
}

static void close_file(void *arg, const struct kernel_build_file *f, int rc)
{
    close(*(int *)arg);
    if (rc || f->why[0])
        abort();
}

static bool take(struct input *in, void *to, size_t size)
{
    if (in->left < size)
        return false;
    memcpy(to, in->at, size);
    in->at += size;
    in->left -= size;
    return true;
}

static bool take_time(struct input *in, uint64_t *ns) // of our own clock
{
    if (!take(in, ns, sizeof *ns))
        return false;
    *ns &= UINT64_MAX >> 3;
    return true;
}

static void require(int rc)
{
    if (rc)
        abort();
}

static void take_record(struct kernel_build *b, struct input *in)
{
    struct kernel_record r;
    uint8_t size;
    if (!take(in, &size, 1) || in->left < size)
        return;
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        abort();
    take(in, bytes, size);
    if (kernel_build_record(&r, bytes, size))
        require(kernel_build_push(b, &r));
    free(bytes);
}

static void take_items(struct kernel_build *b, struct input *in)
{
    struct kernel_build_thread thread;
    uint64_t times[2];
    uint8_t what;
    while (take(in, &what, 1) && what != 'E')
        switch (what) {
        case 'R': take_record(b, in); break;
        case 'A':
            if (take(in, &thread, sizeof thread))
                require(kernel_build_add(b, &thread));
            break;
        case 'F':
            if (take_time(in, times))
                require(kernel_build_flush(b, *times));
            break;
        case 'C':
            if (take_time(in, times) && take_time(in, times + 1))
                require(kernel_build_cut(b, times[0], times[1], 1));
            break;
        default: break;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct kernel_build *b;
    uint64_t end_ns = UINT64_MAX >> 3;
    uint8_t choices;
    int fd;
    if (!take(&in, &choices, 1))
        return 0;
    const struct kernel_build_options o = {
        .size = sizeof o,
        .version = choices & 4 ? 26 : 23,
        .cpu_count = 1 + (choices & 3u),
        .open_file = open_file,
        .close_file = close_file,
        .arg = &fd,
    };
    require(kernel_build_new(&b, &o));
    take_items(b, &in);
    take_time(&in, &end_ns);
    require(kernel_build_finish(b, end_ns));
    kernel_build_free(b);
    return 0;
}
