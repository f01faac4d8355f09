// SPDX-License-Identifier: MIT
//
// What must hold of collector/perf_code.h's files: an unprivileged user's file that bears the build id of root's gives no
// names and tables to others, and what nobody gains by is shared.

#include "collector/perf_code_internal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void copy_sleep(const char *path)
{
    char command[512];
    snprintf(command, sizeof command, "cp /bin/sleep %s", path);
    assert_int_equal(system(command), 0);
}

// As the kernel tells of a mapping if it tells the build id: without the inode.
static const struct code_file *mapped(struct perf_code *c, uint64_t start, const char *path)
{
    struct perf_elf elf;
    struct perf_map m = {.file = NULL};
    uint8_t id[20];
    uint32_t code = 0;
    struct perf_elf_source source = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    assert_int_equal(perf_elf_load(&elf, &source), 0);
    while (!elf.loads[code].is_code)
        code++;
    struct perf_record r = {.type = PERF_RECORD_MMAP2,
                            .time_ns = 3,
                            .pid = (uint32_t)getpid(),
                            .tid = (uint32_t)getpid()};
    r.mmap = (struct perf_mmap){.start = start, .size = 4096, .protection = PROT_EXEC};
    r.mmap.offset = elf.loads[code].offset;
    r.mmap.path = path;
    r.mmap.build_id = id;
    r.mmap.build_id_size = (uint32_t)perf_elf_build_id(&source, id, sizeof id);
    assert_true(r.mmap.build_id_size > 0);
    assert_int_equal(perf_code_mmap(c, &r), 0);
    perf_elf_finish(&elf);
    close(source.fd);
    struct perf_process *p = perf_code_process(c, (uint32_t)getpid(), 3);
    for (size_t i = 0; i < perf_process_map_count(p) && m.start != start; i++)
        perf_process_map(p, i, &m);
    assert_int_equal(m.start, start);
    return m.file;
}

static void a_build_id_is_believed_of_its_owner_alone(void **state)
{
    struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CPU, .period_ns = 1};
    struct builder *b;
    struct perf_code *c;
    char forged[128], other[128];
    (void)state;
    snprintf(forged, sizeof forged, "/tmp/fscope-test-forged-%d", (int)getpid());
    snprintf(other, sizeof other, "/tmp/fscope-test-other-%d", (int)getpid());
    copy_sleep(forged);
    copy_sleep(other);
    if (getuid() == 0)
        assert_int_equal(chown(forged, 65534, 65534) | chown(other, 65534, 65534), 0);
    assert_int_equal(builder_new(&b, &o), 0);
    assert_int_equal(perf_code_new(&c, b), 0);
    const struct code_file *users = mapped(c, 1 << 20, forged);
    const struct code_file *roots = mapped(c, 2 << 20, "/bin/sleep");
    assert_true(users && roots && users != roots);
    assert_string_equal(perf_file_path(roots), "/bin/sleep");
    // What nobody gains by is shared.
    assert_ptr_equal(mapped(c, 3 << 20, "/bin/sleep"), roots);
    assert_ptr_equal(mapped(c, 4 << 20, "/usr/bin/sleep"), roots);
    assert_ptr_equal(mapped(c, 5 << 20, other), roots);
    unlink(forged);
    unlink(other);
    perf_code_free(c);
    builder_free(b);
}

static void all_tables_together_are_bounded(void **state)
{
    struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CPU, .period_ns = 1};
    struct builder *b;
    struct perf_code *c;
    (void)state;
    assert_int_equal(builder_new(&b, &o), 0);
    assert_int_equal(perf_code_new(&c, b), 0);
    assert_non_null(mapped(c, 1 << 20, "/bin/sleep")); // and what this program maps
    assert_true(c->table_bytes > 0 && c->no_room == 0);
    c->table_bytes_max = c->table_bytes + 100;
    assert_null(mapped(c, 2 << 20, "/bin/sh"));
    assert_int_equal(perf_code_no_room(c), 1);
    assert_true(c->table_bytes <= c->table_bytes_max);
    perf_code_free(c);
    builder_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_build_id_is_believed_of_its_owner_alone),
        cmocka_unit_test(all_tables_together_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
