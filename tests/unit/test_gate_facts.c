// SPDX-License-Identifier: MIT
//
// What makes timings doubtful is read from /proc and /sys, kept in a profile, and said where timing
// is compared.

#include "analysis/gate_facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[] = "/tmp/fiberscope-facts-XXXXXX", said[4096];

static void put(const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *s = name + strlen(root) + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = 0;
        mkdir(name, 0777);
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void say(void *arg, const char *text)
{
    (void)arg;
    strncat(said, text, sizeof said - strlen(said) - 2);
    strcat(said, "\n");
}

static int make_machine(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu hypervisor sse\n"
                         "processor\t: 1\nmodel name\t: Fast CPU\n");
    put("/proc/loadavg", "1.75 0.5 0.1 1/100 4711\n");
    put("/proc/sys/kernel/osrelease", "6.1.0-test\n");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    put("/sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
    return 0;
}

static int remove_machine(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void facts_are_read(void **state)
{
    (void)state;
    struct gate_facts f;
    gate_facts_read(&f, root);
    assert_string_equal(f.cpu, "Fast CPU");
    assert_int_equal(f.cpus, 2);
    assert_string_equal(f.kernel, "6.1.0-test");
    assert_string_equal(f.governor, "powersave");
    assert_int_equal(f.turbo, 1);
    assert_int_equal(f.vm, 1);
    assert_true(f.load == 1.75);
    gate_facts_read(&f, "/nonexistent");
    assert_string_equal(f.cpu, "");
    assert_true(f.turbo == -1 && f.vm == -1 && f.load == -1);
}

static void a_profile_keeps_them(void **state)
{
    (void)state;
    struct gate_facts f, g;
    struct pprof_profile *p = pprof_new();
    assert_false(gate_facts_from_profile(&g, p));
    pprof_add_comment(p, "cpu: somebody's own comment");
    gate_facts_read(&f, root);
    assert_int_equal(gate_facts_to_profile(&f, p), 0);
    assert_true(gate_facts_from_profile(&g, p));
    assert_string_equal(g.cpu, f.cpu);
    assert_string_equal(g.governor, f.governor);
    assert_string_equal(g.libc, f.libc);
    assert_true(g.cpus == 2 && g.turbo == 1 && g.vm == 1 && g.load == 1.75);
    pprof_free(p);
}

static void doubts_are_said_where_timing_matters(void **state)
{
    (void)state;
    struct gate_facts base, now;
    gate_facts_read(&now, root);
    base = now;
    said[0] = 0;
    gate_facts_doubts(&base, &now, false, say, NULL);
    assert_string_equal(said, "");
    gate_facts_doubts(&base, &now, true, say, NULL);
    static const char *const doubts[] = {"governor is powersave", "turbo is on", "load 1.75 on 2",
                                         "virtual machine"};
    for (size_t i = 0; i < sizeof doubts / sizeof *doubts; i++)
        assert_non_null(strstr(said, doubts[i]));
    assert_null(strstr(said, "different"));
    said[0] = 0;
    strcpy(base.cpu, "Slow CPU");
    strcpy(base.libc, "glibc 2.1");
    gate_facts_doubts(&base, &now, true, say, NULL);
    assert_non_null(strstr(said, "a Slow CPU, this of a Fast CPU"));
    said[0] = 0;
    gate_facts_doubts(&base, &now, false, say, NULL); // counts depend on the library alone
    assert_non_null(strstr(said, "glibc 2.1"));
    assert_null(strstr(said, "Slow CPU"));
}

static void a_quiet_machine_raises_none(void **state)
{
    (void)state;
    struct gate_facts f;
    gate_facts_read(&f, root);
    strcpy(f.governor, "performance");
    f.turbo = f.vm = 0;
    f.load = 0.2;
    said[0] = 0;
    gate_facts_doubts(&f, &f, true, say, NULL);
    gate_facts_doubts(NULL, &f, true, say, NULL);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_read),
        cmocka_unit_test(a_profile_keeps_them),
        cmocka_unit_test(doubts_are_said_where_timing_matters),
        cmocka_unit_test(a_quiet_machine_raises_none),
    };
    return cmocka_run_group_tests(tests, make_machine, remove_machine);
}
