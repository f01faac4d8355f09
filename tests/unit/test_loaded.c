// SPDX-License-Identifier: MIT
//
// Where a file is loaded, of all the places where it is mapped: layouts as linkers make them, and this process, which loads its
// libc twice.

#include "collector/loaded.h"
#include "collector/perf_elf.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { R = PF_R, X = PF_R | PF_X, W = PF_R | PF_W };

#define BASE     UINT64_C(0x7f0000100000)
#define BELOW    UINT64_C(0x7f0000000000)
#define COUNT(a) (sizeof(a) / sizeof *(a))

// As GNU ld does it: each segment on pages of its own, .bss at the end.
static const Elf64_Phdr usual[] = {
    {.p_type = PT_LOAD, .p_flags = R, .p_offset = 0, .p_vaddr = 0, .p_filesz = 0x600},
    {.p_type = PT_LOAD, .p_flags = X, .p_offset = 0x1000, .p_vaddr = 0x1000, .p_filesz = 0x1800},
    {.p_type = PT_LOAD, .p_flags = R, .p_offset = 0x3000, .p_vaddr = 0x3000, .p_filesz = 0x200},
    {.p_type = PT_LOAD,
     .p_flags = W,
     .p_offset = 0x3d00,
     .p_vaddr = 0x4d00,
     .p_filesz = 0x400,
     .p_memsz = 0x2000},
};

// As lld does it: they share a page of the file.
static const Elf64_Phdr packed[] = {
    {.p_type = PT_LOAD, .p_flags = R, .p_offset = 0, .p_vaddr = 0, .p_filesz = 0x5f4},
    {.p_type = PT_LOAD, .p_flags = X, .p_offset = 0x600, .p_vaddr = 0x1600, .p_filesz = 0x400},
    {.p_type = PT_LOAD,
     .p_flags = W,
     .p_offset = 0xa00,
     .p_vaddr = 0x2a00,
     .p_filesz = 0x100,
     .p_memsz = 0x100},
};

static int file_of(const Elf64_Phdr *p, size_t count)
{
    Elf64_Ehdr h = {.e_phoff = sizeof h, .e_phentsize = sizeof *p, .e_phnum = (Elf64_Half)count};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    h.e_ident[EI_VERSION] = EV_CURRENT;
    h.e_machine = EM_X86_64;
    h.e_type = ET_DYN;
    int fd = memfd_create("object", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &h, sizeof h), sizeof h);
    assert_int_equal(write(fd, p, count * sizeof *p), count * sizeof *p);
    return fd;
}

static int find(const Elf64_Phdr *p, size_t segments, const struct loaded_map *maps, size_t count,
                struct loaded *out)
{
    int fd = file_of(p, segments);
    int rc = loaded_find(out, maps, count, fd, 0);
    close(fd);
    return rc;
}

#define LOADED                                                                                     \
    {BASE, BASE + 0x1000, 0, false}, {BASE + 0x1000, BASE + 0x3000, 0x1000, true},                 \
        {BASE + 0x3000, BASE + 0x4000, 0x3000, false},                                             \
    {                                                                                              \
        BASE + 0x4000, BASE + 0x6000, 0x3000, false                                                \
    }

static void a_plain_map_is_no_loaded_one(void **state)
{
    (void)state;
    const struct loaded_map below[] = {{BELOW, BELOW + 0x9000, 0, false}, LOADED};
    const struct loaded_map code_below[] = {{BELOW, BELOW + 0x9000, 0, true}, LOADED};
    const struct loaded_map text_below[] = {{BELOW, BELOW + 0x2000, 0x1000, true}, LOADED};
    const struct loaded_map above[] = {LOADED, {BASE + 0x10000, BASE + 0x19000, 0, false}};
    const struct loaded_map *all[] = {below, code_below, text_below, above};
    struct loaded l;
    for (size_t i = 0; i < COUNT(all); i++) {
        assert_int_equal(find(usual, COUNT(usual), all[i], COUNT(below), &l), 0);
        assert_int_equal(l.bias, BASE);
        assert_int_equal(l.start, BASE);
        assert_int_equal(l.end, BASE + 0x7000);
    }
    assert_int_equal(find(usual, COUNT(usual), below, 1, &l), -ENOENT);
    assert_int_equal(find(usual, COUNT(usual), below, 0, &l), -ENOENT);
}

