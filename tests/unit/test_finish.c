// SPDX-License-Identifier: MIT
//
// What a target left in a dump or a black box becomes the profile of what it recorded; and the names
// of output files stay inside the folder that was asked for.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/finish.h"
#include "segment/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "finish-test-XXXXXX";

static void fill(struct seg *s)
{
    atomic_store(&s->header->control.cpu_period_ns, 10000000);
    struct seg_module m = {
        .start = 0x400000, .end = 0x500000, .path = seg_string(s, "/bin/gone", 9)};
    seg_module_add(s, &m);
    int slot = seg_thread_enter(s, 1234, "worker");
    uint32_t pair[1][2] = {{seg_string(s, "route", 5), seg_string(s, "/a", 2)}};
    uint32_t labels = seg_labels(s, pair, 1);
    uint64_t pcs[2] = {0x400100, 0x400200};
    for (int i = 0; i < 7; i++) {
        struct seg_record r = {.kind = SEG_KIND_CPU,
                               .tid = 1234,
                               .user_stack = seg_stack(s, pcs, 2, 0, 0),
                               .labels = i % 2 ? labels : 0,
                               .values = {1, 10000000}};
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
    }
}

static void check_profile(const char *path)
{
    struct pprof_profile *p = NULL;
    struct fscope_error err = {0};
    assert_true(finish_is_dump(path));
    if (finish_profile(path, NULL, &p, &err))
        fail_msg("%s", err.text);
    assert_int_equal(pprof_check(p, NULL), 0);
    int64_t count = 0;
    for (size_t i = 0; i < p->sample_count; i++)
        count += p->samples[i]->values[0];
    assert_int_equal(count, 7);
    assert_int_equal(p->sample_count, 2); // with and without the label
    assert_int_equal(p->period, 10000000);
    assert_string_equal(p->mappings[0]->file, "/bin/gone");
    pprof_free(p);
    assert_int_equal(finish_profile(path, "wall", &p, &err), -ENOENT);
}

static void a_dump_becomes_a_profile(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/dump", folder);
    struct seg s = {0};
    struct seg_options o = {.size = sizeof o};
    assert_int_equal(seg_create(&s, &o), 0);
    fill(&s);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(seg_dump(&s, fd), 0);
    close(fd);
    seg_close(&s);
    check_profile(path);

    // Cut anywhere, it is an error or a part, never a crash and never more than there was.
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t size = st.st_size; size > 0; size = size * 9 / 10) {
        struct record_result result;
        assert_int_equal(truncate(path, size), 0);
        if (finish_read(path, &result, NULL) == 0 && result.builders[RECORD_CPU]) {
            struct builder_stats stats;
            builder_get_stats(result.builders[RECORD_CPU], &stats);
            assert_true(stats.samples <= 7);
        }
        record_result_free(&result);
    }
}

static void a_black_box_survives_its_process(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/box", folder);
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s = {0};
        struct seg_options o = {.size = sizeof o, .path = path};
        if (seg_create(&s, &o))
            _exit(1);
        fill(&s);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    check_profile(path);
    check_profile(path); // reading has not used it up
}

