// SPDX-License-Identifier: MIT
//
// Batches, tables and ends of generations. Events go out when a thread's batch is full; tables are
// kept until the generation ends, as their batches must not be dated before its first event.

#include "base/arena.h"
#include "base/file.h"
#include "formats/ptrtab.h"
#include "formats/trace/leb.h"
#include "formats/trace/write_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENT_BYTES_MAX = 1 + (1 + TRACE_ARGS_MAX) * LEB_BYTES_MAX,
    PC_TRIES_MAX = 16,
};
#define PC_INVENTED (UINT64_C(1) << 62)

static int latch(struct trace_writer *w, int rc)
{
    if (rc && !w->error)
        w->error = rc;
    return w->error;
}

static int write_fd(void *context, const void *bytes, size_t n)
{
    const struct trace_writer *w = context;
    return file_write_all(w->fd, bytes, n);
}

static int emit(struct trace_writer *w, const void *bytes, size_t n)
{
    if (!w->error)
        latch(w, w->write(w->context, bytes, n));
    if (!w->error)
        w->bytes += n;
    return w->error;
}

static void note_time(struct trace_writer *w, uint64_t time)
{
    if (time > w->time_last)
        w->time_last = time;
}

static int emit_batch(struct trace_writer *w, int experiment, int64_t thread, uint64_t time,
                      const void *data, uint32_t size_bytes)
{
    unsigned char header[2 + 4 * LEB_BYTES_MAX], *at = header;
    *at++ = experiment ? TRACE_EV_EXPERIMENTAL_BATCH : TRACE_EV_BATCH;
    if (experiment)
        *at++ = (unsigned char)experiment;
    at = leb_write(at, w->generation);
    at = leb_write(at, (uint64_t)thread);
    at = leb_write(at, time);
    at = leb_write(at, size_bytes);
    note_time(w, time);
    emit(w, header, (size_t)(at - header));
    return emit(w, data, size_bytes);
}

// --- Opening and closing.

static int writer_new(struct trace_writer **out, const struct trace_writer_options *opts)
{
    struct trace_writer_options o = {0};
    *out = NULL;
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    if (!o.version)
        o.version = 23;
    if (o.version != 22 && o.version != 23 && o.version != 25 && o.version != 26)
        return -EINVAL;
    struct trace_writer *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->options = o;
    if (!w->options.frequency)
        w->options.frequency = 1000000000;
    if (!w->options.generation_bytes)
        w->options.generation_bytes = 16 << 20;
    *out = w;
    return 0;
}

static int header_write(struct trace_writer **out)
{
    char header[17] = "go 1.00 trace\0\0\0";
    struct trace_writer *w = *out;
    header[5] = (char)('0' + w->options.version / 10);
    header[6] = (char)('0' + w->options.version % 10);
    int rc = emit(w, header, 16);
    if (rc) {
        trace_writer_close(w);
        *out = NULL;
    }
    return rc;
}

int trace_writer_open_fd(struct trace_writer **out, int fd, const struct trace_writer_options *opts)
{
    int rc = writer_new(out, opts);
    if (rc)
        return rc;
    (*out)->fd = fd;
    (*out)->write = write_fd;
    (*out)->context = *out;
    return header_write(out);
}

int trace_writer_open_callback(struct trace_writer **out, trace_write_fn *write, void *context,
                               const struct trace_writer_options *opts)
{
    int rc = writer_new(out, opts);
    if (rc)
        return rc;
    (*out)->write = write;
    (*out)->context = context;
    return header_write(out);
}

static void tables_reset(struct trace_writer *w)
{
    for (size_t i = 0; i < WRITER_TABLES; i++) {
        struct writer_batch *b = w->tables[i];
        while (b) {
            struct writer_batch *next = b->next;
            free(b);
            b = next;
        }
        w->tables[i] = NULL;
    }
    ptrtab_finish(&w->strings);
    ptrtab_finish(&w->stacks);
    ptrtab_finish(&w->pcs);
    ptrtab_finish(&w->frames);
    arena_finish(&w->arena);
    w->string_next = w->stack_next = 0;
}

