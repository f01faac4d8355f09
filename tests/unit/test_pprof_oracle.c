// SPDX-License-Identifier: MIT
//
// Our hand-written decoder and encoder agree with protobuf-c's, generated from profile.proto, on
// random profiles.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/pprof.h"
#include "profile.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t state = 1;

static uint64_t rnd(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

// Numbers of every length, for every length of varint.
static uint64_t any_number(void)
{
    return (rnd(UINT64_C(1) << 31) << 33 | rnd(UINT64_C(1) << 31) << 2 | rnd(4)) >> rnd(64);
}

static const char *any_string(char buffer[32])
{
    snprintf(buffer, 32, "s%d", (int)rnd(50));
    return rnd(10) ? buffer : "";
}

static void random_sample(struct pprof_profile *p)
{
    char a[4][32], b[4][32], c[4][32];
    struct pprof_location *stack[8];
    struct pprof_label labels[4];
    int64_t values[4];
    uint32_t depth = (uint32_t)rnd(8), label_count = (uint32_t)rnd(4);
    for (uint32_t i = 0; i < depth; i++)
        stack[i] = p->locations[rnd(p->location_count)];
    for (uint32_t i = 0; i < label_count; i++) {
        labels[i] = (struct pprof_label){.key = any_string(a[i])};
        // Never a label that says nothing: reading drops those.
        if (rnd(2)) {
            snprintf(b[i], sizeof b[i], "v%d", (int)rnd(9));
            labels[i].str = b[i];
        } else {
            labels[i].num = (int64_t)(any_number() | 1);
            labels[i].num_unit = any_string(c[i]);
        }
    }
    for (size_t i = 0; i < p->sample_type_count; i++)
        values[i] = (int64_t)any_number();
    assert_non_null(pprof_append_sample(p, stack, depth, values, labels, label_count));
}

static struct pprof_profile *random_profile(void)
{
    char a[32], b[32], c[32];
    struct pprof_profile *p = pprof_new();
    size_t types = 1 + rnd(4);
    for (size_t i = 0; i < types; i++)
        assert_int_equal(pprof_add_sample_type(p, any_string(a), any_string(b)), 0);
    for (size_t i = 0; i < 5; i++) {
        struct pprof_mapping *m = pprof_add_mapping(p, any_number(), any_number(), any_number(),
                                                    any_string(a), any_string(b));
        m->has_functions = rnd(2);
        m->has_filenames = rnd(2);
        m->has_line_numbers = rnd(2);
        m->has_inline_frames = rnd(2);
    }
    for (size_t i = 0; i < 60; i++) {
        struct pprof_line lines[3];
        uint32_t n = (uint32_t)rnd(4);
        for (uint32_t j = 0; j < n; j++)
            lines[j] = (struct pprof_line){
                .function = pprof_intern_function(p, any_string(a), any_string(b), any_string(c),
                                                  (int64_t)any_number()),
                .line = (int64_t)any_number(),
                .column = (int64_t)any_number()};
        struct pprof_location *l =
            pprof_intern_location(p, rnd(4) ? p->mappings[rnd(5)] : NULL, any_number(), lines, n);
        l->is_folded = rnd(2);
    }
    for (size_t i = rnd(200); i > 0; i--)
        random_sample(p);
    for (size_t i = rnd(5); i > 0; i--)
        pprof_add_comment(p, any_string(a));
    p->drop_frames = pprof_string(p, any_string(a));
    p->keep_frames = pprof_string(p, any_string(a));
    p->default_sample_type = pprof_string(p, any_string(a));
    p->doc_url = pprof_string(p, any_string(a));
    p->period_type.type = pprof_string(p, any_string(a));
    p->period_type.unit = pprof_string(p, any_string(b));
    p->period = (int64_t)any_number();
    p->time_nanos = (int64_t)any_number();
    p->duration_nanos = (int64_t)any_number();
    return p;
}

static unsigned char *written(const struct pprof_profile *p, size_t *size)
{
    struct fscope_error err = {0};
    struct stat st;
    int fd = memfd_create("profile", MFD_CLOEXEC);
    assert_true(fd >= 0);
    if (pprof_write_fd(p, fd, false, &err))
        fail_msg("%s", err.text);
    assert_int_equal(fstat(fd, &st), 0);
    *size = (size_t)st.st_size;
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, *size, 0), st.st_size);
    close(fd);
    return bytes;
}

static const char *str(const Fscope__Pb__Profile *b, int64_t index)
{
    assert_true(index >= 0 && (size_t)index < b->n_string_table);
    return b->string_table[index];
}

static void same_samples(const struct pprof_profile *p, const Fscope__Pb__Profile *b)
{
    assert_int_equal(p->sample_count, b->n_sample);
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        const Fscope__Pb__Sample *t = b->sample[i];
        assert_int_equal(s->location_count, t->n_location_id);
        assert_int_equal(p->sample_type_count, t->n_value);
        assert_int_equal(s->label_count, t->n_label);
        for (uint32_t j = 0; j < s->location_count; j++)
            assert_int_equal(s->locations[j]->id, t->location_id[j]);
        for (size_t j = 0; j < t->n_value; j++)
            assert_true(s->values[j] == t->value[j]);
        for (uint32_t j = 0; j < s->label_count; j++) {
            assert_string_equal(s->labels[j].key, str(b, t->label[j]->key));
            assert_string_equal(s->labels[j].str, str(b, t->label[j]->str));
            assert_string_equal(s->labels[j].num_unit, str(b, t->label[j]->num_unit));
            assert_true(s->labels[j].num == t->label[j]->num);
        }
    }
}

