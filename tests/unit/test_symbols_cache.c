// SPDX-License-Identifier: MIT
//
// The symbol cache gives the same answers as the debug info, and a cache file that was cut, flipped
// or forged outside of its checksum is as one that is not there.

#include "symbols/symbols.h"

#include <dirent.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/fscope-cache-XXXXXX";
static char path[600];

__attribute__((noinline)) static int remembered_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 5;
}

static int find_base(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(uint64_t *)arg = info->dlpi_addr;
    return 1;
}

// Asks for one address; true if the answer is the right one. name gets the name.
static bool ask(bool no_cache, char *name, size_t size)
{
    uint64_t base = 0;
    dl_iterate_phdr(find_base, &base);
    struct symbols_options o = {
        .size = sizeof o, .cache_dir = dir, .no_cache = no_cache, .no_debuginfod = true};
    struct symbols *s;
    struct symbols_image *im;
    struct symbols_frame f[4];
    assert_int_equal(symbols_new(&s, &o, NULL), 0);
    assert_int_equal(symbols_open_path(s, &im, "/proc/self/exe", NULL, NULL), 0);
    uint64_t at = (uint64_t)(uintptr_t)&remembered_function - base + 1;
    int n = symbols_lookup(im, at, f, 4);
    bool right = n == 1 && !strcmp(f[0].name, "remembered_function") && f[0].start_line == 22 &&
                 f[0].line >= 22 && strstr(f[0].file, "test_symbols_cache.c");
    snprintf(name, size, "%s", n > 0 ? f[0].name : "");
    symbols_free(s);
    return right;
}

static void find_file(void)
{
    char sub[64];
    snprintf(sub, sizeof sub, "%s/symbols", dir);
    DIR *d = opendir(sub);
    assert_non_null(d);
    path[0] = '\0';
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            assert_int_equal(path[0], '\0'); // no temporary left
            snprintf(path, sizeof path, "%s/%s", sub, e->d_name);
        }
    closedir(d);
}

static size_t slurp(unsigned char *out, size_t size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, size, f);
    fclose(f);
    return n;
}

static void spill(const unsigned char *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void damage_costs_only_time(void **state)
{
    (void)state;
    static unsigned char good[65536], bad[65536];
    char name[128];
    assert_int_equal(remembered_function(1), 5);
    assert_true(ask(true, name, sizeof name));
    assert_true(ask(false, name, sizeof name)); // cold: writes
    find_file();
    assert_true(*path);
    size_t n = slurp(good, sizeof good);
    assert_in_range(n, 60, 4096);
    assert_true(ask(false, name, sizeof name)); // warm

    // It is really read: an entry renamed under a right checksum is believed.
    memcpy(bad, good, n);
    unsigned char *at = memmem(bad, n, "remembered", 10);
    assert_non_null(at);
    at[0] = 'X';
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), bad + 32, (uInt)(n - 32));
    memcpy(bad + 28, &crc, 4);
    spill(bad, n);
    assert_false(ask(false, name, sizeof name));
    assert_string_equal(name, "Xemembered_function");

    for (size_t i = 0; i < n; i++) { // flipped
        memcpy(bad, good, n);
        bad[i] ^= 0x5a;
        spill(bad, n);
        assert_true(ask(false, name, sizeof name));
    }
    for (size_t i = 0; i < n; i += 3) { // cut
        spill(good, i);
        assert_true(ask(false, name, sizeof name));
    }
    // Wild numbers under a right checksum: each 32-bit word of the body.
    for (size_t i = 16; i + 4 <= n; i += 4) {
        if (i == 28)
            continue;
        memcpy(bad, good, n);
        memset(bad + i, 0xff, 4);
        crc = (uint32_t)crc32(crc32(0, NULL, 0), bad + 32, (uInt)(n - 32));
        memcpy(bad + 28, &crc, 4);
        spill(bad, n);
        (void)ask(false, name, sizeof name); // any answer, but no crash
    }
}

static void an_unwritable_place_is_no_error(void **state)
{
    (void)state;
    char name[128];
    strcpy(dir, "/dev/null/none"); // shorter than the template
    assert_true(ask(false, name, sizeof name));
}

int main(void)
{
    assert_non_null(mkdtemp(dir));
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_costs_only_time),
        cmocka_unit_test(an_unwritable_place_is_no_error),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    return system(command) ? 1 : rc;
}