int trace_writer_close(struct trace_writer *w)
{
    if (!w)
        return 0;
    if (w->put && !w->error)
        put_finish(w);
    if (w->generation && !w->error)
        trace_writer_end(w, NULL);
    int rc = w->error;
    tables_reset(w);
    for (size_t i = 0; i < w->thread_count; i++)
        free(w->threads[i]);
    free(w->threads);
    ptrtab_finish(&w->thread_tab);
    put_free(w);
    free(w);
    return rc;
}

uint64_t trace_writer_bytes(const struct trace_writer *w)
{
    return w->bytes;
}

// --- Generations.

int trace_writer_begin(struct trace_writer *w, uint64_t number)
{
    if (w->error)
        return w->error;
    bool is_next = w->last == 0 || w->options.version >= 26 || number == w->last + 1;
    if (number == 0 || w->generation || !is_next)
        return latch(w, -EINVAL);
    w->generation = w->last = number;
    w->time_last = 0;
    w->generation_start = w->bytes;
    return 0;
}

static int thread_flush(struct trace_writer *w, struct writer_thread *t)
{
    if (!t->used)
        return w->error;
    int rc = emit_batch(w, 0, t->id, t->batch_time, t->data, t->used);
    t->used = 0;
    return rc;
}

static int clock_write(struct trace_writer *w, const struct trace_writer_clock *clock)
{
    unsigned char data[2 + 5 * LEB_BYTES_MAX + 2], *at = data;
    struct trace_writer_clock c = {.time = w->time_last ? w->time_last : 1};
    c.mono_ns = (uint64_t)((double)c.time * 1e9 / (double)w->options.frequency);
    if (clock)
        c = *clock;
    if (w->options.version >= 25)
        *at++ = TRACE_EV_SYNC;
    *at++ = TRACE_EV_FREQUENCY;
    at = leb_write(at, w->options.frequency);
    if (w->options.version >= 25) {
        *at++ = TRACE_EV_CLOCK_SNAPSHOT;
        at = leb_write(at, 0);
        at = leb_write(at, c.mono_ns);
        at = leb_write(at, (uint64_t)c.wall_s);
        at = leb_write(at, (uint64_t)c.wall_ns);
    }
    return emit_batch(w, 0, TRACE_NONE, c.time, data, (uint32_t)(at - data));
}

int trace_writer_end(struct trace_writer *w, const struct trace_writer_clock *clock)
{
    if (!w->generation)
        return latch(w, -EINVAL);
    for (size_t i = 0; i < w->thread_count; i++)
        thread_flush(w, w->threads[i]);
    // A generation begins with its earliest batch: without events, with its clock.
    uint64_t time = w->time_last ? w->time_last : clock ? clock->time : 1;
    for (size_t i = 0; i < WRITER_TABLES; i++)
        for (const struct writer_batch *b = w->tables[i]; b; b = b->next)
            emit_batch(w, 0, TRACE_NONE, time, b->data, b->used);
    clock_write(w, clock);
    if (w->options.version >= 26)
        emit(w, (const unsigned char[]){TRACE_EV_END_OF_GENERATION}, 1);
    tables_reset(w);
    w->generation = 0;
    return w->error;
}

// --- Tables.

// Room for n more bytes in a table's batch, which begins with the table's byte.
static unsigned char *table_room(struct trace_writer *w, enum writer_table table, size_t n)
{
    static const uint8_t kinds[] = {TRACE_EV_STRINGS, TRACE_EV_STACKS, TRACE_EV_CPU_SAMPLES};
    struct writer_batch *b = w->tables[table];
    if (!b || b->used + n > TRACE_BATCH_BYTES_MAX) {
        b = malloc(sizeof *b);
        if (!b) {
            latch(w, -ENOMEM);
            return NULL;
        }
        b->next = w->tables[table];
        b->data[0] = kinds[table];
        b->used = 1;
        w->tables[table] = b;
    }
    return b->data + b->used;
}

