// SPDX-License-Identifier: MIT
//
// What is said of a rate that was not reached: of the kernel's throttling only where it has lowered its limit.

#include "collector/bpf/ebpf_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool says(const struct bpf_losses *l, uint32_t before, uint32_t after, const char *what)
{
    return strstr(ebpf_shortfall(l, before, after), what);
}

static void throttling_is_said_with_evidence(void **state)
{
    const struct bpf_losses none = {0}, ring = {.ring = 1}, busy = {.busy = 1};
    (void)state;
    assert_true(says(&none, 100000, 50000, "throttle"));
    assert_false(says(&none, 100000, 100000, "throttle"));
    assert_false(says(&none, 0, 0, "throttle"));
    assert_false(says(&none, 50000, 100000, "throttle"));
    assert_true(says(&none, 100000, 100000, "not known"));
    assert_true(says(&ring, 100000, 100000, "ring"));
    assert_true(says(&busy, 100000, 100000, "same CPU"));
}

static void the_limit_is_the_kernels(void **state)
{
    uint32_t hz = 0;
    FILE *f = fopen("/proc/sys/kernel/perf_event_max_sample_rate", "re");
    (void)state;
    if (f && fscanf(f, "%u", &hz) != 1)
        hz = 0;
    if (f)
        fclose(f);
    assert_int_equal(ebpf_rate_limit(), hz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(throttling_is_said_with_evidence),
        cmocka_unit_test(the_limit_is_the_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
