// SPDX-License-Identifier: MIT
//
// What a target counted in its segment's state is what the heap, block, mutex and custom profiles say:
// the truth is known here because the test is the target.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/finish.h"
#include "segment/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RATE = 524288 };

static char folder[] = "kinds-test-XXXXXX";

// Objects that locks may be, found by their symbols.
static long g_lock;
static struct {
    long before[8], lock;
} g_table;

static struct seg *new_segment(struct seg *s, uint32_t sites)
{
    struct seg_options o = {.size = sizeof o, .sites = sites};
    *s = (struct seg){0};
    assert_int_equal(seg_create(s, &o), 0);
    return s;
}

static uint32_t stack_of(struct seg *s, uint64_t leaf)
{
    uint64_t pcs[2] = {leaf, 0x400200};
    return seg_stack(s, pcs, 2, 0, 0);
}

static void add_state(struct seg *s, enum seg_kind kind, uint64_t leaf, uint64_t object, uint64_t a,
                      uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t values[4] = {a, b, c, d};
    seg_state_add(s, kind, leaf ? stack_of(s, leaf) : 0, 0, object, values);
}

// Dumps and closes the segment, and reads what it says.
static void finish(struct seg *s, struct record_result *result)
{
    char path[64];
    struct fscope_error err = {0};
    snprintf(path, sizeof path, "%s/dump", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(seg_dump(s, fd), 0);
    close(fd);
    seg_close(s);
    if (finish_read(path, result, &err))
        fail_msg("%s", err.text);
}

static struct pprof_profile *profile(struct record_result *result, enum record_kind kind,
                                     const char *part)
{
    struct pprof_profile *p = NULL;
    struct fscope_error err = {0};
    const struct builder_view view = {.part = part};
    assert_non_null(result->builders[kind]);
    assert_int_equal(builder_finish_view(result->builders[kind], &view, 1, &p), 0);
    if (pprof_check(p, &err))
        fail_msg("%s", err.text);
    return p;
}

static const struct pprof_label *label(const struct pprof_sample *s, const char *key)
{
    for (uint32_t i = 0; i < s->label_count; i++)
        if (strcmp(s->labels[i].key, key) == 0)
            return &s->labels[i];
    return NULL;
}

static int64_t number(const struct pprof_sample *s, const char *key)
{
    const struct pprof_label *l = label(s, key);
    return l ? l->num : -1;
}

static const struct pprof_sample *with(const struct pprof_profile *p, const char *key, int64_t num)
{
    for (size_t i = 0; i < p->sample_count; i++)
        if (number(p->samples[i], key) == num)
            return p->samples[i];
    fail_msg("no sample with %s=%" PRId64, key, num);
    return NULL;
}

static const struct pprof_sample *at(const struct pprof_profile *p, uint64_t leaf)
{
    for (size_t i = 0; i < p->sample_count; i++)
        if (p->samples[i]->locations[0]->address == leaf)
            return p->samples[i];
    fail_msg("no sample at %" PRIx64, leaf);
    return NULL;
}

static void check_values(const struct pprof_sample *s, const int64_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(s->values[i], want[i]);
}

static void check_types(const struct pprof_profile *p, const char *want)
{
    char text[512] = "";
    for (size_t i = 0; i < p->sample_type_count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s/%s ", p->sample_types[i].type,
                 p->sample_types[i].unit);
    snprintf(text + strlen(text), sizeof text - strlen(text), "per %" PRId64 " %s/%s", p->period,
             p->period_type.type, p->period_type.unit);
    assert_string_equal(text, want);
}

static void a_sampled_heap_is_unsampled_by_size(void **state)
{
    (void)state;
    struct seg s;
    struct record_result result;
    new_segment(&s, 0);
    atomic_store(&s.header->control.heap_rate_bytes, RATE);
    // One stack, three sizes; the first in two shards, one of which was only freed from.
    add_state(&s, SEG_KIND_HEAP, 0x400100, 524288, 1000, 1000 * UINT64_C(524288), 0, 0);
    seg_state_add(&s, SEG_KIND_HEAP, stack_of(&s, 0x400100), 0, 524288,
                  (const uint64_t[4]){0, 0, 400, 400 * UINT64_C(524288)});
    add_state(&s, SEG_KIND_HEAP, 0x400100, 96, 7, 700, 7, 700);
    add_state(&s, SEG_KIND_HEAP, 0x400100, 992, 30, 30000, 10, 10000);
    finish(&s, &result);
    assert_null(result.builders[RECORD_CPU]);
    struct pprof_profile *p = profile(&result, RECORD_HEAP, NULL);
    check_types(p, "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes "
                   "per 524288 space/bytes");
    assert_string_equal(p->default_sample_type, "");
    assert_int_equal(p->sample_count, 3);
    // By another program: n / (1 - exp(-size / rate)), cut.
    check_values(with(p, "bytes", 524288), (const int64_t[]){1581, 829411403, 949, 497646842}, 4);
    check_values(with(p, "bytes", 100), (const int64_t[]){36703, 3670366, 0, 0}, 4);
    check_values(with(p, "bytes", 1000), (const int64_t[]){15743, 15743644, 10495, 10495763}, 4);
    pprof_free(p);
    record_result_free(&result);
}

// Each rule of seg_site: untouched since the latest peak, touched since then, freed wholly.
static void fill_exact(struct seg *s)
{
    atomic_store(&s->header->control.heap_rate_bytes, 1);
    uint32_t index[3];
    for (uint64_t i = 0; i < 3; i++)
        index[i] = seg_state_find(s, SEG_KIND_HEAP, stack_of(s, 0x400100 + i), 0, 0, 0);
    const uint64_t values[3][4] = {{10, 1000, 4, 400}, {5, 500, 5, 500}, {9, 90, 1, 10}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            atomic_store(&seg_state_at(s, index[i])->values[j], values[i][j]);
    struct seg_site *sites[3];
    for (int i = 0; i < 3; i++)
        sites[i] = seg_site_at(s, index[i]);
    atomic_store(&s->header->heap.peak_number, 7);
    atomic_store(&s->header->heap.peak_bytes, 1180);
    atomic_store(&s->header->heap.peak_time_ns, s->header->mono_ns + 2500000000);
    atomic_store(&sites[0]->peak_number, 6); // older: as it is now, so it was
    atomic_store(&sites[0]->peak_objects, 3);
    atomic_store(&sites[1]->peak_number, 7);
    atomic_store(&sites[1]->peak_objects, 5);
    atomic_store(&sites[1]->peak_bytes, 500);
    atomic_store(&sites[1]->temporary_objects, 2);
    atomic_store(&sites[2]->peak_number, 7);
    atomic_store(&sites[2]->peak_objects, (uint64_t)-1); // another thread's free came first
    atomic_store(&sites[0]->lifetimes[0], 1);
    atomic_store(&sites[0]->lifetimes[3], 2);
    atomic_store(&sites[0]->lifetimes[SEG_LIFETIMES - 1], 1);
    atomic_store(&sites[1]->lifetimes[SEG_LIFETIMES - 2], 5);
    int slot = seg_thread_enter(s, 1, "main");
    for (uint64_t i = 0; i < 3; i++) {
        struct seg_record r = {.kind = SEG_KIND_SERIES,
                               .time_ns = s->header->mono_ns + i * 1500000,
                               .object = 100 * i,
                               .values = {i, 10 * i}};
        if (i == 0) // a thread's frees came before what they free was added up
            r.values[1] = (uint64_t)-64;
        seg_record_put(s, slot, SEG_CONTEXT_NORMAL, &r);
    }
}

static void an_exact_heap_is_not_scaled(void **state)
{
    (void)state;
    struct seg s;
    struct record_result result;
    fill_exact(new_segment(&s, 1));
    finish(&s, &result);
    struct pprof_profile *p = profile(&result, RECORD_HEAP, NULL);
    check_types(p, "alloc_objects/count alloc_space/bytes temporary_objects/count "
                   "peak_objects/count peak_space/bytes inuse_objects/count inuse_space/bytes "
                   "per 1 space/bytes");
    assert_string_equal(p->default_sample_type, "inuse_space");
    check_values(at(p, 0x400100), (const int64_t[]){10, 1000, 0, 6, 600, 6, 600}, 7);
    check_values(at(p, 0x400101), (const int64_t[]){5, 500, 2, 5, 500, 0, 0}, 7);
    check_values(at(p, 0x400102), (const int64_t[]){9, 90, 0, 0, 0, 8, 80}, 7);
    assert_null(label(p->samples[0], "bytes"));
    pprof_free(p);

    p = profile(&result, RECORD_HEAP, BUILDER_LIFETIME);
    check_types(p, "freed_objects/count per 1 freed_objects/count");
    assert_int_equal(p->sample_count, 4);
    assert_int_equal(with(p, "lifetime", 999)->values[0], 1);
    assert_int_equal(with(p, "lifetime", 63999)->values[0], 2); // below 4^3 us
    // The last bucket begins where the one before ends: 4^14 us.
    assert_int_equal(with(p, "lifetime", INT64_C(268435455999))->values[0], 5);
    assert_int_equal(with(p, "lifetime", INT64_C(268435456000))->values[0], 1);
    assert_string_equal(label(p->samples[0], "lifetime")->num_unit, "nanoseconds");
    pprof_free(p);

    struct builder_heap_totals t;
    builder_get_heap(result.builders[RECORD_HEAP], &t);
    assert_true(t.is_exact);
    assert_int_equal(t.alloc_objects, 24);
    assert_int_equal(t.inuse_bytes, 680);
    assert_int_equal(t.peak_bytes, 1180);
    assert_int_equal(t.peak_ns, 2500000000);
    assert_int_equal(result.series.count, 3);
    record_result_free(&result);
}

static void nonsense_is_bounded_and_counted(void **state)
{
    (void)state;
    struct seg s;
    struct record_result result;
    struct builder_stats st;
    new_segment(&s, 1);
    atomic_store(&s.header->control.heap_rate_bytes, 1);
    for (uint64_t i = 0; i < 300; i++) // sums beyond 64 bits
        add_state(&s, SEG_KIND_HEAP, 0x400100, i, UINT64_MAX, UINT64_MAX, 0, 0);
    add_state(&s, SEG_KIND_HEAP, 0x400101, 0, 2, 20, 3, 30);          // freed more than there was
    add_state(&s, SEG_KIND_CUSTOM, 0x400101, UINT64_MAX, 5, 1, 0, 0); // no such name
    add_state(&s, SEG_KIND_CUSTOM, 0x400102, seg_string(&s, "open", 4), 1, 5, 0, 0);
    add_state(&s, SEG_KIND_BLOCK, 0x400101, 1, UINT64_MAX, 5, 0, 0);
    add_state(&s, SEG_KIND_LOCK, 0x400101, 1, UINT64_MAX, UINT64_MAX, 0, 0); // no such type
    finish(&s, &result);
    assert_int_equal(result.damaged, 602);
    struct pprof_profile *p = profile(&result, RECORD_HEAP, NULL);
    check_values(at(p, 0x400101), (const int64_t[]){2, 20, 0, 0, 0, 0, 0}, 7);
    for (size_t i = 0; i < p->sample_count; i++)
        for (size_t j = 0; j < p->sample_type_count; j++)
            assert_true(p->samples[i]->values[j] >= 0);
    pprof_free(p);
    struct builder_heap_totals t;
    builder_get_heap(result.builders[RECORD_HEAP], &t);
    assert_true(t.alloc_bytes >= UINT64_C(300) << 56 || t.alloc_bytes == UINT64_MAX);
    builder_get_stats(result.builders[RECORD_HEAP], &st);
    assert_int_equal(st.losses.negative, 1);
    builder_get_stats(result.builders[RECORD_CUSTOM], &st);
    assert_int_equal(st.losses.negative, 1);
    p = profile(&result, RECORD_CUSTOM, "custom");
    assert_int_equal(p->samples[0]->values[0], 4);
    pprof_free(p);
    p = profile(&result, RECORD_BLOCK, NULL);
    assert_int_equal(p->samples[0]->values[0], INT64_C(1) << 56);
    pprof_free(p);
    record_result_free(&result);
}

static void custom_profiles_have_their_names(void **state)
{
    (void)state;
    struct seg s;
    struct record_result result;
    struct pprof_profile *p = NULL;
    char path[64];
    new_segment(&s, 0);
    uint32_t pair[1][2] = {{seg_string(&s, "route", 5), seg_string(&s, "/a", 2)}};
    uint32_t labels = seg_labels(&s, pair, 1);
    uint64_t files = seg_string(&s, "files", 5), rows = seg_string(&s, "rows", 4);
    seg_state_add(&s, SEG_KIND_CUSTOM, stack_of(&s, 0x400100), labels, files,
                  (const uint64_t[4]){7, 3, 0, 0});
    add_state(&s, SEG_KIND_CUSTOM, 0x400100, rows, 2, 2, 0, 0); // all gone again
    add_state(&s, SEG_KIND_CUSTOM, 0x400101, rows, 9, 1, 0, 0);
    finish(&s, &result);
    p = profile(&result, RECORD_CUSTOM, "files");
    check_types(p, "files/count per 1 files/count");
    assert_int_equal(p->sample_count, 1);
    assert_int_equal(p->samples[0]->values[0], 4);
    assert_string_equal(label(p->samples[0], "route")->str, "/a");
    pprof_free(p);
    p = profile(&result, RECORD_CUSTOM, "rows");
    assert_int_equal(p->sample_count, 1);
    assert_int_equal(p->samples[0]->values[0], 8);
    pprof_free(p);
    record_result_free(&result);
    snprintf(path, sizeof path, "%s/dump", folder);
    assert_int_equal(finish_profile(path, "rows", &p, NULL), 0);
    assert_string_equal(p->sample_types[0].type, "rows");
    pprof_free(p);
    assert_int_equal(finish_profile(path, "heap", &p, NULL), -ENOENT);
}

// --- Locks, in this very program's memory.

// Adds the mappings of code that this process has of files.
static void add_own_modules(struct seg *s)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512], path[400];
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        struct seg_module m = {0};
        unsigned major, minor;
        char access[8];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64 " %399s",
                   &m.start, &m.end, access, &m.offset, &major, &minor, &m.inode, path) != 8 ||
            access[2] != 'x' || path[0] != '/')
            continue;
        m.path = seg_string(s, path, strlen(path));
        seg_module_add(s, &m);
    }
    fclose(f);
}

