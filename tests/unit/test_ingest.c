// SPDX-License-Identifier: MIT
//
// The collector's side of agent/protocol.h, with a target of the test's own: what a process recorded
// into the segment that it sent is in the profile, also when it is dead before anyone looked.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/protocol.h"
#include "collector/ingest.h"
#include "segment/producer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct builder *builder;

static struct ingest *new_ingest(uint32_t hz)
{
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CPU, .period_ns = 1000000};
    assert_int_equal(builder_new(&builder, &bo), 0);
    struct ingest_options o = {.size = sizeof o, .inherit = true};
    o.hz[RECORD_CPU] = hz;
    o.builders[RECORD_CPU] = builder;
    struct ingest *g = NULL;
    struct fscope_error err = {0};
    if (ingest_new(&g, &o, &err))
        fail_msg("%s", err.text);
    return g;
}

static int connect_to(const char *name)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path + 1, name, strlen(name));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&to,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))))
        _exit(90);
    return fd;
}

static void send_hello(int fd, int segment)
{
    struct agent_hello hello = {
        .header = {AGENT_PROTOCOL_MAGIC, AGENT_PROTOCOL_VERSION, AGENT_HELLO, sizeof hello, 0},
        .pid = (uint32_t)getpid(),
        .tid = (uint32_t)getpid(),
        .why = AGENT_WHY_START,
    };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&hello, sizeof hello};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    if (sendmsg(fd, &m, MSG_NOSIGNAL) != (ssize_t)sizeof hello)
        _exit(91);
}

// In a child: a segment with one module and `count` samples in it.
static void produce(struct seg *s, uint32_t count)
{
    struct seg_options o = {.size = sizeof o};
    if (seg_create(s, &o))
        _exit(92);
    struct seg_module m = {.start = 0x400000,
                           .end = 0x500000,
                           .path = seg_string(s, "/bin/fake", 9),
                           .build_id_size = 4,
                           .build_id = {0xde, 0xad, 0xbe, 0xef}};
    seg_module_add(s, &m);
    int slot = seg_thread_enter(s, (uint32_t)getpid(), "faker");
    uint64_t pcs[2] = {0x400100, 0x400200};
    uint32_t stack = seg_stack(s, pcs, 2, 0, 0);
    for (uint32_t i = 0; i < count; i++) {
        struct seg_record r = {.kind = SEG_KIND_CPU,
                               .tid = (uint32_t)getpid(),
                               .user_stack = stack,
                               .values = {1, 1000}};
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
    }
}

static void expect(struct ingest *g, uint64_t samples)
{
    assert_int_equal(ingest_finish(g), 0);
    struct pprof_profile *p = NULL;
    assert_int_equal(builder_finish(builder, 1, &p), 0);
    uint64_t count = 0, ns = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        count += (uint64_t)p->samples[i]->values[0];
        ns += (uint64_t)p->samples[i]->values[1];
        assert_string_equal(p->samples[i]->locations[0]->mapping->file, "/bin/fake");
        assert_string_equal(p->samples[i]->locations[0]->mapping->build_id, "deadbeef");
    }
    assert_int_equal(count, samples);
    assert_int_equal(ns, samples * 1000);
    pprof_free(p);
    ingest_free(g);
    builder_free(builder);
}

static void what_a_dead_process_recorded_is_kept(void **state)
{
    (void)state;
    // More than any ring holds: the rest is folded into state, and nothing is lost.
    enum { SAMPLES = 100000 };
    struct ingest *g = new_ingest(0);
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s;
        produce(&s, SAMPLES);
        send_hello(connect_to(ingest_name(g)), s.fd);
        kill(getpid(), SIGKILL);
    }
    ingest_set_root(g, pid);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    expect(g, SAMPLES);
}

