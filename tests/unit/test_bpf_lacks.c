// SPDX-License-Identifier: MIT
//
// What must hold: of several things that a recording by eBPF lacks each is told, in a line of its own, and with its number.

#include "collector/bpf/ebpf_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct record_result result;

static size_t lines(void)
{
    size_t n = result.warning[0] != '\0';
    for (const char *c = result.warning; *c; c++)
        n += *c == '\n';
    return n;
}

static void tell(const struct ebpf_lacks *l)
{
    result.warning[0] = '\0';
    ebpf_tell_lacks(&result, l);
}

static void what_is_whole_is_not_spoken_of(void **state)
{
    (void)state;
    tell(&(struct ebpf_lacks){.unwind_bytes = 1 << 20, .stack_bytes = 16384, .waits_max = 1});
    assert_int_equal(lines(), 0);
}

static void one_does_not_hide_another(void **state)
{
    (void)state;
    tell(&(struct ebpf_lacks){.cut = 20, .stack_bytes = 16384, .losses.lives = 73516});
    assert_int_equal(lines(), 2);
    assert_non_null(strstr(result.warning, "73516 allocations found no room"));
    assert_non_null(strstr(result.warning, "20 stacks were longer than the 16384 bytes"));
}

static void all_have_a_line(void **state)
{
    (void)state;
    static const char *const says[] = {
        "1001 allocations, frees or calls",
        "1002 allocations found no room",
        "3 KiB that became",
        "4 KiB that were mapped",
        "1005 beginnings and ends",
        "1006 waits are not",
        "1007 samples were sent",
        "1008 waits found no room",
        "1009 files, ",
        "tables of 1010 files",
        "1011 stacks were longer",
    };
    tell(&(struct ebpf_lacks){
        .losses = {.calls = 1001,
                   .lives = 1002,
                   .resident_bytes = 3 << 10,
                   .mapped_bytes = 4 << 10,
                   .events = 1005,
                   .waits = 1006,
                   .sums = 1007,
                   .locks = 1008},
        .code.no_room = 1009,
        .unread_files = 1010,
        .cut = 1011,
        .stack_bytes = UINT32_MAX, // as long as numbers get
        .unwind_bytes = UINT64_MAX,
        .waits_max = UINT32_MAX,
        .sums_max = UINT32_MAX,
    });
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        if (!strstr(result.warning, says[i]))
            fail_msg("\"%s\" is not in:\n%s", says[i], result.warning);
    assert_int_equal(lines(), 10);
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
    (void)state;
    result.warning[0] = '\0';
    for (int i = 0; i < 1000; i++)
        record_warn(&result, "%s", "nineteen characters");
    assert_int_equal(lines(), sizeof result.warning / 20);
    assert_string_equal(strrchr(result.warning, '\n'), "\nnineteen characters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_whole_is_not_spoken_of),
        cmocka_unit_test(one_does_not_hide_another),
        cmocka_unit_test(all_have_a_line),
        cmocka_unit_test(what_does_not_fit_is_left_out_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