__attribute__((noinline)) static uint64_t here(void)
{
    return (uint64_t)__builtin_return_address(0) - 1;
}

enum { MAKER_LINE = __LINE__ + 3 };
__attribute__((noinline)) static uint64_t make_lock(void)
{
    return here() + (g_lock != 0);
}

static void wait_for(struct seg *s, uint64_t object, uint64_t delay)
{
    add_state(s, SEG_KIND_BLOCK, 0x1000, object, 1, delay, 0, 0);
    add_state(s, SEG_KIND_MUTEX, 0x2000, object, 2, delay, 0, 0);
}

static void check_lock(const struct pprof_profile *p, uint64_t object, const char *want)
{
    const struct pprof_sample *s = with(p, "lock_address", (int64_t)object);
    assert_string_equal(label(s, "lock")->str, want);
}

static void locks_have_names(void **state)
{
    (void)state;
    struct seg s;
    struct fscope_error err = {0};
    char made[96], unnamed[64], path[64], self[256] = "";
    const uint64_t nowhere = 0x5000, heap = (uint64_t)folder + (UINT64_C(1) << 44);
    new_segment(&s, 0);
    add_own_modules(&s);
    // made by a function of libc (one that no sanitizer replaces), called by make_lock
    uint64_t pcs[3] = {(uint64_t)(uintptr_t)getppid, make_lock() + 1, 0x1000};
    seg_state_add(&s, SEG_KIND_LOCK, seg_stack(&s, pcs, 3, 0, 0), 0, heap,
                  (const uint64_t[4]){SEG_LOCK_RWLOCK, 16, 0, 0});
    add_state(&s, SEG_KIND_LOCK, 0, nowhere, SEG_LOCK_MUTEX, 0, 0, 0);
    wait_for(&s, (uint64_t)&g_lock, 10);
    wait_for(&s, (uint64_t)&g_table.lock, 20);
    wait_for(&s, (uint64_t)stdout, 30); // a variable of libc
    wait_for(&s, heap, 40);
    wait_for(&s, nowhere, 50);
    wait_for(&s, 0, 60); // of unknown object: no label
    struct record_result result;
    finish(&s, &result);
    record_result_free(&result);
    snprintf(path, sizeof path, "%s/dump", folder);
    snprintf(made, sizeof made, "rwlock at make_lock test_kinds.c:%d +0x10", MAKER_LINE);
    snprintf(unnamed, sizeof unnamed, "mutex 0x%" PRIx64, nowhere);
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    for (int i = 0; i < 2; i++) {
        struct pprof_profile *p = NULL;
        if (finish_profile(path, i ? "mutex" : "block", &p, &err))
            fail_msg("%s", err.text);
        check_types(p, "contentions/count delay/nanoseconds per 1 contentions/count");
        assert_int_equal(p->sample_count, 6);
        check_lock(p, (uint64_t)&g_lock, "g_lock");
        check_lock(p, (uint64_t)&g_table.lock, "g_table+0x40");
        check_lock(p, (uint64_t)stdout, "_IO_2_1_stdout_ (libc.so.6)");
        check_lock(p, heap, made);
        check_lock(p, nowhere, unnamed);
        assert_int_equal(with(p, "lock_address", (int64_t)heap)->values[0], i ? 2 : 1);
        assert_int_equal(with(p, "lock_address", (int64_t)heap)->values[1], 40);
        pprof_free(p);
    }
}

