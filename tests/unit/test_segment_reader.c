// SPDX-License-Identifier: MIT
//
// The reader reads what dead processes left (black box, dump, core file) and refuses damage with a
// sentence, never with a crash: wrong version, cut file, a writer that scribbles while it reads.

#include "segment/consumer.h"
#include "segment/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

enum { RECORDS = 300 };

static const struct seg_options options = {.size = sizeof options,
                                           .threads = 4,
                                           .modules = 4,
                                           .state = 64,
                                           .stacks = 1024,
                                           .ring_bytes = 32768,
                                           .stack_arena_bytes = 65536,
                                           .blob_arena_bytes = 4096};

static void record(struct seg *s, int slot, uint32_t n)
{
    uint64_t pcs[3] = {n, n + 1, n + 2};
    uint32_t pair[1][2] = {{seg_string(s, "k", 1), seg_string(s, "v", 1)}};
    struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .object = n, .values = {1, n}};
    r.user_stack = seg_stack(s, pcs, 3, 0, 0);
    r.labels = seg_labels(s, pair, 1);
    seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
}

static void fill(struct seg *s)
{
    struct seg_module m = {.start = 1, .end = 2, .path = seg_string(s, "/bin/true", 9)};
    int slot = seg_thread_enter(s, 1, "filler");
    seg_module_add(s, &m);
    for (uint32_t n = 0; n < RECORDS; n++)
        record(s, slot, n);
    seg_state_add(s, SEG_KIND_HEAP, 1, 0, 0, (uint64_t[4]){2, 128, 0, 0});
}

struct check {
    struct seg_reader *r;
    uint32_t next;
    bool is_exact;
};

static int check_record(void *arg, const struct seg_record *rec)
{
    struct check *c = arg;
    uint64_t pcs[8];
    uint32_t pairs[2][2];
    char text[8];
    assert_int_equal(rec->object, c->next);
    c->next++;
    assert_int_equal(seg_reader_stack(c->r, rec->user_stack, pcs, 8, NULL, NULL, NULL), 3);
    assert_int_equal(pcs[2], rec->object + 2);
    assert_int_equal(seg_reader_labels(c->r, rec->labels, pairs, 2), 1);
    assert_int_equal(seg_reader_string(c->r, pairs[0][1], text, sizeof text), 1);
    assert_string_equal(text, "v");
    return 0;
}

static int check_state(void *arg, const struct seg_state *e, uint32_t index)
{
    (void)index;
    (void)arg;
    assert_int_equal(e->kind, SEG_KIND_HEAP);
    assert_int_equal(e->values[1], 128);
    return 0;
}

static int check_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)arg;
    assert_int_equal(m->end, 2);
    assert_string_equal(path, "/bin/true");
    return 0;
}

static struct seg_reader *open_file(const char *path)
{
    struct seg_reader *r = NULL;
    struct fscope_error err = {0};
    if (seg_reader_open_file(&r, path, &err))
        fail_msg("%s", err.text);
    return r;
}

static void expect_all(const char *path)
{
    struct check c = {.r = open_file(path)};
    uint64_t damaged = 0;
    assert_int_equal(seg_reader_drain(c.r, check_record, &c, &damaged), RECORDS);
    assert_int_equal(damaged, 0);
    assert_int_equal(seg_reader_states(c.r, check_state, NULL), 1);
    assert_int_equal(seg_reader_modules(c.r, check_module, NULL), 1);
    seg_reader_close(c.r);
}

static char *temp_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "segment-test.%d.%s", (int)getpid(), name);
    unlink(path);
    return path;
}

