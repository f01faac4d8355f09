// SPDX-License-Identifier: MIT
//
// Events at random into the viewer without its window, with a trace, a profile and both (view_events.h).

#include "view_events.h"

#include <stdlib.h>

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION // by clang, where many short runs find more than few long ones
enum { EVENTS_MAX = 12 };
#else
enum { EVENTS_MAX = 300 };
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_ready;
    static struct app a;
    const struct app_options o = {.font = "builtin", .scale = 100};
    struct fscope_error err = {0};
    if (size < 1)
        return 0;
    if (!is_ready)
        view_leave_folder();
    is_ready = true;
    if (app_init(&a, &o, &err))
        abort();
    if (data[0] & 1 && (app_add(&a, FUZZ_TRACE, &err) || app_show(&a, NULL, &err)))
        abort();
    if (data[0] & 2 && (app_add(&a, FUZZ_PROFILE, &err) || app_show(&a, NULL, &err)))
        abort();
    a.ui.now_ms = data[0] & 4; // with a clock, or without
    view_events(&a, data + 1, size - 1, EVENTS_MAX);
    app_close(&a);
    return 0;
}