static void table_used(struct trace_writer *w, enum writer_table table, const unsigned char *end)
{
    struct writer_batch *b = w->tables[table];
    b->used = (uint32_t)(end - b->data);
}

// The longest beginning that is no longer than the format permits and no torn UTF-8 character.
static size_t string_cut(const char *bytes, size_t n)
{
    if (n <= TRACE_STRING_BYTES_MAX)
        return n;
    n = TRACE_STRING_BYTES_MAX;
    while (n > 0 && ((unsigned char)bytes[n] & 0xc0) == 0x80)
        n--;
    return n;
}

int trace_writer_string_as(struct trace_writer *w, uint64_t id, const char *bytes, size_t n)
{
    if (w->error || !w->generation || id == 0)
        return latch(w, -EINVAL);
    n = string_cut(bytes, n);
    unsigned char *at = table_room(w, WRITER_STRINGS, 1 + 2 * LEB_BYTES_MAX + n);
    if (!at)
        return w->error;
    *at++ = TRACE_EV_STRING;
    at = leb_write(at, id);
    at = leb_write(at, n);
    memcpy(at, bytes, n);
    table_used(w, WRITER_STRINGS, at + n);
    return 0;
}

struct string_entry {
    uint64_t id;
    size_t n;
    char bytes[];
};

static bool string_equal(const void *item, const void *key)
{
    const struct string_entry *e = item;
    const struct trace_text *k = key;
    return e->n == k->size_bytes && memcmp(e->bytes, k->bytes, e->n) == 0;
}

int trace_writer_string(struct trace_writer *w, const char *bytes, size_t n, uint64_t *id)
{
    *id = 0;
    n = string_cut(bytes, n);
    if (n == 0 || w->error)
        return w->error;
    struct trace_text key = {bytes, (uint32_t)n};
    uint64_t hash = ptrtab_hash_bytes(bytes, n);
    const struct string_entry *found = ptrtab_find(&w->strings, hash, string_equal, &key);
    if (found) {
        *id = found->id;
        return 0;
    }
    struct string_entry *e = arena_alloc(&w->arena, sizeof *e + n);
    if (!e || ptrtab_add(&w->strings, hash, e))
        return latch(w, -ENOMEM);
    *id = e->id = ++w->string_next;
    e->n = n;
    memcpy(e->bytes, bytes, n);
    return trace_writer_string_as(w, *id, bytes, n);
}

struct writer_frame {
    uint64_t pc, function, file, line;
    uint64_t as; // the pc it is written with
};

static bool frame_equal(const void *item, const void *key)
{
    return memcmp(item, key, offsetof(struct writer_frame, as)) == 0;
}

static bool pc_equal(const void *item, const void *key)
{
    return ((const struct writer_frame *)item)->as == *(const uint64_t *)key;
}

static uint64_t pc_hash(uint64_t pc)
{
    return ptrtab_mix(1, pc);
}

// Readers know a frame by its pc, so an inlined function and its caller must not share one.
static int frame_write(struct trace_writer *w, struct writer_frame *key)
{
    uint64_t hash =
        ptrtab_mix(ptrtab_mix(ptrtab_mix(pc_hash(key->pc), key->function), key->file), key->line);
    const struct writer_frame *found = ptrtab_find(&w->frames, hash, frame_equal, key);
    if (found) {
        key->as = found->as;
        return 0;
    }
    key->as = key->pc;
    for (int i = 0; ptrtab_find(&w->pcs, pc_hash(key->as), pc_equal, &key->as); i++)
        key->as = i < PC_TRIES_MAX ? key->as + 1 : PC_INVENTED + w->pc_next++;
    struct writer_frame *e = arena_alloc(&w->arena, sizeof *e);
    if (!e || ptrtab_add(&w->frames, hash, e) || ptrtab_add(&w->pcs, pc_hash(key->as), e))
        return latch(w, -ENOMEM);
    *e = *key;
    return 0;
}

