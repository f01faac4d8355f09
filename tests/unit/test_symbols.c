// SPDX-License-Identifier: MIT
//
// What needs no compiler at run time: demangling (also of hostile names), the vdso, kernel symbols,
// perf maps written by a stranger, refusals, dpkg's lists.

#include "symbols/symbols.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct symbols *fresh(void)
{
    struct symbols *s;
    struct symbols_options o = {.size = sizeof o, .no_cache = true, .no_debuginfod = true};
    assert_int_equal(symbols_new(&s, &o, NULL), 0);
    return s;
}

static void demangles(void **state)
{
    (void)state;
    static const struct {
        const char *mangled, *want;
        bool is;
    } names[] = {
        {"_ZNSt6vectorIiSaIiEE9push_backERKi",
         "std::vector<int, std::allocator<int> >::push_back(int const&)", true},
        {"_ZN4core3fmt9Formatter9write_fmt17h0123456789abcdefE", "core::fmt::Formatter::write_fmt",
         true},
        {"_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h"
         "930b740aa94f1d3aE",
         "<Test + 'static as foo::Bar<Test>>::bar", true},
        {"_RNvCs15kBYyAo9fc_7mycrate7example", "mycrate::example", true},
        {"_RNvXs5_NtCsd4VYFwevHkG_4core3stryNtNtB5_3ops5Index5index", NULL, true},
        {"malloc", "malloc", false},
        {"_start", "_start", false},
        {"_Z", "_Z", false},
        {"", "", false},
        {"_ZN17h0123456789abcdefE", NULL, true},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char out[512];
        bool is = symbols_demangle(names[i].mangled, out, sizeof out);
        if (!names[i].want)
            continue; // must only not crash
        assert_string_equal(out, names[i].want);
        assert_int_equal(is, names[i].is);
    }
    char tiny[5];
    assert_true(symbols_demangle("_Z3fooi", tiny, sizeof tiny));
    assert_string_equal(tiny, "foo(");
}

static void hostile_names_end(void **state)
{
    (void)state;
    char out[1024];
    // Each S_ doubles what is printed: 2^60 characters if nobody stops it.
    char name[4096] = "_Z1fI1aE";
    char *p = name + strlen(name);
    p += sprintf(p, "1bI");
    for (int i = 0; i < 60; i++)
        p += sprintf(p, "1cIS%c_S%c_E", i < 10 ? '0' + i : 'A' + i % 26, '0' + i % 10);
    sprintf(p, "E");
    (void)symbols_demangle(name, out, sizeof out);
    // Rust v0: tuples of back references to the tuple before.
    p = name + sprintf(name, "_RINvC1a1b");
    size_t before = (size_t)(p - name) - 2;
    p += sprintf(p, "Thhe");
    for (int i = 0; i < 60; i++) {
        size_t here = (size_t)(p - name) - 2;
        static const char digits[] =
            "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        char b[8];
        size_t v = before - 1;
        int n = snprintf(b, sizeof b, "B%c%c_", digits[v / 62 % 62], digits[v % 62]);
        p += sprintf(p, "T%s%sE", b, b);
        assert_int_equal(n, 4);
        before = here;
    }
    sprintf(p, "E");
    (void)symbols_demangle(name, out, sizeof out);
    memset(name, 'P', sizeof name - 1);
    memcpy(name, "_Z1f", 4);
    name[sizeof name - 1] = '\0';
    (void)symbols_demangle(name, out, sizeof out);
}

static void names_the_vdso(void **state)
{
    (void)state;
    struct symbols *s = fresh();
    struct symbols_image *im;
    assert_int_equal(symbols_open_vdso(s, &im, NULL, NULL), 0);
    assert_int_equal(symbols_image_source(im), SYMBOLS_DYNSYM);
    bool found = false;
    struct symbols_frame f;
    for (uint64_t a = 0; a < 8192 && !found; a++)
        found = symbols_lookup(im, a, &f, 1) == 1 && strstr(f.name, "clock_gettime");
    assert_true(found);
    struct fscope_error err;
    assert_int_equal(symbols_open_vdso(s, &im, "00112233", &err), -ESTALE);
    assert_non_null(strstr(err.text, "00112233"));
    symbols_free(s);
}