static void black_box_outlives_sigkill(void **state)
{
    (void)state;
    struct seg_options o = options;
    o.path = temp_path("box");
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s;
        if (seg_create(&s, &o))
            _exit(1);
        fill(&s);
        raise(SIGKILL);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    expect_all(o.path);
    expect_all(o.path); // reading changed nothing

    struct seg s; // a new process gets the name, the old data stays
    char aside[300];
    snprintf(aside, sizeof aside, "%s.%d", o.path, (int)pid);
    assert_int_equal(seg_create(&s, &o), 0);
    expect_all(aside);
    struct seg other;
    assert_int_equal(seg_create(&other, &o), -EEXIST); // its owner, we, lives
    assert_int_equal(truncate(o.path, 5000), 0);       // read only through the descriptor from here
    struct seg_reader *r = NULL;
    struct fscope_error err;
    assert_int_equal(seg_reader_open(&r, dup(s.fd), &err), -EINVAL);
    seg_close(&s);
    assert_int_equal(unlink(aside), 0);
    assert_int_equal(unlink(o.path), 0);

    int fd = open(o.path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(seg_create(&s, &o), -EEXIST);
    struct stat st;
    assert_int_equal(stat(o.path, &st), 0);
    assert_int_equal(st.st_size, 8);
    unlink(o.path);
    mkfifo(o.path, 0600);
    assert_int_equal(seg_create(&s, &o), -EEXIST);
    unlink(o.path);
}

static void dump_to(const struct seg *s, const char *path)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_int_equal(seg_dump(s, fd), 0);
    close(fd);
}

static void dump_has_everything(void **state)
{
    (void)state;
    struct seg s;
    const char *path = temp_path("dump");
    struct stat st;
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&s);
    dump_to(&s, path);
    expect_all(path);
    seg_close(&s);
    assert_int_equal(seg_create(&s, NULL), 0); // default sizes: the sparse parts are left out
    fill(&s);
    dump_to(&s, path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < (off_t)s.bytes / 20);
    expect_all(path);
    for (off_t cut = st.st_size; cut > 0; cut -= 4999) { // cut anywhere: an error or what there is
        struct seg_reader *r = NULL;
        struct fscope_error err = {0};
        assert_int_equal(truncate(path, cut), 0);
        if (seg_reader_open_file(&r, path, &err))
            assert_true(strlen(err.text) > 10);
        seg_reader_close(r);
    }
    seg_close(&s);
    unlink(path);
}

static _Atomic int stop;

static void *keep_recording(void *arg)
{
    struct seg *s = arg;
    int slot = seg_thread_enter(s, 1, "busy");
    for (uint32_t n = 0; !stop; n++) {
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .object = n, .values = {1, n}};
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
    }
    return NULL;
}

static int in_order(void *arg, const struct seg_record *r)
{
    uint64_t *last = arg;
    if (r->values[1] != r->object || r->object < *last)
        fail_msg("record %llu torn or out of order", (unsigned long long)r->object);
    *last = r->object;
    return 0;
}

static void dump_while_recording_and_draining(void **state)
{
    (void)state;
    struct seg s;
    pthread_t t;
    const char *path = temp_path("busy");
    assert_int_equal(seg_create(&s, &options), 0);
    struct seg_reader *live = NULL;
    assert_int_equal(seg_reader_open(&live, dup(s.fd), NULL), 0);
    pthread_create(&t, NULL, keep_recording, &s);
    uint64_t drained = 0;
    for (int i = 0; i < 50; i++) {
        uint64_t last = 0, damaged = 0;
        seg_reader_drain(live, in_order, &drained, NULL);
        dump_to(&s, path);
        struct seg_reader *r = open_file(path);
        seg_reader_drain(r, in_order, &last, &damaged);
        assert_int_equal(damaged, 0);
        seg_reader_close(r);
    }
    stop = 1;
    pthread_join(t, NULL);
    seg_reader_close(live);
    seg_close(&s);
    unlink(path);
}

static void core_file_has_the_segment(void **state)
{
    (void)state;
    char command[600], core[300];
    const char *sanitizer = getenv("FSCOPE_SANITIZE");
    if (sanitizer && (strstr(sanitizer, "thread") || strstr(sanitizer, "address")))
        SKIP_CASE("gcore would write the sanitizer's shadow");
    const char *path = temp_path("core");
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s;
        if (seg_create(&s, &options))
            _exit(1);
        fill(&s);
        for (;;)
            pause();
    }
    struct timespec wait = {0, 300000000};
    nanosleep(&wait, NULL);
    snprintf(command, sizeof command,
             "gdb -nx -q -batch -p %d -ex 'gcore %s' </dev/null >%s.log 2>&1", (int)pid, path,
             path);
    int rc = system(command);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    snprintf(core, sizeof core, "%s.log", path);
    unlink(core);
    if (rc || access(path, R_OK))
        SKIP_CASE("gdb cannot make a core here (package gdb)");
    expect_all(path);
    unlink(path);
}