// --- Files and words.

static char *write_all(const char *from, struct record_options *ro, const char *output)
{
    static char text[8192];
    struct record_result result;
    struct fscope_error err = {0};
    memset(text, 0, sizeof text);
    record_options_init(ro);
    ro->output = output;
    ro->symbolize = false;
    ro->messages = fmemopen(text, sizeof text - 1, "w");
    if (finish_read(from, &result, &err) || record_write(ro, &result, &err))
        fail_msg("%s", err.text);
    record_result_free(&result);
    fclose(ro->messages);
    return text;
}

static void check_file(const char *name, const char *want)
{
    char path[128], text[1024] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (!f)
        fail_msg("%s is not there", path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    unlink(path);
    assert_true(n > 0);
    if (want)
        assert_string_equal(text, want);
}

static void each_kind_has_its_file_and_its_words(void **state)
{
    (void)state;
    struct seg s;
    struct record_result result;
    struct record_options ro;
    char dump[64], one[64], many[64];
    const char *table = "time_s,live_objects,live_bytes,alloc_bytes,pid\n"
                        "0.000000,0,0,0,4711\n0.001500,1,10,100,4711\n0.003000,2,20,200,4711\n";
    fill_exact(new_segment(&s, 1));
    s.header->pid = 4711;
    strcpy(s.header->program, "prog");
    atomic_store(&s.header->losses.untracked, 3);
    finish(&s, &result);
    record_result_free(&result);
    snprintf(dump, sizeof dump, "%s/dump", folder);
    snprintf(one, sizeof one, "%s/x.pb.gz", folder);
    char *said = write_all(dump, &ro, one);
    check_file("x.pb.gz", NULL);
    check_file("x.lifetime.pb.gz", NULL);
    check_file("x.heap-series.csv", table);
    assert_non_null(strstr(said, "heap: 24 objects (1.6 KiB) allocated, 14 objects (680 B) in use "
                                 "at the end, 2 temporary, peak 1.2 KiB after 2.50 s; wrote"));
    assert_non_null(strstr(said, "3 live allocations found no place in the table of pointers"));
    assert_non_null(strstr(said, "next: fiberscope top "));
    assert_null(strstr(said, "the sums hold them"));

    new_segment(&s, 0);
    s.header->pid = 4711;
    strcpy(s.header->program, "prog");
    atomic_store(&s.header->control.heap_rate_bytes, RATE);
    add_state(&s, SEG_KIND_HEAP, 0x400100, 524288, 1000, 1000 * UINT64_C(524288), 1000,
              1000 * UINT64_C(524288));
    add_state(&s, SEG_KIND_MUTEX, 0x400100, 0, 3, 1500000000, 0, 0);
    add_state(&s, SEG_KIND_CUSTOM, 0x400100, seg_string(&s, "../up", 5), 1, 0, 0, 0);
    add_state(&s, SEG_KIND_CUSTOM, 0x400100, seg_string(&s, "heap", 4), 1, 0, 0, 0);
    finish(&s, &result);
    record_result_free(&result);
    snprintf(many, sizeof many, "%s/", folder);
    said = write_all(dump, &ro, many);
    check_file("prog.4711.heap.pb.gz", NULL);
    check_file("prog.4711.mutex.pb.gz", NULL);
    check_file("prog.4711..._up.pb.gz", NULL);
    check_file("prog.4711.custom-heap.pb.gz", NULL);
    assert_non_null(strstr(said, "heap: about 1,581 objects (791.0 MiB) allocated, about 0 objects "
                                 "(0 B) in use at the end, from 1,000 samples; wrote"));
    assert_non_null(strstr(said, "next: fiberscope top -sample_index=alloc_space "));
    assert_non_null(strstr(said, "mutex: 3 contentions, 1.500 s of delay; wrote"));
}

static void several_kinds_need_several_files(void **state)
{
    (void)state;
    struct record_options o;
    struct fscope_error err = {0};
    record_options_init(&o);
    o.heap_bytes = RATE;
    o.output = "one.pb.gz";
    assert_int_equal(record_check_output(&o, &err), -EINVAL);
    assert_non_null(strstr(err.text, "2 profiles need 2 files"));
    o.block_ns = o.mutex_fraction = 1;
    assert_int_equal(record_check_output(&o, &err), -EINVAL);
    assert_non_null(strstr(err.text, "4 profiles need 4 files"));
    o.output = "%k.pb.gz";
    assert_int_equal(record_check_output(&o, &err), 0);
    o.output = folder;
    assert_int_equal(record_check_output(&o, &err), 0);
    o.output = "one.pb.gz";
    o.cpu_hz = 0;
    o.block_ns = o.mutex_fraction = 0;
    assert_int_equal(record_check_output(&o, &err), 0);
}

static void a_kind_without_samples_is_a_valid_profile(void **state)
{
    (void)state;
    struct record_options ro = {
        .size = sizeof ro, .heap_bytes = 1, .block_ns = 1, .mutex_fraction = 1};
    struct seg s;
    struct record_result result;
    char dump[64], one[64];
    new_segment(&s, 0);
    atomic_store(&s.header->control.mutex_fraction, 1);
    finish(&s, &result);
    record_result_free(&result);
    snprintf(dump, sizeof dump, "%s/dump", folder);
    snprintf(one, sizeof one, "%s/x.pb.gz", folder);
    char *said = write_all(dump, &ro, one);
    assert_non_null(strstr(said, "no contention was seen"));
    struct pprof_profile *p = NULL;
    assert_int_equal(pprof_read_file(&p, one, NULL, NULL), 0);
    check_types(p, "contentions/count delay/nanoseconds per 1 contentions/count");
    assert_int_equal(p->sample_count, 0);
    pprof_free(p);
    unlink(one);
}

static void a_killed_target_loses_no_count(void **state)
{
    (void)state;
    char path[64];
    int ready[2];
    snprintf(path, sizeof path, "%s/box", folder);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s = {0};
        struct seg_options o = {.size = sizeof o, .path = path, .sites = 1};
        if (seg_create(&s, &o))
            _exit(1);
        atomic_store(&s.header->control.heap_rate_bytes, 1);
        uint32_t index = seg_state_find(&s, SEG_KIND_HEAP, stack_of(&s, 0x400100), 0, 0, 0);
        for (uint64_t i = 1;; i++) {
            atomic_fetch_add(&seg_state_at(&s, index)->values[1], 64);
            atomic_fetch_add(&seg_state_at(&s, index)->values[0], 1);
            if (i % 1000 == 0 && write(ready[1], &i, sizeof i) != (ssize_t)sizeof i)
                _exit(2);
        }
    }
    uint64_t told = 0, last;
    for (int i = 0; i < 50; i++)
        assert_int_equal(read(ready[0], &told, sizeof told), sizeof told);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ready[1]);
    while (read(ready[0], &last, sizeof last) == (ssize_t)sizeof last)
        told = last;
    close(ready[0]);
    struct record_result result;
    assert_int_equal(finish_read(path, &result, NULL), 0);
    struct pprof_profile *p = profile(&result, RECORD_HEAP, NULL);
    int64_t objects = p->samples[0]->values[0], bytes = p->samples[0]->values[1];
    assert_true(objects >= (int64_t)told && objects < (int64_t)told + 1000);
    assert_true(bytes == objects * 64 || bytes == objects * 64 + 64);
    pprof_free(p);
    record_result_free(&result);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sampled_heap_is_unsampled_by_size),
        cmocka_unit_test(an_exact_heap_is_not_scaled),
        cmocka_unit_test(nonsense_is_bounded_and_counted),
        cmocka_unit_test(custom_profiles_have_their_names),
        cmocka_unit_test(locks_have_names),
        cmocka_unit_test(each_kind_has_its_file_and_its_words),
        cmocka_unit_test(several_kinds_need_several_files),
        cmocka_unit_test(a_kind_without_samples_is_a_valid_profile),
        cmocka_unit_test(a_killed_target_loses_no_count),
    };
    if (!mkdtemp(folder))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[64];
    snprintf(path, sizeof path, "%s/dump", folder);
    unlink(path);
    rmdir(folder);
    return failed;
}