static void a_live_process_is_answered_and_drained(void **state)
{
    (void)state;
    struct ingest *g = new_ingest(1000);
    int go[2];
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s;
        struct agent_config config = {0};
        produce(&s, 0);
        int fd = connect_to(ingest_name(g));
        send_hello(fd, s.fd);
        if (recv(fd, &config, sizeof config, 0) != (ssize_t)sizeof config ||
            config.header.message != AGENT_CONFIG || config.cpu_period_ns != 1000000)
            _exit(93);
        if (atomic_load(&s.header->control.cpu_period_ns) != 1000000)
            _exit(94);
        // The collector's clock (if the kernel allows it) sends SIGPROF once a millisecond of CPU.
        char byte;
        signal(SIGPROF, SIG_IGN);
        _exit(read(go[0], &byte, 1) == 1 ? 0 : 95);
    }
    ingest_set_root(g, pid);
    struct pollfd ready = {.fd = ingest_fd(g), .events = POLLIN};
    for (struct ingest_stats st = {0}; !st.processes; ingest_get_stats(g, &st)) {
        assert_int_equal(poll(&ready, 1, 10000), 1);
        assert_int_equal(ingest_dispatch(g), 0);
    }
    assert_int_equal(write(go[1], "g", 1), 1);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ingest_tick(g), 0);
    close(go[0]);
    close(go[1]);
    expect(g, 0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct ingest *g = new_ingest(0);
    pid_t pid = fork();
    if (pid == 0) {
        char noise[300];
        memset(noise, 0x55, sizeof noise);
        if (send(connect_to(ingest_name(g)), noise, sizeof noise, 0) < 0)
            _exit(96);
        send_hello(connect_to(ingest_name(g)), open("/dev/null", O_RDWR)); // not a segment
        int empty = memfd_create("empty", 0);
        send_hello(connect_to(ingest_name(g)), empty);
        int zeros = memfd_create("zeros", 0);
        if (ftruncate(zeros, 1 << 20))
            _exit(97);
        send_hello(connect_to(ingest_name(g)), zeros);
        for (int i = 0; i < 400; i++) // more silent ones than are waited for
            connect_to(ingest_name(g));
        struct seg s;
        produce(&s, 5);
        send_hello(connect_to(ingest_name(g)), s.fd);
        _exit(0);
    }
    ingest_set_root(g, pid);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(ingest_dispatch(g), 0);
    struct ingest_stats st;
    ingest_get_stats(g, &st);
    assert_int_equal(st.refused, 1);
    assert_int_equal(st.segments_broken, 3);
    assert_int_equal(st.processes, 1);
    expect(g, 5);
}

// In a child: heap, and a contended lock, as of a target that was told to record them.
static void produce_state(struct seg *s, uint64_t objects)
{
    const uint64_t heap[4] = {objects, objects * 64, 1, 64}, wait[4] = {2, 500};
    uint64_t pcs[2] = {0x400100, 0x400200};
    produce(s, 0);
    uint32_t stack = seg_stack(s, pcs, 2, 0, 0);
    seg_state_add(s, SEG_KIND_HEAP, stack, 0, 0, heap);
    seg_state_add(s, SEG_KIND_BLOCK, stack, 0, 0x1234, wait);
    struct seg_record r = {
        .kind = SEG_KIND_SERIES, .time_ns = 5000, .object = 64 * objects, .values = {1, 64}};
    seg_record_put(s, 0, SEG_CONTEXT_NORMAL, &r);
}

static void run_state_target(struct ingest *g, uint64_t objects, bool is_wanted)
{
    struct seg s;
    struct agent_config config = {0};
    produce_state(&s, objects);
    atomic_store(&s.header->control.heap_rate_bytes, 77);
    atomic_store(&s.header->control.mutex_fraction, 77);
    int fd = connect_to(ingest_name(g));
    send_hello(fd, s.fd);
    if (recv(fd, &config, sizeof config, 0) != (ssize_t)sizeof config || config.cpu_period_ns)
        _exit(98);
    const struct seg_control *c = &s.header->control;
    if (atomic_load(&c->heap_rate_bytes) != (is_wanted ? 1 : 0) ||
        atomic_load(&c->block_rate_ns) != (is_wanted ? 5000 : 0))
        _exit(99);
    if (atomic_load(&c->mutex_fraction) != 77) // not collected: stays the target's own
        _exit(100);
    kill(getpid(), SIGKILL);
}