static char *write_file(const char *text)
{
    static char path[] = "/tmp/fscope-unit-XXXXXX";
    strcpy(path + sizeof path - 7, "XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static const char *name_at(struct symbols_image *im, uint64_t address)
{
    struct symbols_frame f;
    return symbols_lookup(im, address, &f, 1) == 1 ? f.name : "";
}

static void reads_kernel_symbols(void **state)
{
    (void)state;
    struct symbols *s = fresh();
    struct symbols_image *im;
    struct fscope_error err;
    char *path = write_file("ffffffff81000000 T _stext\nffffffff81000000 t other\n"
                            "ffffffff81000100 D data\nffffffff81000200 t schedule\n"
                            "ffffffffc0000000 t hook\t[mod]\n");
    assert_int_equal(symbols_open_kernel(s, &im, path, &err), 0);
    unlink(path);
    assert_string_equal(name_at(im, 0xffffffff81000010), "_stext");
    assert_string_equal(name_at(im, 0xffffffff81000210), "schedule");
    assert_string_equal(name_at(im, 0xffffffffc0000001), "hook");
    assert_string_equal(name_at(im, 0x1000), "");
    // What an unprivileged user sees.
    path = write_file("0000000000000000 T _stext\n0000000000000000 t schedule\n");
    struct symbols *other = fresh();
    assert_int_equal(symbols_open_kernel(other, &im, path, &err), -EACCES);
    assert_non_null(strstr(err.text, "kptr_restrict"));
    unlink(path);
    symbols_free(other);
    symbols_free(s);
}

static void reads_a_hostile_perf_map(void **state)
{
    (void)state;
    struct symbols *s = fresh();
    struct symbols_image *im;
    char *path = write_file("garbage\n\n7f00 10 one\n7f00 10 newer\nffffffffffffffff 10 wraps\n"
                            "7f20\n7f20 \n7f30 0 empty\n7f40 10 with spaces (x)\n7f45 10 overlap\n"
                            "7f60 10 cut off in the mid");
    assert_int_equal(symbols_open_perf_map(s, &im, path, NULL), 0);
    unlink(path);
    assert_string_equal(name_at(im, 0x7f05), "newer");
    assert_string_equal(name_at(im, 0x7f10), "");
    assert_string_equal(name_at(im, 0x7f42), "with spaces (x)");
    assert_string_equal(name_at(im, 0x7f46), "overlap");
    assert_string_equal(name_at(im, 0x7f30), "");
    // A link could show us what the target may not read.
    assert_int_equal(symlink("/etc/passwd", path), 0);
    struct symbols *other = fresh();
    assert_int_equal(symbols_open_perf_map(other, &im, path, NULL), -ELOOP);
    symbols_free(other);
    unlink(path);
    symbols_free(s);
}

static void refuses_what_is_not_elf(void **state)
{
    (void)state;
    struct symbols *s = fresh();
    struct symbols_image *im;
    struct fscope_error err;
    assert_int_equal(symbols_open_path(s, &im, "/etc/passwd", NULL, &err), -ENOEXEC);
    assert_int_equal(symbols_open_path(s, &im, "/etc", NULL, &err), -ENOEXEC);
    assert_int_equal(symbols_open_path(s, &im, "/nowhere", NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere"));
    assert_int_equal(symbols_open_path(s, &im, "/bin/sh", "00112233", &err), -ESTALE);
    assert_int_equal(symbols_open_build_id(s, &im, "../../etc/passwd", &err), -ENOENT);
    symbols_free(s);
    symbols_free(NULL);
}

static void knows_debian_packages(void **state)
{
    (void)state;
    char name[128];
    bool archive;
    assert_int_equal(symbols_debian_package("/nowhere/x", name, sizeof name, NULL), -ENOENT);
    if (access("/var/lib/dpkg/info", R_OK))
        return; // another distribution
    // What is installed is not advised.
    bool has_it = access("/var/lib/dpkg/info/libc6-dbg:amd64.list", F_OK) == 0;
    assert_int_equal(
        symbols_debian_package("/lib/x86_64-linux-gnu/libc.so.6", name, sizeof name, &archive),
        has_it ? -ENOENT : 0);
    if (!has_it)
        assert_string_equal(name, "libc6-dbg");
    assert_false(archive);
    assert_int_equal(symbols_debian_package("/usr/bin/gzip", name, sizeof name, &archive), 0);
    assert_string_equal(name, "gzip-dbgsym");
    assert_true(archive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demangles),
        cmocka_unit_test(hostile_names_end),
        cmocka_unit_test(names_the_vdso),
        cmocka_unit_test(reads_kernel_symbols),
        cmocka_unit_test(reads_a_hostile_perf_map),
        cmocka_unit_test(refuses_what_is_not_elf),
        cmocka_unit_test(knows_debian_packages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