static void same_locations(const struct pprof_profile *p, const Fscope__Pb__Profile *b)
{
    assert_int_equal(p->location_count, b->n_location);
    for (size_t i = 0; i < p->location_count; i++) {
        const struct pprof_location *l = p->locations[i];
        const Fscope__Pb__Location *m = b->location[i];
        assert_int_equal(l->id, m->id);
        assert_int_equal(l->mapping ? l->mapping->id : 0, m->mapping_id);
        assert_true(l->address == m->address);
        assert_int_equal(l->is_folded, m->is_folded);
        assert_int_equal(l->line_count, m->n_line);
        for (uint32_t j = 0; j < l->line_count; j++) {
            assert_int_equal(l->lines[j].function->id, m->line[j]->function_id);
            assert_true(l->lines[j].line == m->line[j]->line);
            assert_true(l->lines[j].column == m->line[j]->column);
        }
    }
}

static void same_tables(const struct pprof_profile *p, const Fscope__Pb__Profile *b)
{
    assert_int_equal(p->mapping_count, b->n_mapping);
    for (size_t i = 0; i < p->mapping_count; i++) {
        const struct pprof_mapping *m = p->mappings[i];
        const Fscope__Pb__Mapping *n = b->mapping[i];
        assert_int_equal(m->id, n->id);
        assert_true(m->start == n->memory_start && m->limit == n->memory_limit);
        assert_true(m->offset == n->file_offset);
        assert_string_equal(m->file, str(b, n->filename));
        assert_string_equal(m->build_id, str(b, n->build_id));
        assert_int_equal(m->has_functions, n->has_functions);
        assert_int_equal(m->has_filenames, n->has_filenames);
        assert_int_equal(m->has_line_numbers, n->has_line_numbers);
        assert_int_equal(m->has_inline_frames, n->has_inline_frames);
    }
    assert_int_equal(p->function_count, b->n_function);
    for (size_t i = 0; i < p->function_count; i++) {
        const struct pprof_function *f = p->functions[i];
        assert_int_equal(f->id, b->function[i]->id);
        assert_string_equal(f->name, str(b, b->function[i]->name));
        assert_string_equal(f->system_name, str(b, b->function[i]->system_name));
        assert_string_equal(f->filename, str(b, b->function[i]->filename));
        assert_true(f->start_line == b->function[i]->start_line);
    }
}

static void same_profile(const struct pprof_profile *p, const Fscope__Pb__Profile *b)
{
    assert_int_equal(p->sample_type_count, b->n_sample_type);
    for (size_t i = 0; i < p->sample_type_count; i++) {
        assert_string_equal(p->sample_types[i].type, str(b, b->sample_type[i]->type));
        assert_string_equal(p->sample_types[i].unit, str(b, b->sample_type[i]->unit));
    }
    assert_int_equal(p->comment_count, b->n_comment);
    for (size_t i = 0; i < p->comment_count; i++)
        assert_string_equal(p->comments[i], str(b, b->comment[i]));
    assert_string_equal(p->drop_frames, str(b, b->drop_frames));
    assert_string_equal(p->keep_frames, str(b, b->keep_frames));
    assert_string_equal(p->default_sample_type, str(b, b->default_sample_type));
    assert_string_equal(p->doc_url, str(b, b->doc_url));
    assert_true(p->period == b->period && p->time_nanos == b->time_nanos);
    assert_true(p->duration_nanos == b->duration_nanos);
    assert_string_equal(p->period_type.type, b->period_type ? str(b, b->period_type->type) : "");
    assert_string_equal(p->period_type.unit, b->period_type ? str(b, b->period_type->unit) : "");
    same_tables(p, b);
    same_locations(p, b);
    same_samples(p, b);
}

static void what_we_write_protobuf_c_reads(void **unused)
{
    (void)unused;
    for (int i = 0; i < 200; i++) {
        size_t size;
        struct pprof_profile *p = random_profile();
        unsigned char *bytes = written(p, &size);
        Fscope__Pb__Profile *b = fscope__pb__profile__unpack(NULL, size, bytes);
        assert_non_null(b);
        same_profile(p, b);
        // Equal length proves that nothing was written in a longer way than needed.
        assert_int_equal(fscope__pb__profile__get_packed_size(b), size);
        fscope__pb__profile__free_unpacked(b, NULL);
        free(bytes);
        pprof_free(p);
    }
}

static void what_protobuf_c_writes_we_read(void **unused)
{
    (void)unused;
    for (int i = 0; i < 200; i++) {
        size_t size;
        struct fscope_error err = {0};
        struct pprof_profile *p = random_profile(), *q = NULL;
        unsigned char *bytes = written(p, &size);
        Fscope__Pb__Profile *b = fscope__pb__profile__unpack(NULL, size, bytes);
        assert_non_null(b);
        // protobuf-c writes fields in order of their numbers, so strings come late here.
        assert_int_equal(fscope__pb__profile__pack(b, bytes), size);
        if (pprof_read_memory(&q, bytes, size, NULL, &err))
            fail_msg("%s", err.text);
        same_profile(q, b);
        fscope__pb__profile__free_unpacked(b, NULL);
        free(bytes);
        pprof_free(q);
        pprof_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_we_write_protobuf_c_reads),
        cmocka_unit_test(what_protobuf_c_writes_we_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