// A segment too small for what happens: every weight is in the profile, and it says what is not.
static void losses_are_told_in_words(void **state)
{
    (void)state;
    char box[64], text[4096] = "";
    snprintf(box, sizeof box, "%s/box", folder);
    unlink(box);
    struct seg s = {0};
    struct seg_options o = {.size = sizeof o,
                            .path = box,
                            .threads = 1,
                            .modules = 1,
                            .state = 16,
                            .stacks = 16,
                            .ring_bytes = 512, // 6 records
                            .stack_arena_bytes = 4096};
    assert_int_equal(seg_create(&s, &o), 0);
    fill(&s);
    struct seg_module m = {.start = 0x500000, .end = 0x600000};
    assert_true(seg_module_add(&s, &m) < 0);
    // Thread 1234 is gone, so its slot is to be had; then there is none.
    assert_int_equal(seg_thread_enter(&s, (uint32_t)getpid(), "self"), 0);
    assert_true(seg_thread_enter(&s, 4321, "late") < 0);
    uint64_t lost = 0, calls = 0;
    for (uint64_t pc = 0x400000; pc < 0x400100; pc++, calls++) {
        struct seg_record r = {.kind = SEG_KIND_CPU,
                               .tid = 1234,
                               .user_stack = seg_stack(&s, &pc, 1, 0, 0),
                               .values = {1, 10000000}};
        lost += r.user_stack == 0;
        seg_record_put(&s, 0, SEG_CONTEXT_SIGNAL, &r);
    }
    atomic_store(&s.header->losses.collapsed, 5);
    assert_true(lost > 100);

    char folded[64], stacks[64], told[sizeof text];
    snprintf(folded, sizeof folded, "%d samples without thread and time", (int)calls + 1);
    snprintf(stacks, sizeof stacks, "%d stacks did not fit", (int)lost);
    FILE *messages = fmemopen(text, sizeof text, "w");
    char out[64];
    snprintf(out, sizeof out, "%s/out", folder);
    struct record_options ro;
    record_options_init(&ro);
    ro.output = out;
    ro.messages = messages;
    ro.symbolize = false;
    struct record_result result;
    struct fscope_error err = {0};
    seg_close(&s);
    assert_int_equal(finish_read(box, &result, &err), 0);
    assert_int_equal(record_write(&ro, &result, &err), 0);
    record_result_free(&result);
    fclose(messages);
    struct pprof_profile *p = NULL;
    assert_int_equal(pprof_read_file(&p, out, NULL, &err), 0);
    const char *comment = "";
    for (size_t i = 0; i < p->comment_count; i++)
        if (strncmp(p->comments[i], "losses: ", 8) == 0)
            comment = p->comments[i];
    snprintf(told, sizeof told, "%s", comment);
    const char *const both[] = {text, told};
    for (int i = 0; i < 2; i++) {
        assert_non_null(strstr(both[i], folded));
        assert_non_null(strstr(both[i], stacks));
        assert_non_null(strstr(both[i], "samples without a stack ([stack lost])"));
        assert_non_null(strstr(both[i], "1 time a thread found no slot"));
        assert_non_null(strstr(both[i], "1 mapped file did not fit"));
    }
    assert_non_null(strstr(told, "5 CPU periods without a sample of their own"));
    assert_null(strstr(text, "CPU periods")); // usual: 5 of 263
    int64_t count = 0;
    for (size_t i = 0; i < p->sample_count; i++)
        count += p->samples[i]->values[0];
    assert_int_equal(count, 7 + calls);
    pprof_free(p);
}

static void other_files_are_told_apart(void **state)
{
    (void)state;
    struct pprof_profile *p = NULL;
    struct fscope_error err = {0};
    assert_false(finish_is_dump("/etc/passwd"));
    assert_false(finish_is_dump("/proc/self/exe")); // ELF, but no core
    assert_false(finish_is_dump("/nonexistent"));
    assert_true(finish_profile("/etc/passwd", NULL, &p, &err) < 0);
    assert_true(strlen(err.text) > 0);
}

static void output_names(void **state)
{
    (void)state;
    struct record_result r = {.program = "../evil\n", .pid = 42};
    struct fscope_error err;
    char path[256];
    assert_int_equal(record_path(path, sizeof path, NULL, &r, "cpu", &err), 0);
    assert_string_equal(path, ".._evil_.42.cpu.pb.gz");
    strcpy(r.program, "xz");
    assert_int_equal(record_path(path, sizeof path, "a/%e-%p-%k-%%.gz", &r, "wall", &err), 0);
    assert_string_equal(path, "a/xz-42-wall-%.gz");
    assert_int_equal(record_path(path, sizeof path, folder, &r, "cpu", &err), 0);
    assert_non_null(strstr(path, "/xz.42.cpu.pb.gz"));
    assert_int_equal(record_path(path, sizeof path, "out/", &r, "cpu", &err), 0);
    assert_string_equal(path, "out/xz.42.cpu.pb.gz");
    assert_int_equal(record_path(path, sizeof path, "%x", &r, "cpu", &err), -EINVAL);
    assert_int_equal(record_path(path, sizeof path, "%", &r, "cpu", &err), -EINVAL);
    assert_int_equal(record_path(path, 8, "12345678", &r, "cpu", &err), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dump_becomes_a_profile),
        cmocka_unit_test(a_black_box_survives_its_process),
        cmocka_unit_test(losses_are_told_in_words),
        cmocka_unit_test(other_files_are_told_apart),
        cmocka_unit_test(output_names),
    };
    if (!mkdtemp(folder))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[64];
    const char *const files[] = {"dump", "box", "out"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    return failed;
}