// The frames as they will be written, 4 numbers each. Their number, or -errno.
static int frames_make(struct trace_writer *w, const struct trace_writer_frame *frames,
                       uint32_t count, uint64_t *numbers)
{
    count = count < TRACE_STACK_FRAMES_MAX ? count : TRACE_STACK_FRAMES_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct trace_writer_frame *f = &frames[i];
        struct writer_frame key = {.pc = f->pc, .line = f->line};
        if (trace_writer_string(w, f->function.bytes, f->function.size_bytes, &key.function) ||
            trace_writer_string(w, f->file.bytes, f->file.size_bytes, &key.file) ||
            frame_write(w, &key))
            return w->error;
        numbers[4 * i] = key.as;
        numbers[4 * i + 1] = key.function;
        numbers[4 * i + 2] = key.file;
        numbers[4 * i + 3] = key.line;
    }
    return (int)count;
}

static int stack_write(struct trace_writer *w, uint64_t id, const uint64_t *numbers, uint32_t count)
{
    unsigned char *at = table_room(w, WRITER_STACKS, 1 + (2 + 4 * (size_t)count) * LEB_BYTES_MAX);
    if (!at)
        return w->error;
    *at++ = TRACE_EV_STACK;
    at = leb_write(at, id);
    at = leb_write(at, count);
    for (uint32_t i = 0; i < 4 * count; i++)
        at = leb_write(at, numbers[i]);
    table_used(w, WRITER_STACKS, at);
    return 0;
}

int trace_writer_stack_as(struct trace_writer *w, uint64_t id,
                          const struct trace_writer_frame *frames, uint32_t count)
{
    uint64_t numbers[4 * TRACE_STACK_FRAMES_MAX];
    if (w->error || !w->generation || id == 0)
        return latch(w, -EINVAL);
    int n = frames_make(w, frames, count, numbers);
    return n < 0 ? n : stack_write(w, id, numbers, (uint32_t)n);
}

struct stack_entry {
    uint64_t id;
    uint32_t count;
    uint64_t numbers[];
};

struct stack_key {
    const uint64_t *numbers;
    uint32_t count;
};

static bool stack_equal(const void *item, const void *key)
{
    const struct stack_entry *e = item;
    const struct stack_key *k = key;
    return e->count == k->count && memcmp(e->numbers, k->numbers, 32 * (size_t)e->count) == 0;
}

int trace_writer_stack(struct trace_writer *w, const struct trace_writer_frame *frames,
                       uint32_t count, uint64_t *id)
{
    uint64_t numbers[4 * TRACE_STACK_FRAMES_MAX];
    *id = 0;
    if (count == 0 || w->error)
        return w->error;
    int n = frames_make(w, frames, count, numbers);
    if (n < 0)
        return n;
    size_t size_bytes = 32 * (size_t)n;
    struct stack_key key = {numbers, (uint32_t)n};
    uint64_t hash = ptrtab_hash_bytes(numbers, size_bytes);
    const struct stack_entry *found = ptrtab_find(&w->stacks, hash, stack_equal, &key);
    if (found) {
        *id = found->id;
        return 0;
    }
    struct stack_entry *e = arena_alloc(&w->arena, sizeof *e + size_bytes);
    if (!e || ptrtab_add(&w->stacks, hash, e))
        return latch(w, -ENOMEM);
    *id = e->id = ++w->stack_next;
    e->count = (uint32_t)n;
    memcpy(e->numbers, numbers, size_bytes);
    return stack_write(w, *id, numbers, (uint32_t)n);
}

// --- Events.

static bool thread_equal(const void *item, const void *key)
{
    return ((const struct writer_thread *)item)->id == *(const int64_t *)key;
}

