// SPDX-License-Identifier: MIT
//
// A builder resolves an address against the mappings that held when it was sampled, sums equal
// samples, and tells processes and threads apart by labels.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/builder.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct builder *new_builder(void)
{
    struct builder *b = NULL;
    struct builder_options o = {
        .size = sizeof o, .kind = SEG_KIND_CPU, .period_ns = 10000000, .real_ns = 1};
    assert_int_equal(builder_new(&b, &o), 0);
    return b;
}

static void add_module(struct builder_process *p, uint64_t start, const char *path, uint64_t from,
                       uint64_t until)
{
    struct builder_module m = {.start = start,
                               .end = start + 0x1000,
                               .offset = 0x2000,
                               .path = path,
                               .build_id = "ab01",
                               .from = from,
                               .until = until,
                               .fd = -1};
    assert_int_equal(builder_module(p, &m), 0);
}

static void add(struct builder_process *p, uint32_t tid, uint64_t when, uint64_t leaf,
                uint64_t caller)
{
    uint64_t pcs[2] = {leaf, caller};
    struct builder_sample s = {
        .tid = tid, .user = pcs, .user_depth = caller ? 2 : 1, .when = when, .count = 1, .ns = 10};
    assert_int_equal(builder_add(p, &s), 0);
}

static struct pprof_profile *finish(struct builder *b)
{
    struct pprof_profile *p = NULL;
    struct fscope_error err = {0};
    assert_int_equal(builder_finish(b, 5, &p), 0);
    if (pprof_check(p, &err))
        fail_msg("%s", err.text);
    return p;
}

static const char *leaf_file(const struct pprof_sample *s)
{
    return s->locations[0]->mapping ? s->locations[0]->mapping->file : "";
}

static const struct pprof_label *label(const struct pprof_sample *s, const char *key)
{
    for (uint32_t i = 0; i < s->label_count; i++)
        if (strcmp(s->labels[i].key, key) == 0)
            return &s->labels[i];
    return NULL;
}

static void equal_samples_are_summed(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *p = builder_process(b, 7, 0, "prog");
    add_module(p, 0x10000, "/bin/prog", 0, 0);
    add(p, 7, 0, 0x10010, 0x10020);
    add(p, 7, 0, 0x10010, 0x10020);
    add(p, 7, 0, 0x10011, 0x10020);
    struct pprof_profile *q = finish(b);
    assert_int_equal(q->sample_count, 2);
    assert_int_equal(q->samples[0]->values[0], 2);
    assert_int_equal(q->samples[0]->values[1], 20);
    // The leaf is exact; the caller is the call itself, not the instruction after it.
    assert_int_equal(q->samples[0]->locations[0]->address, 0x10010);
    assert_int_equal(q->samples[0]->locations[1]->address, 0x1001f);
    assert_int_equal(q->mapping_count, 1);
    assert_int_equal(q->mappings[0]->offset, 0x2000);
    assert_string_equal(q->mappings[0]->build_id, "ab01");
    assert_int_equal(q->period, 10000000);
    assert_string_equal(q->sample_types[1].type, "cpu");
    assert_null(label(q->samples[0], "pid"));
    assert_int_equal(label(q->samples[0], "tid")->num, 7);
    pprof_free(q);
    builder_free(b);
}

