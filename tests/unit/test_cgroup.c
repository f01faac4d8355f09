// SPDX-License-Identifier: MIT
//
// The headroom of a cgroup is that of the tightest folder from the process's own to the root, in
// both versions; made-up folders stand for /sys/fs/cgroup.

#include "agent/cgroup.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/fscope-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", root, folder);
    for (char *s = path + strlen(root) + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = '\0';
        mkdir(path, 0700);
    }
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect(const char *memberships, int64_t bytes) // -1: unlimited
{
    struct cgroup g;
    uint64_t got = 12345;
    cgroup_find(&g, memberships, root);
    assert_int_equal(cgroup_headroom(&g, &got), bytes >= 0);
    if (bytes >= 0)
        assert_int_equal(got, bytes);
}

static void the_tightest_ancestor_decides(void **state)
{
    (void)state;
    put("/a/b/c", "memory.max", "max\n");
    put("/a/b/c", "memory.current", "100\n");
    expect("0::/a/b/c\n", -1);
    put("/a/b", "memory.max", "1000\n");
    put("/a/b", "memory.current", "400\n");
    expect("0::/a/b/c\n", 600);
    put("/a", "memory.max", "900\n");
    put("/a", "memory.current", "700\n");
    expect("0::/a/b/c\n", 200);
    put("/a/b/c", "memory.max", "150\n");
    expect("0::/a/b/c\n", 50);
    put("/a/b/c", "memory.current", "151\n"); // over it for a moment
    expect("0::/a/b/c\n", 0);
    expect("0::/a\n", 200);
    expect("0::/\n", -1);
    put("", "memory.max", "5000\n"); // a container's own root
    put("", "memory.current", "1000\n");
    expect("0::/\n", 4000);
    expect("0::/a/b/c\n", 0);
    expect("0::/unseen/folder\n", 4000);
}

static void version_1_has_its_own_files(void **state)
{
    (void)state;
    put("/memory/x/y", "memory.limit_in_bytes", "9223372036854771712\n");
    put("/memory/x/y", "memory.usage_in_bytes", "77\n");
    put("/memory", "memory.limit_in_bytes", "9223372036854771712\n");
    put("/memory", "memory.usage_in_bytes", "77\n");
    static const char lines[] =
        "12:cpu,cpuacct:/x\n11:devices,memory,pids:/x/y\n1:name=systemd:/x\n0::/x\n";
    expect(lines, -1);
    put("/memory/x", "memory.limit_in_bytes", "500\n");
    put("/memory/x", "memory.usage_in_bytes", "100\n");
    expect(lines, 400);
}

static void odd_lines_are_no_cgroup(void **state)
{
    char text[1100];
    (void)state;
    put("", "memory.max", "5000\n");
    put("", "memory.current", "1000\n");
    for (const char *const *t = (const char *const[]){"", "0", "0:", "\n", "5:memoryx:/a\n",
                                                      "4:name=memory:/a\n", NULL};
         *t; t++)
        expect(*t, -1);
    memset(text, 'x', sizeof text);
    memcpy(text, "0::/", 4);
    text[sizeof text - 1] = '\0';
    expect(text, -1); // too long
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_tightest_ancestor_decides, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_1_has_its_own_files, make_root, remove_root),
        cmocka_unit_test_setup_teardown(odd_lines_are_no_cgroup, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