static struct writer_thread *thread_of(struct trace_writer *w, int64_t id)
{
    if (w->thread_last && w->thread_last->id == id)
        return w->thread_last;
    uint64_t hash = ptrtab_mix(2, (uint64_t)id);
    const void *found = ptrtab_find(&w->thread_tab, hash, thread_equal, &id);
    if (found) {
        const struct writer_thread *t = found;
        return w->thread_last = w->threads[t->place];
    }
    if (w->thread_count == w->thread_capacity) {
        size_t capacity = w->thread_capacity ? 2 * w->thread_capacity : 16;
        struct writer_thread **more = realloc(w->threads, capacity * sizeof *more);
        if (!more)
            return NULL;
        w->threads = more;
        w->thread_capacity = capacity;
    }
    struct writer_thread *t = malloc(sizeof *t);
    if (!t)
        return NULL;
    t->id = id;
    t->used = 0;
    t->time = 0;
    t->place = w->thread_count;
    if (ptrtab_add(&w->thread_tab, hash, t)) {
        free(t);
        return NULL;
    }
    w->threads[w->thread_count++] = t;
    return w->thread_last = t;
}

uint64_t writer_thread_time(struct trace_writer *w, int64_t thread)
{
    const struct writer_thread *t = thread_of(w, thread);
    return t ? t->time : 0;
}

int trace_writer_event(struct trace_writer *w, int64_t thread, uint8_t wire, uint64_t time,
                       const uint64_t *args)
{
    const struct trace_spec *spec = trace_spec_of(wire);
    if (w->error)
        return w->error;
    if (!w->generation || !spec->is_timed || !trace_spec_permits(w->options.version, wire))
        return latch(w, -EINVAL);
    struct writer_thread *t = thread_of(w, thread);
    if (!t)
        return latch(w, -ENOMEM);
    if (t->used + EVENT_BYTES_MAX > TRACE_BATCH_BYTES_MAX && thread_flush(w, t))
        return w->error;
    if (t->used == 0)
        t->batch_time = t->time = time;
    if (time < t->time)
        return latch(w, -EINVAL);
    unsigned char *at = t->data + t->used;
    *at++ = wire;
    at = leb_write(at, time - t->time);
    for (unsigned i = 0; i < spec->arg_count; i++)
        at = leb_write(at, args[i]);
    t->used = (uint32_t)(at - t->data);
    t->time = time;
    note_time(w, time);
    return 0;
}

int trace_writer_cpu_sample(struct trace_writer *w, uint64_t time, int64_t thread, int64_t proc,
                            int64_t goroutine, uint64_t stack)
{
    const uint64_t v[] = {time, (uint64_t)thread, (uint64_t)proc,
                          goroutine == TRACE_NONE ? 0 : (uint64_t)goroutine, stack};
    if (w->error || !w->generation)
        return latch(w, -EINVAL);
    unsigned char *at = table_room(w, WRITER_SAMPLES, 1 + 5 * LEB_BYTES_MAX);
    if (!at)
        return w->error;
    *at++ = TRACE_EV_CPU_SAMPLE;
    for (int i = 0; i < 5; i++)
        at = leb_write(at, v[i]);
    table_used(w, WRITER_SAMPLES, at);
    note_time(w, time);
    return 0;
}

int trace_writer_batch(struct trace_writer *w, int64_t thread, uint64_t time, const void *data,
                       size_t size_bytes)
{
    if (w->error || !w->generation || size_bytes > TRACE_BATCH_BYTES_MAX)
        return latch(w, -EINVAL);
    struct writer_thread *t = thread_of(w, thread);
    if (!t)
        return latch(w, -ENOMEM);
    thread_flush(w, t); // it comes before this one
    return emit_batch(w, 0, thread, time, data, (uint32_t)size_bytes);
}

int trace_writer_experimental(struct trace_writer *w, uint8_t experiment, int64_t thread,
                              uint64_t time, const void *data, size_t size_bytes)
{
    if (w->error || !w->generation || size_bytes > TRACE_BATCH_BYTES_MAX || experiment == 0)
        return latch(w, -EINVAL);
    return emit_batch(w, experiment, thread, time, data, (uint32_t)size_bytes);
}