static void check_heap(struct builder *heap)
{
    struct pprof_profile *p = NULL;
    assert_int_equal(builder_finish(heap, 1, &p), 0);
    assert_int_equal(p->sample_count, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct pprof_sample *s = p->samples[i];
        bool has_pid = false;
        for (uint32_t j = 0; j < s->label_count; j++)
            has_pid = has_pid || strcmp(s->labels[j].key, "pid") == 0;
        assert_true(has_pid);
        assert_string_equal(s->locations[0]->mapping->file, "/bin/fake");
    }
    assert_int_equal(p->samples[0]->values[0] + p->samples[1]->values[0], 10 + 20);
    assert_int_equal(p->samples[0]->values[6] + p->samples[1]->values[6], (9 + 19) * 64);
    pprof_free(p);
}

static void state_of_killed_processes_is_collected(void **state)
{
    (void)state;
    struct builder *heap = NULL, *block = NULL;
    struct series series = {0};
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_HEAP, .rate_bytes = 1};
    assert_int_equal(builder_new(&heap, &bo), 0);
    bo.kind = SEG_KIND_BLOCK;
    assert_int_equal(builder_new(&block, &bo), 0);
    struct ingest_options o = {.size = sizeof o,
                               .inherit = true,
                               .heap_bytes = 1,
                               .block_ns = 5000,
                               .series = &series,
                               .builders = {[RECORD_HEAP] = heap, [RECORD_BLOCK] = block}};
    struct ingest *g = NULL;
    assert_int_equal(ingest_new(&g, &o, NULL), 0);
    pid_t pids[2];
    for (uint64_t i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            run_state_target(g, 10 * (i + 1), true);
        ingest_set_root(g, pids[i]);
        struct pollfd ready = {.fd = ingest_fd(g), .events = POLLIN};
        for (struct ingest_stats st = {0}; st.processes <= i; ingest_get_stats(g, &st)) {
            assert_int_equal(poll(&ready, 1, 10000), 1);
            assert_int_equal(ingest_dispatch(g), 0);
        }
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    assert_int_equal(ingest_finish(g), 0);
    ingest_free(g);
    check_heap(heap);
    struct builder_stats st;
    builder_get_stats(block, &st);
    assert_int_equal(st.samples, 4);
    assert_int_equal(st.ns, 1000);
    assert_int_equal(series.count, 2);
    assert_int_equal(series.points[0].pid, pids[0]);
    series_free(&series);
    builder_free(heap);
    builder_free(block);
}

static void a_child_that_is_not_followed_records_no_state(void **state)
{
    (void)state;
    struct builder *heap = NULL, *block = NULL;
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_HEAP, .rate_bytes = 1};
    assert_int_equal(builder_new(&heap, &bo), 0);
    bo.kind = SEG_KIND_BLOCK;
    assert_int_equal(builder_new(&block, &bo), 0);
    struct ingest_options o = {.size = sizeof o,
                               .heap_bytes = 1,
                               .block_ns = 5000,
                               .builders = {[RECORD_HEAP] = heap, [RECORD_BLOCK] = block}};
    struct ingest *g = NULL;
    assert_int_equal(ingest_new(&g, &o, NULL), 0);
    ingest_set_root(g, getpid());
    pid_t pid = fork();
    if (pid == 0)
        run_state_target(g, 10, false);
    struct pollfd ready = {.fd = ingest_fd(g), .events = POLLIN};
    for (struct ingest_stats st = {0}; !st.processes; ingest_get_stats(g, &st)) {
        assert_int_equal(poll(&ready, 1, 10000), 1);
        assert_int_equal(ingest_dispatch(g), 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(ingest_finish(g), 0);
    ingest_free(g);
    builder_free(heap);
    builder_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_of_killed_processes_is_collected),
        cmocka_unit_test(a_child_that_is_not_followed_records_no_state),
        cmocka_unit_test(what_a_dead_process_recorded_is_kept),
        cmocka_unit_test(a_live_process_is_answered_and_drained),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
