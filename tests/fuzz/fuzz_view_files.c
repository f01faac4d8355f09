// SPDX-License-Identifier: MIT
//
// Any bytes as a file that the viewer opens: refused with a text, or shown, in every view and panel, to whoever presses keys. Any
// file is a seed as it is; what is done with it, in which size, follows from its bytes. From where a trace begins a second time
// they are the kernel trace beside it.

#include "view_events.h"

#include "viewer/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { EVENTS = 10, POLLS_MAX = 2000 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

// What a seed of its own would have said (FNV-1a).
static uint64_t hash(const uint8_t *data, size_t size)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ data[i]) * 1099511628211u;
    return h;
}

static void fill(uint8_t *out, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(seed >> 56);
    }
}

static void wake(void *context)
{
    (void)context;
}

// As a window does: a thread reads, and parts of the file are shown before it is whole.
static void poll_until_read(struct app *a)
{
    for (int i = 0; i < POLLS_MAX && a->documents[0]->loading; i++) {
        app_frame(a, 320, 200, NULL);
        usleep(500);
    }
}

static void show_all(struct app *a, uint64_t seed)
{
    static const int sizes[][2] = {{1, 1},     {320, 200}, {97, 700},
                                   {1280, 40}, {800, 600}, {7680, 4320}};
    const int *size = sizes[seed % 6];
    struct fscope_error err = {0};
    for (int i = 0; views[i] && a->count; i++) { // a key may close it
        if (app_show(a, views[i]->id, &err))
            continue;
        uint8_t bytes[EVENTS * VIEW_EVENT_BYTES];
        view_frames(a, size[0], size[1], NULL);
        fill(bytes, sizeof bytes, seed + (uint64_t)i);
        view_events(a, bytes, sizeof bytes, EVENTS);
    }
    must(app_write_svg(a, "/dev/null", &err) == 0 && app_write_text(a, "/dev/null", &err) == 0);
}

// The bytes as a file. Its descriptor.
static int file_of(const uint8_t *data, size_t size, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static size_t kernel_begin(const uint8_t *data, size_t size)
{
    static const char header[] = "go 1.";
    const uint8_t *at =
        size > 16 && !memcmp(data, header, 5) ? memmem(data + 16, size - 16, header, 5) : NULL;
    return at ? (size_t)(at - data) : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_ready;
    static struct app a;
    char path[32], kernel[32];
    size_t first = kernel_begin(data, size);
    uint64_t seed = hash(data, size);
    bool in_window = (seed >> 32) % 8 == 0;
    struct app_options o = {
        .font = "builtin", .scale = 100, .part_ms = -1, .wake = in_window ? wake : NULL};
    struct fscope_error err = {0};
    int fd = file_of(data, first, path), kernel_fd = -1;
    if (first < size)
        kernel_fd = file_of(data + first, size - first, kernel);
    if ((seed >> 40) % 4 == 0)
        o.diff_base = path;
    if (!is_ready)
        view_leave_folder();
    is_ready = true;
    must(app_init(&a, &o, &err) == 0);
    int rc = app_add_pair(&a, path, kernel_fd < 0 ? NULL : kernel, &err);
    must(rc == 0 || (err.code == rc && err.text[0]));
    if (!rc && in_window)
        poll_until_read(&a);
    if (!rc)
        show_all(&a, seed);
    app_close(&a);
    close(fd);
    if (kernel_fd >= 0)
        close(kernel_fd);
    return 0;
}
