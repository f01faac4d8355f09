// SPDX-License-Identifier: MIT
//
// What must hold of malloc's uprobes where the table of live allocations is full: what finds no room is counted, and what is
// freed later is not found; and no probe is left when they are stopped. What a process had that has ended takes no room. The
// malloc of a process is found among many files, and
// who is in it as probes are put there is followed afterwards.

#include "collector/bpf/programs.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

enum { ROOM = 8, BLOCKS = 20 };

static void *volatile blocks[BLOCKS];

// Allocates when told to, says so, and frees when told to.
static void child_main(int from, int to)
{
    char c = 0;
    (void)!read(from, &c, 1);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(100);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    _exit(0);
}

static int on_record(void *arg, const struct bpf_head *head)
{
    (void)arg, (void)head;
    return 0;
}

struct counts {
    uint64_t objects, bytes;
};

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct counts *c = arg;
    (void)key;
    c->objects += sum->count;
    c->bytes += sum->ns;
    return 0;
}

static struct counts take(struct bpf_programs *p)
{
    struct counts c = {0};
    assert_int_equal(bpf_programs_sums(p, on_record, on_sum, &c), 0);
    return c;
}

static void step(int to, int from)
{
    char c = 1;
    assert_int_equal(write(to, &c, 1), 1);
    assert_int_equal(read(from, &c, 1), 1);
}

// Threads that are in malloc all the time until they are told to stop, and then allocate so often.
enum { THREADS = 4, EACH = 25 };

static atomic_int phase, idle;

static void *hammer(void *arg)
{
    void *volatile block;
    while (phase == 0) {
        block = malloc(100);
        free(block);
    }
    idle++;
    while (phase == 1)
        usleep(100);
    for (int i = 0; i < EACH; i++)
        block = malloc(100);
    return arg;
}

static void hammering_child(int from, int to)
{
    char c = 0;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, hammer, NULL))
            _exit(1);
    (void)!read(from, &c, 1);
    phase = 1;
    while (idle < THREADS)
        usleep(100);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    phase = 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    _exit(0);
}

struct run {
    int to, from; // the child
    pid_t child;
    struct probe_files files;
    struct bpf_programs *p;
};

static void begin(struct run *r, void (*main_of_child)(int from, int to), uint32_t room)
{
    int there[2], back[2];
    struct fscope_error err = {0};
    assert_int_equal(pipe(there) | pipe(back), 0);
    r->child = fork();
    assert_true(r->child >= 0);
    if (r->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // of a case that fails
        main_of_child(there[0], back[1]);
    }
    r->to = there[1];
    r->from = back[0];
    assert_int_equal(probe_files_of_process(&r->files, (uint32_t)r->child, bpf_site_names), 0);
    assert_non_null(probe_files_malloc(&r->files));
    struct bpf_programs_options o = {
        .size = sizeof o,
        .config = {.filter = BPF_FILTER_TARGETS, .heap_bytes = 1, .stack_copy = 512},
        .malloc = true,
        .files = &r->files,
        .uprobes_pid = r->child,
        .lives_max = room,
    };
    assert_int_equal(bpf_programs_new(&r->p, &o, &err), 0);
    assert_int_equal(bpf_programs_target(r->p, r->child, 0), 0);
    assert_int_equal(bpf_programs_start(r->p, &err), 0);
}

static void end(struct run *r)
{
    bpf_programs_stop(r->p);
    bpf_programs_free(r->p);
    probe_files_free(&r->files);
    if (r->child) { // else it has been waited for
        kill(r->child, SIGKILL);
        waitpid(r->child, NULL, 0);
    }
    close(r->to);
    close(r->from);
}

static void a_full_table_is_counted(void **state)
{
    static struct run r;
    struct bpf_losses losses;
    (void)state;
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    begin(&r, child_main, ROOM);
    step(r.to, r.from);
    bpf_programs_losses(r.p, &losses);
    assert_int_equal(losses.lives, BLOCKS - ROOM);
    struct counts c = take(r.p); // allocated, and those without room freed at once
    assert_int_equal(c.objects, BLOCKS + BLOCKS - ROOM);
    assert_int_equal(c.bytes, 100 * (BLOCKS + BLOCKS - ROOM));
    step(r.to, r.from);
    assert_int_equal(take(r.p).objects, ROOM);
    end(&r);
}

// Whose call was seen to begin, and not to end, would be in it for ever.
static void who_is_in_malloc_as_it_begins_is_seen_afterwards(void **state)
{
    static struct run r;
    (void)state;
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    begin(&r, hammering_child, 1024);
    step(r.to, r.from);
    take(r.p);
    step(r.to, r.from);
    assert_int_equal(take(r.p).objects, THREADS * EACH);
    end(&r);
}

static bool has_ended(uint32_t pid)
{
    return kill((pid_t)pid, 0) != 0;
}

static void what_an_ended_process_had_is_forgotten(void **state)
{
    static struct run r;
    (void)state;
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    begin(&r, child_main, ROOM);
    step(r.to, r.from);
    assert_int_equal(bpf_programs_forget(r.p, has_ended), 0);
    kill(r.child, SIGKILL);
    assert_int_equal(waitpid(r.child, NULL, 0), r.child);
    r.child = 0;
    assert_int_equal(bpf_programs_forget(r.p, has_ended), ROOM);
    assert_int_equal(bpf_programs_forget(r.p, has_ended), 0);
    end(&r);
}

// --- Files.

enum { LIBRARIES = 100, VDSO_BYTES = 8192 };

// Mapped below libc, and so before it. The vdso is a small file that is one of code.
static void malloc_is_found_behind_many_libraries(void **state)
{
    static struct probe_files files;
    const void *vdso =
        (const void *)getauxval(AT_SYSINFO_EHDR); // NOLINT(performance-no-int-to-ptr)
    static char paths[LIBRARIES][32];
    void *maps[LIBRARIES];
    (void)state;
    assert_non_null(vdso);
    for (int i = 0; i < LIBRARIES; i++) {
        char path[] = "/tmp/fscope-library-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, vdso, VDSO_BYTES), VDSO_BYTES);
        maps[i] = mmap(NULL, VDSO_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        assert_ptr_not_equal(maps[i], MAP_FAILED);
        close(fd);
        snprintf(paths[i], sizeof paths[i], "%s", path);
    }
    assert_int_equal(probe_files_of_process(&files, (uint32_t)getpid(), bpf_site_names), 0);
    bool is_found = probe_files_malloc(&files);
    size_t count = files.count;
    probe_files_free(&files);
    for (int i = 0; i < LIBRARIES; i++) {
        munmap(maps[i], VDSO_BYTES);
        unlink(paths[i]);
    }
    assert_true(count > LIBRARIES && is_found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_table_is_counted),
        cmocka_unit_test(who_is_in_malloc_as_it_begins_is_seen_afterwards),
        cmocka_unit_test(what_an_ended_process_had_is_forgotten),
        cmocka_unit_test(malloc_is_found_behind_many_libraries),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