static void write_at(int fd, off_t offset, uint32_t value)
{
    assert_int_equal(pwrite(fd, &value, sizeof value, offset), sizeof value);
}

static int open_damaged(struct seg *s, off_t offset, uint32_t value, char *text)
{
    struct seg_reader *r = NULL;
    struct fscope_error err = {0};
    uint32_t old;
    assert_int_equal(pread(s->fd, &old, sizeof old, offset), sizeof old);
    write_at(s->fd, offset, value);
    int rc = seg_reader_open(&r, dup(s->fd), &err);
    seg_reader_close(r);
    write_at(s->fd, offset, old);
    snprintf(text, 400, "%s", err.text);
    return rc;
}

// Its sender could not write into it; we could.
static void what_may_only_be_read_is_not_opened_for_writing(void **state)
{
    (void)state;
    struct seg s;
    struct seg_reader *r = NULL;
    char path[40];
    assert_int_equal(seg_create(&s, &options), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", s.fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(seg_reader_open(&r, fd, NULL), -EPERM);
    assert_null(r);
    seg_close(&s);
}

static void damaged_headers_are_named(void **state)
{
    (void)state;
    struct seg s;
    char text[400];
    assert_int_equal(seg_create(&s, &options), 0);
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, version), 9, text), -EPROTO);
    assert_non_null(strstr(text, "version 9"));
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, magic), 9, text), -EINVAL);
    assert_non_null(strstr(text, "not a Fiberscope segment"));
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, ready), 0, text), -EAGAIN);
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, total_bytes), 1u << 30, text),
                     -EINVAL);
    assert_non_null(strstr(text, "only"));
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, ring_bytes), 3, text), -EINVAL);
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, thread_count), 1u << 31, text),
                     -EINVAL);
    assert_int_equal(open_damaged(&s, offsetof(struct seg_header, areas) + 16, 7, text), -EINVAL);
    assert_int_equal(open_damaged(&s, (off_t)s.header->areas[SEG_AREA_STACKS].offset, 3, text),
                     -EINVAL);
    assert_int_equal(open_damaged(&s, 4000, 0, text), 0);
    seg_close(&s);
}

static int look(void *arg, const struct seg_record *rec)
{
    struct seg_reader *r = arg;
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    char text[64];
    seg_reader_stack(r, rec->user_stack, pcs, SEG_STACK_DEPTH_MAX, NULL, NULL, NULL);
    seg_reader_string(r, rec->labels, text, sizeof text);
    return 0;
}

static int look_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)arg;
    assert_true(m->build_id_size <= SEG_BUILD_ID_BYTES && strlen(path) < 4096);
    return 0;
}

static void scribbler_harms_only_itself(void **state)
{
    (void)state;
    struct seg s;
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&s);
    struct seg_reader *r = NULL;
    assert_int_equal(seg_reader_open(&r, dup(s.fd), NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t x = 88172645463325252u;
        uint64_t *words = (uint64_t *)(void *)s.header;
        for (;;) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            words[x % (s.bytes / 8)] = x & 1 ? x * 11 : UINT64_C(1) << (x >> 58);
        }
    }
    for (int i = 0; i < 300; i++) {
        uint64_t damaged = 0;
        assert_true(seg_reader_drain(r, look, r, &damaged) <= 8 * 510);
        assert_true(seg_reader_modules(r, look_module, NULL) <= 4);
        for (uint32_t id = 0; id < 2000; id += 7) {
            struct seg_record rec = {.user_stack = id, .labels = id};
            look(r, &rec);
        }
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    seg_reader_close(r);
    seg_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(black_box_outlives_sigkill),
        cmocka_unit_test(dump_has_everything),
        cmocka_unit_test(dump_while_recording_and_draining),
        cmocka_unit_test(core_file_has_the_segment),
        cmocka_unit_test(what_may_only_be_read_is_not_opened_for_writing),
        cmocka_unit_test(damaged_headers_are_named),
        cmocka_unit_test(scribbler_harms_only_itself),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