static void segments_may_share_pages_of_the_file(void **state)
{
    (void)state;
    const struct loaded_map maps[] = {{BELOW, BELOW + 0x1000, 0, false},
                                      {BASE, BASE + 0x1000, 0, false},
                                      {BASE + 0x1000, BASE + 0x2000, 0, true},
                                      {BASE + 0x2000, BASE + 0x3000, 0, false}};
    struct loaded l;
    assert_int_equal(find(packed, COUNT(packed), maps, COUNT(maps), &l), 0);
    assert_int_equal(l.bias, BASE);
    // So it is by the map of its code alone, by which stacks are walked.
    struct perf_elf e;
    uint64_t bias = 0;
    const struct perf_elf_source source = {.fd = file_of(packed, COUNT(packed))};
    assert_int_equal(perf_elf_load(&e, &source), 0);
    assert_int_equal(perf_elf_bias(&e, maps[2].start, maps[2].offset, &bias), 0);
    assert_int_equal(bias, BASE);
    perf_elf_finish(&e);
    close(source.fd);
}

static void code_may_be_on_huge_pages_of_no_file(void **state)
{
    (void)state;
    const struct loaded_map maps[] = {{BELOW, BELOW + 0x9000, 0, false},
                                      {BASE, BASE + 0x1000, 0, false},
                                      {BASE + 0x3000, BASE + 0x4000, 0x3000, false},
                                      {BASE + 0x4000, BASE + 0x6000, 0x3000, false}};
    struct loaded l;
    assert_int_equal(find(usual, COUNT(usual), maps, COUNT(maps), &l), 0);
    assert_int_equal(l.bias, BASE);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    Elf64_Phdr wild[] = {usual[0], usual[1], usual[3]};
    const struct loaded_map maps[] = {LOADED};
    struct loaded l;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(loaded_find(&l, maps, COUNT(maps), fd, 0), -ENOEXEC);
    close(fd);
    for (int i = 0; i < 3; i++)
        wild[i].p_vaddr = wild[i].p_memsz = UINT64_MAX - 1;
    find(wild, COUNT(wild), maps, COUNT(maps), &l);
    assert_int_equal(find(usual, 0, maps, COUNT(maps), &l), -ENOEXEC);
}

static size_t read_maps(const char *file, struct loaded_map *out, size_t max)
{
    char line[4400];
    size_t n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (n < max && fgets(line, sizeof line, f)) {
        unsigned long long start, end, offset;
        char access[5];
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%llx-%llx %4s %llx", &start, &end, access, &offset) == 4 &&
            strchr(line, '/') && !strcmp(strchr(line, '/'), file))
            out[n++] = (struct loaded_map){start, end, offset, access[2] == 'x'};
    }
    fclose(f);
    return n;
}

static void of_two_that_are_loaded_it_is_the_linked_one(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); // its libc may not be loaded twice
#endif
    struct loaded_map maps[64];
    struct loaded l;
    Dl_info info;
    struct link_map *own = NULL;
    assert_true(dladdr1((void *)(uintptr_t)getpid, &info, (void **)&own, RTLD_DL_LINKMAP));
    void *other = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    struct link_map *second = other;
    assert_non_null(other);
    char *path = realpath(own->l_name, NULL);
    assert_non_null(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = read_maps(path, maps, COUNT(maps));
    assert_true(n >= 8);
    assert_int_equal(loaded_find(&l, maps, n, fd, (uint32_t)getpid()), 0);
    assert_int_equal(l.bias, own->l_addr);
    assert_true(loaded_is_linked((uint32_t)getpid(), own->l_addr));
    assert_false(loaded_is_linked((uint32_t)getpid(), second->l_addr));
    // The other one is the first that would be found.
    assert_true(second->l_addr < own->l_addr);
    assert_int_equal(loaded_find(&l, maps, n, fd, 0), 0);
    assert_int_equal(l.bias, second->l_addr);
    close(fd);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_map_is_no_loaded_one),
        cmocka_unit_test(segments_may_share_pages_of_the_file),
        cmocka_unit_test(code_may_be_on_huge_pages_of_no_file),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(of_two_that_are_loaded_it_is_the_linked_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