static void an_address_means_what_was_mapped_then(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *p = builder_process(b, 7, 0, "prog");
    add_module(p, 0x10000, "/lib/first.so", 1, 2); // unloaded at 2
    add_module(p, 0x10000, "/lib/second.so", 3, 0);
    add(p, 1, 1, 0x10010, 0);
    add(p, 1, 2, 0x10010, 0); // between: nothing was there
    add(p, 1, 3, 0x10010, 0);
    add(p, 1, 1, 0x10020, 0); // a late sample of the first, after the second is known and cached
    add_module(p, 0x10000, "/lib/third.so", 5, 0); // replaces without an unmap
    add(p, 1, 4, 0x10030, 0);
    add(p, 1, 5, 0x10030, 0);
    struct pprof_profile *q = finish(b);
    const char *want[] = {"/lib/first.so", "", "/lib/second.so", "/lib/first.so", "/lib/second.so",
                          "/lib/third.so"};
    assert_int_equal(q->sample_count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(leaf_file(q->samples[i]), want[i]);
    struct builder_stats st;
    builder_get_stats(b, &st);
    assert_int_equal(st.samples, 6);
    assert_int_equal(st.unmapped, 1);
    pprof_free(q);
    builder_free(b);
}

static void processes_share_files_and_keep_their_samples(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *one = builder_process(b, 7, 0, "one");
    struct builder_process *two = builder_process(b, 8, 0, "two");
    add_module(one, 0x10000, "/lib/x.so", 0, 0);
    add_module(two, 0x50000, "/lib/x.so", 0, 0); // elsewhere in the other process
    add(one, 7, 0, 0x10010, 0);
    add(two, 8, 0, 0x50010, 0);
    struct pprof_profile *q = finish(b);
    assert_int_equal(q->mapping_count, 1);
    assert_int_equal(q->location_count, 1);
    assert_int_equal(q->sample_count, 2);
    assert_int_equal(label(q->samples[1], "pid")->num, 8);
    assert_string_equal(label(q->samples[1], "process")->str, "two");
    pprof_free(q);
    q = NULL;
    assert_int_equal(builder_finish_view(b, &(struct builder_view){.pid = 8}, 5, &q), 0);
    assert_int_equal(pprof_check(q, NULL), 0);
    assert_int_equal(q->sample_count, 1);
    assert_null(label(q->samples[0], "pid"));
    assert_int_equal(label(q->samples[0], "tid")->num, 8);
    // The same pid after an exec is another process, with mappings of its own.
    struct builder_process *image = builder_process(b, 8, 99, "three");
    assert_ptr_not_equal(image, two);
    add(image, 8, 0, 0x50010, 0);
    pprof_free(q);
    q = finish(b);
    assert_int_equal(q->sample_count, 3);
    assert_string_equal(leaf_file(q->samples[2]), "");
    pprof_free(q);
    builder_free(b);
}

static void kernel_frames_come_before_user_frames(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *p = builder_process(b, 7, 0, "prog");
    add_module(p, 0x10000, "/bin/prog", 0, 0);
    uint64_t user[] = {0x10010}, kernel[] = {0xffffffff81000010, 0xffffffff81000020};
    struct builder_sample s = {.tid = 1,
                               .thread = "worker",
                               .user = user,
                               .user_depth = 1,
                               .kernel = kernel,
                               .kernel_depth = 2,
                               .count = 1,
                               .ns = 10};
    assert_int_equal(builder_add(p, &s), 0);
    assert_int_equal(builder_thread(p, 1, "renamed"), 0);
    struct pprof_profile *q = finish(b);
    const struct pprof_sample *t = q->samples[0];
    assert_int_equal(t->location_count, 3);
    assert_string_equal(leaf_file(t), BUILDER_KERNEL_FILE);
    assert_int_equal(t->locations[0]->address, 0xffffffff81000010);
    assert_int_equal(t->locations[1]->address, 0xffffffff8100001f);
    assert_string_equal(t->locations[2]->mapping->file, "/bin/prog");
    assert_string_equal(q->mappings[0]->file, "/bin/prog"); // readers take it for the main binary
    assert_string_equal(label(t, "thread")->str, "renamed");
    pprof_free(q);
    builder_free(b);
}

static void a_stack_key_is_resolved_once_and_labels_split(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *p = builder_process(b, 7, 0, "prog");
    add_module(p, 0x10000, "/bin/prog", 0, 0);
    uint64_t pc = 0x10010;
    struct builder_label l[] = {{.key = "route", .value = "/a"}, {.key = "size", .number = 4}};
    struct builder_sample s = {.user = &pc, .user_depth = 1, .stack_key = 5, .count = 1, .ns = 1};
    assert_int_equal(builder_add(p, &s), 0);
    assert_int_equal(builder_add(p, &s), 0);
    s.labels = l;
    s.label_count = 2;
    assert_int_equal(builder_add(p, &s), 0);
    s.user_depth = 0; // the stack table was full
    s.stack_key = 0;
    assert_int_equal(builder_add(p, &s), 0);
    struct pprof_profile *q = finish(b);
    assert_int_equal(q->sample_count, 3);
    assert_int_equal(q->samples[0]->values[0], 2);
    assert_string_equal(label(q->samples[1], "route")->str, "/a");
    assert_int_equal(label(q->samples[1], "size")->num, 4);
    assert_string_equal(q->samples[2]->locations[0]->lines[0].function->name, "[stack lost]");
    pprof_free(q);
    builder_free(b);
}

static void a_held_descriptor_is_found_by_mapping(void **state)
{
    (void)state;
    struct builder *b = new_builder();
    struct builder_process *p = builder_process(b, 7, 0, "prog");
    for (uint32_t i = 0; i < 2; i++) { // the second is a duplicate, closed at once
        struct builder_module m = {.start = 0x1000 + i * 0x1000,
                                   .end = 0x2000 + i * 0x1000,
                                   .path = "/dev/null",
                                   .from = i,
                                   .fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
        assert_int_equal(builder_module(p, &m), 0);
    }
    add(p, 1, 0, 0x1010, 0);
    struct pprof_profile *q = finish(b);
    int fd = -1;
    uint32_t pid;
    uint64_t device, inode;
    assert_true(builder_file(b, 0, &fd, &pid, &device, &inode));
    assert_true(fd >= 0 && fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(pid, 7);
    assert_false(builder_file(b, q->mapping_count, &fd, &pid, &device, &inode));
    pprof_free(q);
    builder_free(b);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_samples_are_summed),
        cmocka_unit_test(an_address_means_what_was_mapped_then),
        cmocka_unit_test(processes_share_files_and_keep_their_samples),
        cmocka_unit_test(kernel_frames_come_before_user_frames),
        cmocka_unit_test(a_stack_key_is_resolved_once_and_labels_split),
        cmocka_unit_test(a_held_descriptor_is_found_by_mapping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
