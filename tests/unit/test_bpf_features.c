// SPDX-License-Identifier: MIT
//
// What refuses BPF is named from what the trials said, each with what to do; and what is kept of privileges.

#include "collector/bpf/features.h"
#include "collector/bpf/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define BIT(c) (UINT64_C(1) << (c))

// A machine on which all is allowed.
static const struct bpf_facts good = {
    .is_built = true,
    .has_bpf = true,
    .has_perfmon = true,
    .has_no_filter = true,
    .release = "6.18.0",
};

static void check(const struct bpf_facts *f, enum bpf_refusal why, const char *cause,
                  const char *remedy)
{
    struct bpf_verdict v;
    bpf_facts_judge(f, &v);
    if (v.why != why || !strstr(v.cause, cause) || !strstr(v.remedy, remedy))
        fail_msg("%d, not %d: %s: %s", (int)v.why, (int)why, v.cause, v.remedy);
}

static void all_is_well(void **state)
{
    (void)state;
    check(&good, BPF_ALLOWED, "", "");
}

static void capabilities_are_named_one_by_one(void **state)
{
    (void)state;
    struct bpf_facts f = good;
    f.map_error = f.program_error = EPERM;
    f.has_bpf = false;
    check(&f, BPF_REFUSED_CAPABILITY, "CAP_BPF is missing", "root");
    f.has_perfmon = false;
    check(&f, BPF_REFUSED_CAPABILITY, "CAP_BPF and CAP_PERFMON are missing", "root");
    f.has_bpf = true;
    f.map_error = 0;
    check(&f, BPF_REFUSED_CAPABILITY, "CAP_PERFMON is missing", "root");
}

static void who_has_them_is_refused_by_something_else(void **state)
{
    (void)state;
    struct bpf_facts f = good;
    f.program_error = EPERM;
    check(&f, BPF_REFUSED_POLICY, "security module", "SELinux");
    f.is_locked_down = true;
    check(&f, BPF_REFUSED_LOCKDOWN, "locked down", "lockdown=integrity");
    f.has_filter = true;
    check(&f, BPF_REFUSED_FILTER, "seccomp", "--cap-add BPF");
    f.is_user_namespace = true;
    check(&f, BPF_REFUSED_USER_NAMESPACE, "user namespace", "host");
    // Linux 6.1 loads programs all the same, as long as they read no memory.
    f = good;
    f.is_locked_down = true;
    f.is_kernel_hidden = true;
    check(&f, BPF_REFUSED_LOCKDOWN, "locked down", "lockdown=integrity");
}

static void a_call_that_is_not_there_is_missing_or_filtered(void **state)
{
    (void)state;
    struct bpf_facts f = good;
    f.map_error = f.program_error = ENOSYS;
    check(&f, BPF_REFUSED_NO_BPF, "has no bpf(2)", "CONFIG_BPF_SYSCALL");
    f.has_filter = true;
    check(&f, BPF_REFUSED_FILTER, "seccomp", "--cap-add BPF");
}

static void kernels_are_refused_by_what_they_lack(void **state)
{
    (void)state;
    struct bpf_facts f = good;
    f.lacks = "bpf_loop (Linux 5.17)";
    strcpy(f.release, "5.10.0-28-amd64");
    f.tracing_error = EINVAL;
    check(&f, BPF_REFUSED_KERNEL, "(5.10.0-28-amd64) has no bpf_loop", "Linux " BPF_KERNEL_MIN);
    f = good;
    f.btf_error = ENOENT;
    f.tracing_error = ESRCH;
    check(&f, BPF_REFUSED_BTF, "/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF");
    f = good;
    f.tracing_error = EINVAL;
    check(&f, BPF_REFUSED_OTHER, "sched_switch", "--method=perf");
}

static void the_rest(void **state)
{
    (void)state;
    struct bpf_facts f = good;
    f.is_built = false;
    check(&f, BPF_REFUSED_BUILD, "without libbpf", "bpftool");
    f = good;
    f.is_pid_namespace = true;
    check(&f, BPF_REFUSED_PID_NAMESPACE, "pid namespace", "--pid=host");
    f = good;
    f.map_error = ENOMEM;
    check(&f, BPF_REFUSED_MEMORY, "memory", "memory.max");
    f = good;
    f.event_error = EPERM;
    strcpy(f.event_text, "allow perf_event_open there");
    check(&f, BPF_REFUSED_PERF, "no perf event", "allow perf_event_open");
}

static void privileges_that_are_kept(void **state)
{
    (void)state;
    uint64_t all = (UINT64_C(1) << 41) - 1;
    uint64_t kept = privileges_kept(all, true);
    assert_int_equal(kept, BIT(CAP_SYS_PTRACE) | BIT(CAP_DAC_READ_SEARCH) |
                               BIT(CAP_CHECKPOINT_RESTORE) | BIT(CAP_SYSLOG));
    assert_int_equal(privileges_kept(all, false), kept | BIT(CAP_DAC_OVERRIDE));
    assert_int_equal(privileges_kept(BIT(CAP_BPF) | BIT(CAP_PERFMON), true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well),
        cmocka_unit_test(capabilities_are_named_one_by_one),
        cmocka_unit_test(who_has_them_is_refused_by_something_else),
        cmocka_unit_test(a_call_that_is_not_there_is_missing_or_filtered),
        cmocka_unit_test(kernels_are_refused_by_what_they_lack),
        cmocka_unit_test(the_rest),
        cmocka_unit_test(privileges_that_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
