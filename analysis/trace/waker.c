// SPDX-License-Identifier: MIT
//
// See waker.h.

#include "analysis/trace/waker.h"

#include <string.h>

static const struct {
    const char *name, *text, *as_name;
} wakers[TRACE_WAKER_COUNT] = {
    [TRACE_WAKER_UNKNOWN] = {"unknown", "no stack", "(no waker recorded)"},
    [TRACE_WAKER_FIBER] = {"fiber", "by another fiber, without a stack", "(no waker recorded)"},
    [TRACE_WAKER_POLLER] = {"poller", "by the network poller", "(network)"},
    [TRACE_WAKER_TIMER] = {"timer", "by a timer", "(timer)"},
    [TRACE_WAKER_NOBODY] = {"nobody", "by a time-out, or nobody that the trace names",
                            "(no waker recorded)"},
    [TRACE_WAKER_RUNTIME] = {"runtime", "by the runtime", "(runtime)"},
    [TRACE_WAKER_SYSCALL] = {"syscall", "back from a system call", "(no waker recorded)"},
};

static bool contains(struct trace_text t, const char *part)
{
    return t.size_bytes && memmem(t.bytes, t.size_bytes, part, strlen(part));
}

enum trace_waker trace_waker_without_fiber(struct trace_text reason)
{
    if (contains(reason, "network") || contains(reason, "IO wait"))
        return TRACE_WAKER_POLLER;
    if (contains(reason, "sleep") || contains(reason, "chan") || contains(reason, "select"))
        return TRACE_WAKER_TIMER;
    return contains(reason, "sync") || !reason.size_bytes ? TRACE_WAKER_NOBODY
                                                          : TRACE_WAKER_RUNTIME;
}

const char *trace_waker_name(enum trace_waker w)
{
    return wakers[w].name;
}

const char *trace_waker_text(enum trace_waker w)
{
    return wakers[w].text;
}

const char *trace_waker_as_name(enum trace_waker w)
{
    return wakers[w].as_name;
}
