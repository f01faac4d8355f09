// SPDX-License-Identifier: MIT
//
// Which of several files belong together. See app.h.

#include "viewer/app.h"

#include "analysis/trace/kernel.h"
#include "formats/trace/trace.h"
#include "viewer/http.h"
#include "viewer/pipe.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_EVENTS = 20000 };

enum kind { OTHER, TRACE, KERNEL };

// What its first fiber with a stack is: a thread of a process, or one of a program.
static enum kind look(int fd)
{
    const struct trace_reader_options o = {.size = sizeof o, .rest = true};
    const struct trace_event *ev;
    struct trace_reader *r = NULL;
    struct fscope_error err;
    enum kind kind = TRACE;
    if (trace_reader_open_fd(&r, fd, &o, &err))
        return TRACE; // or what is left of one
    for (int n = 0; n < LOOK_EVENTS && trace_reader_next(r, &ev) > 0; n++) {
        const struct trace_frame *frames;
        uint32_t count = ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE
                             ? trace_reader_stack(r, ev->transition.stack, &frames)
                             : 0;
        if (!count)
            continue;
        struct trace_text file = trace_reader_string(r, frames[count - 1].file);
        kind = file.size_bytes > 8 && !memcmp(file.bytes, "process ", 8) ? KERNEL : TRACE;
        break;
    }
    trace_reader_close(r);
    return kind;
}

// Names say it without reading.
static enum kind kind_of(const char *path)
{
    char begin[5];
    if (http_is_url(path) || pipe_is(path))
        return OTHER;
    const char *slash = strrchr(path, '/');
    if (strstr(slash ? slash : path, ".kernel.trace"))
        return KERNEL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    enum kind kind = OTHER;
    if (fd >= 0 && pread(fd, begin, sizeof begin, 0) == sizeof begin &&
        !memcmp(begin, "go 1.", sizeof begin))
        kind = look(fd);
    if (fd >= 0)
        close(fd);
    return kind;
}

static bool belongs(const char *trace, const char *kernel)
{
    char path[PATH_MAX];
    return !trace_kernel_path(path, sizeof path, trace) && !strcmp(path, kernel);
}

// Of one trace and one kernel trace they are a pair; of more those whose names say so.
static int kernel_of(char *const *files, int count, const enum kind *kinds, int at)
{
    int traces = 0, kernels = 0, found = -1;
    if (kinds[at] != TRACE)
        return -1;
    for (int i = 0; i < count; i++) {
        traces += kinds[i] == TRACE;
        kernels += kinds[i] == KERNEL;
        if (kinds[i] == KERNEL && (found < 0 || belongs(files[at], files[i])))
            found = i;
    }
    bool is_pair = traces == 1 && kernels == 1;
    return found >= 0 && (is_pair || belongs(files[at], files[found])) ? found : -1;
}

int app_add_all(struct app *a, char *const *files, int count, struct fscope_error *err)
{
    enum kind kinds[APP_FILES_MAX] = {OTHER};
    bool is_beside[APP_FILES_MAX] = {false};
    int kernels[APP_FILES_MAX], rc = 0;
    if (count > APP_FILES_MAX)
        count = APP_FILES_MAX;
    for (int i = 0; i < count && count > 1; i++)
        kinds[i] = kind_of(files[i]);
    for (int i = 0; i < count; i++) {
        kernels[i] = kernel_of(files, count, kinds, i);
        if (kernels[i] >= 0)
            is_beside[kernels[i]] = true;
    }
    for (int i = 0; i < count && !rc; i++)
        if (!is_beside[i])
            rc = app_add_pair(a, files[i], kernels[i] < 0 ? NULL : files[kernels[i]], err);
    return rc;
}
