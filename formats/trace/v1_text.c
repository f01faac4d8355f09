// SPDX-License-Identifier: MIT
//
// The reasons and kinds that v1 has as numbers, in Go's words.

#include "formats/trace/v1.h"

#include <string.h>

static const char *const texts[V1_TEXT_COUNT] = {
    [V1_TEXT_FOREVER] = "forever",
    [V1_TEXT_PREEMPTED] = "preempted",
    [V1_TEXT_GOSCHED] = "runtime.Gosched",
    [V1_TEXT_SLEEP] = "sleep",
    [V1_TEXT_SEND] = "chan send",
    [V1_TEXT_RECEIVE] = "chan receive",
    [V1_TEXT_NETWORK] = "network",
    [V1_TEXT_SYNC] = "sync",
    [V1_TEXT_COND] = "sync.(*Cond).Wait",
    [V1_TEXT_SELECT] = "select",
    [V1_TEXT_ASSIST] = "GC mark assist wait for work",
    [V1_TEXT_STW] = "",
    "GC mark termination",
    "GC sweep termination",
    "write heap dump",
    "goroutine profile",
    "goroutine profile cleanup",
    "all goroutine stack trace",
    "read mem stats",
    "AllThreadsSyscall",
    "GOMAXPROCS",
    "start trace",
    "stop trace",
    "CountPagesInUse (test)",
    "ReadMetricsSlow (test)",
    "ReadMemStatsSlow (test)",
    "PageCachePagesLeaked (test)",
    "ResetDebugLog (test)",
};

int v1_text(struct trace_reader *r, enum v1_text which, uint32_t *id)
{
    struct trace_v1 *v = r->v1;
    *id = 0;
    if (!texts[which][0])
        return 0;
    if (!v->texts[which]) {
        int rc = generation_add_text(r, texts[which], (uint32_t)strlen(texts[which]), id);
        if (rc)
            return rc;
        v->texts[which] = *id;
    }
    *id = v->texts[which];
    return 0;
}
