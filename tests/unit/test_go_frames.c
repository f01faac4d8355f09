// SPDX-License-Identifier: MIT
//
// Rows that are made of a Go program's table. The files are made by hand, byte for byte as go_frames.h's sources say; whole
// programs are walked in e2e/ebpf_oracles.py. A hostile table is work of known size.

#include "collector/go_frames.h"
#include "collector/perf_elf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT UINT64_C(0x401000)

static void load(struct perf_elf *e, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", CORPUS, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct perf_elf_source source = {.fd = fd};
    assert_int_equal(perf_elf_load(e, &source), 0);
    close(fd);
}

static struct unwind_row row_at(const struct perf_elf *e, uint64_t pc)
{
    struct unwind_row row = {0};
    assert_int_equal(unwind_find_row(&e->tables, pc, &row), UNWIND_OK);
    return row;
}

static void assert_by_rsp(const struct perf_elf *e, uint64_t pc, int cfa, bool has_rbp)
{
    struct unwind_row row = row_at(e, pc);
    assert_true(row.cfa == UNWIND_CFA_RSP && row.cfa_offset == cfa && !row.is_signal_frame);
    assert_true(row.ra == UNWIND_AT_CFA && row.ra_offset == -8);
    assert_int_equal(row.rbp, has_rbp ? UNWIND_AT_CFA : UNWIND_SAME);
    assert_true(!has_rbp || row.rbp_offset == -16);
}

static void assert_by_rbp(const struct perf_elf *e, uint64_t pc)
{
    struct unwind_row row = row_at(e, pc);
    assert_true(row.cfa == UNWIND_CFA_RBP && row.cfa_offset == 16 && row.is_signal_frame);
    assert_true(row.ra_offset == -8 && row.rbp == UNWIND_AT_CFA && row.rbp_offset == -16);
}

static void check(const struct perf_elf *e, uint64_t text)
{
    struct unwind_row row;
    // main.main: 2 bytes of entry, a push, a frame of 128 bytes, back, and from 44 on its return.
    assert_by_rsp(e, text + 48, 8, false);
    assert_by_rsp(e, text + 50, 16, true);
    assert_by_rsp(e, text + 52, 144, true);
    assert_by_rsp(e, text + 87, 144, true);
    assert_by_rsp(e, text + 88, 16, true);
    assert_by_rsp(e, text + 95, 8, false);
    // Stacks begin there.
    assert_int_equal(row_at(e, text + 1).cfa, UNWIND_CFA_END);   // goexit
    assert_int_equal(row_at(e, text + 192).cfa, UNWIND_CFA_END); // mcall
    // time.now is on the scheduler's stack, once it has a frame; systemstack has none.
    assert_by_rsp(e, text + 96, 8, false);
    assert_by_rbp(e, text + 100);
    assert_by_rbp(e, text + 151);
    assert_by_rsp(e, text + 152, 8, false);
    assert_by_rbp(e, text + 160);
    // A handler returns to sigreturn's first byte, which is looked up one before.
    for (uint64_t pc = text + 223; pc < text + 240; pc++) {
        row = row_at(e, pc);
        assert_true(row.cfa == UNWIND_CFA_SIGNAL && row.cfa_offset == 160 && row.is_signal_frame);
        assert_true(row.ra == UNWIND_AT_RSP && row.ra_offset == 168);
        assert_true(row.rbp == UNWIND_AT_RSP && row.rbp_offset == 120);
    }
    // Frames of a size that cannot be.
    assert_int_equal(unwind_find_row(&e->tables, text + 240, &row), UNWIND_NOT_COVERED);
    assert_int_equal(unwind_find_row(&e->tables, text + 255, &row), UNWIND_NOT_COVERED);
}

static void each_version_has_its_rows(void **state)
{
    struct perf_elf e;
    (void)state;
    load(&e, "go_120");
    check(&e, TEXT);
    perf_elf_finish(&e);
    load(&e, "go_118");
    check(&e, TEXT);
    perf_elf_finish(&e);
}

// C code comes first, with tables of its own, and Go's begins where nothing but its bytes tells.
static void beside_c_both_have_theirs(void **state)
{
    struct perf_elf e;
    (void)state;
    load(&e, "go_beside_c");
    assert_by_rsp(&e, TEXT, 8, false);
    assert_by_rsp(&e, TEXT + 63, 8, false);
    check(&e, TEXT + 64);
    perf_elf_finish(&e);
}

// --- A table that wants much to be done.

enum {
    PAGE = 4096,
    FUNCTIONS = 3,
    FUNC_BYTES = 64,
    NAMES = 512,
    SEARCHED_MAX = (1 << 28) + (1 << 20)
};

static uint64_t bytes_read;

// A file of zeros; who reads on is stopped, and found out.
static int read_zeros(void *arg, uint64_t address, void *out, size_t n)
{
    (void)arg, (void)address;
    bytes_read += n;
    memset(out, 0, n);
    return bytes_read > SEARCHED_MAX;
}

static void put(uint8_t *at, uint64_t v, size_t bytes)
{
    memcpy(at, &v, bytes);
}

// Its first name ends nowhere: behind its first 64 bytes lies what cannot be read. And goexit is nowhere in a terabyte of code.
static void a_hostile_table_is_work_of_known_size(void **state)
{
    static const char *const names[FUNCTIONS] = {NULL, "runtime.goexit", "runtime.goexit1"};
    uint8_t *p = mmap(NULL, 2 * (size_t)PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct go_frames made;
    (void)state;
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(mprotect(p, PAGE, PROT_READ | PROT_WRITE), 0);
    memset(p, 'x', PAGE);
    memcpy(p, "\xf1\xff\xff\xff\0\0\1\x08", 8);
    put(p + 8, FUNCTIONS, 8);
    put(p + 32, NAMES, 8);
    put(p + 56, 1024, 8); // rows
    put(p + 64, 128, 8);  // pairs of a start and where its function lies
    for (unsigned i = 0, name = 0; i <= FUNCTIONS; i++) {
        uint8_t *f = p + 128 + 128 + (size_t)i * FUNC_BYTES;
        put(p + 128 + 8 * (size_t)i, 16 * i, 4);
        put(p + 128 + 8 * (size_t)i + 4, 128 + i * FUNC_BYTES, 4);
        if (i == FUNCTIONS)
            break;
        put(f + 4, names[i] ? name : PAGE - 64 - NAMES, 4);
        put(f + 16, 8, 4);
        if (names[i]) {
            memcpy(p + NAMES + name, names[i], strlen(names[i]) + 1);
            name += 32;
        }
    }
    const struct go_frames_source source = {
        .bytes = p,
        .size = 2 * (size_t)PAGE,
        .text = TEXT,
        .text_size = UINT64_C(1) << 40,
        .bytes_max = 1 << 20,
        .read = read_zeros,
    };
    assert_int_equal(go_frames_make(&made, &source), -ENOENT);
    assert_true(bytes_read > 1 << 20 && bytes_read <= SEARCHED_MAX);
    munmap(p, 2 * (size_t)PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_version_has_its_rows),
        cmocka_unit_test(beside_c_both_have_theirs),
        cmocka_unit_test(a_hostile_table_is_work_of_known_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
