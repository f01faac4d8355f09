// SPDX-License-Identifier: MIT
//
// See trace_symbols.h. Three caches: a module's image, an address' frames, a stack's frames.

#include "collector/trace_symbols.h"

#include "base/array.h"
#include "collector/intern.h"
#include "collector/symbolize_image.h"
#include "collector/trace_api.h"
#include "collector/trace_own.h"
#include "collector/trace_names.h"
#include "symbols/data_symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_MODULE = UINT32_MAX, NAME_BYTES = 4096 };

enum role {
    ROLE_PROGRAM,
    ROLE_OURS,       // Fiberscope's
    ROLE_ROOT,       // below a start function
    ROLE_TRAMPOLINE, // of the C++ library, between a thread's beginning and its function
};

// Whose stack: an event's, all of whose pcs are return addresses; a sample's, or a thread's that was looked at from
// outside, whose leaf is exact.
enum kind { KIND_EVENT, KIND_SAMPLE, KIND_OUTSIDE };

struct module {
    uint64_t start, end, offset;
    uint32_t load_epoch, unload_epoch;
    uint32_t path, build_id; // strings
    int fd;
    bool is_tried;    // image
    bool is_absolute; // the image's addresses are run-time ones
    bool is_libc;     // C library or loader
    bool is_ours;     // one of Fiberscope's libraries
    bool is_stdcxx;   // the C++ library
    bool has_runtime; // the runtime is linked into it
    struct trace_own own;
    struct symbols_image *image;
};

struct location_key { // hashed as bytes, so no padding
    uint64_t address;
    uint32_t module, is_exact;
};

struct frame {
    uint64_t pc;
    uint32_t function, file; // strings
    uint32_t line;
    enum role role;
    bool is_libc;
};

struct run { // a range of an array
    uint32_t first, count;
    bool is_known;
};

struct trace_symbols {
    struct trace_symbols_options o;
    struct symbols *symbols; // NULL: none
    struct module *modules;
    size_t module_count, module_capacity, module_seen;
    struct intern strings, locations;
    struct run *location_frames; // by location id: frames
    size_t location_capacity;
    struct frame *frames;
    size_t frame_count, frame_capacity;
    struct run *stacks[2]; // by stack id, is_sample: stack_frames
    uint32_t stack_limit;  // ids are below
    uint32_t *stack_frames;
    size_t stack_frame_count, stack_frame_capacity;
    struct trace_writer_frame out[TRACE_STACK_FRAMES_MAX];
    uint64_t damaged;
};

int trace_symbols_new(struct trace_symbols **out, const struct trace_symbols_options *o)
{
    *out = NULL;
    struct trace_symbols *ts = calloc(1, sizeof *ts);
    if (!ts)
        return -ENOMEM;
    ts->o = *o;
    if (o->symbolize && symbols_new(&ts->symbols, NULL, NULL))
        ts->symbols = NULL; // addresses are better than nothing
    if (intern_string(&ts->strings, "") == INTERN_NONE) {
        trace_symbols_free(ts);
        return -ENOMEM;
    }
    *out = ts;
    return 0;
}

void trace_symbols_free(struct trace_symbols *ts)
{
    if (!ts)
        return;
    for (size_t i = 0; i < ts->module_count; i++)
        if (ts->modules[i].fd >= 0)
            close(ts->modules[i].fd);
    free(ts->modules);
    free(ts->location_frames);
    free(ts->frames);
    free(ts->stacks[0]);
    free(ts->stacks[1]);
    free(ts->stack_frames);
    intern_finish(&ts->locations);
    intern_finish(&ts->strings);
    symbols_free(ts->symbols);
    free(ts);
}

uint64_t trace_symbols_damaged(const struct trace_symbols *ts)
{
    return ts->damaged;
}

// --- Modules.

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool links_runtime(int fd, const char *path)
{
    struct data_symbols *d = NULL;
    uint64_t address;
    if (fd < 0 || data_symbols_open(&d, fd, path, NULL))
        return false;
    bool is_there = data_symbols_address(d, "fib_descriptor", &address) == 0;
    data_symbols_close(d);
    return is_there;
}

static int add_module(struct trace_symbols *ts, struct module *m, const struct seg_module *sm,
                      const char *path)
{
    char build_id[2 * SEG_BUILD_ID_BYTES + 1] = "";
    const char *base = base_name(path);
    for (uint32_t i = 0; i < sm->build_id_size && i < SEG_BUILD_ID_BYTES; i++)
        sprintf(build_id + (size_t)i * 2, "%02x", sm->build_id[i]);
    *m = (struct module){
        .start = sm->start,
        .end = sm->end,
        .offset = sm->offset,
        .load_epoch = sm->load_epoch,
        .path = intern_string(&ts->strings, path),
        .build_id = intern_string(&ts->strings, build_id),
        .fd = ts->o.open_file ? ts->o.open_file(ts->o.arg, sm, path, build_id) : -1,
        .is_libc = begins(base, "libc.so") || begins(base, "libc-2.") || begins(base, "ld-") ||
                   begins(base, "libpthread"),
        .is_ours = begins(base, "libfiberscope"),
        .is_stdcxx = begins(base, "libstdc++.so") || begins(base, "libc++.so"),
    };
    if (m->path == INTERN_NONE || m->build_id == INTERN_NONE)
        return -ENOMEM;
    return 0;
}

// Modules come in the same order each time.
static int see_module(void *arg, const struct seg_module *sm, const char *path)
{
    struct trace_symbols *ts = arg;
    size_t i = ts->module_seen++;
    uint32_t unload = atomic_load_explicit(&sm->unload_epoch, memory_order_relaxed);
    if (i >= ts->module_count) {
        if (array_reserve((void **)&ts->modules, &ts->module_capacity, i, sizeof *ts->modules))
            return -ENOMEM;
        int rc = add_module(ts, &ts->modules[i], sm, path);
        ts->module_count = i + 1;
        if (rc)
            return rc;
    }
    ts->modules[i].unload_epoch = unload;
    return 0;
}

int trace_symbols_modules(struct trace_symbols *ts)
{
    ts->module_seen = 0;
    int64_t rc = seg_reader_modules(ts->o.reader, see_module, ts);
    return rc < 0 ? (int)rc : 0;
}

// Where this address belonged in that epoch; of several the one that came last.
static uint32_t find_module(const struct trace_symbols *ts, uint64_t address, uint32_t epoch)
{
    uint32_t found = NO_MODULE;
    for (size_t i = 0; i < ts->module_count; i++) {
        const struct module *m = &ts->modules[i];
        if (address < m->start || address >= m->end || m->load_epoch > epoch ||
            (m->unload_epoch && m->unload_epoch <= epoch))
            continue;
        if (found == NO_MODULE || m->load_epoch >= ts->modules[found].load_epoch)
            found = (uint32_t)i;
    }
    return found;
}

static void open_image(struct trace_symbols *ts, struct module *m)
{
    m->is_tried = true;
    const char *path = intern_text(&ts->strings, m->path);
    m->has_runtime = !m->is_ours && links_runtime(m->fd, path);
    if (!ts->symbols)
        return;
    const struct symbolize_source source = {
        .file = path,
        .build_id = intern_text(&ts->strings, m->build_id),
        .start = m->start,
        .fd = m->fd,
        .pid = (pid_t)ts->o.pid,
        .root = "",
    };
    if (symbolize_open_image(ts->symbols, &source, &m->image, &m->is_absolute, NULL))
        m->image = NULL;
    if (m->has_runtime && m->image)
        trace_own_learn(&m->own, m->image);
}

// --- What a frame is called, and whose it is.

static int put_frame(struct trace_symbols *ts, const struct frame *f)
{
    if (ts->frame_count >= UINT32_MAX || array_reserve((void **)&ts->frames, &ts->frame_capacity,
                                                       ts->frame_count, sizeof *ts->frames))
        return -ENOMEM;
    ts->frames[ts->frame_count++] = *f;
    return 0;
}

static int put_named(struct trace_symbols *ts, const struct module *m, uint64_t pc,
                     const struct symbols_frame *sf)
{
    char name[NAME_BYTES];
    bool is_ours = m->is_ours || trace_own_is_header(sf->name, sf->file) ||
                   (m->has_runtime && trace_own_is(&m->own, sf->name, sf->file));
    bool is_root = trace_names_is_root(sf->name, is_ours);
    const char *public = trace_names_public(sf->name, is_ours);
    is_ours &= !public;
    snprintf(name, sizeof name, "%s%s", is_ours ? "runtime." : "", public ? public : sf->name);
    const struct frame f = {
        .pc = pc,
        .function = intern_string(&ts->strings, name),
        .file = intern_string(&ts->strings, sf->file),
        .line = sf->line,
        .role = is_root                               ? ROLE_ROOT
                : is_ours                             ? ROLE_OURS
                : trace_names_is_trampoline(sf->name) ? ROLE_TRAMPOLINE
                                                      : ROLE_PROGRAM,
        .is_libc = m->is_libc,
    };
    return f.function == INTERN_NONE || f.file == INTERN_NONE ? -ENOMEM : put_frame(ts, &f);
}

static int put_nameless(struct trace_symbols *ts, const struct module *m, uint64_t pc,
                        uint64_t address)
{
    char name[NAME_BYTES + 32];
    if (m)
        snprintf(name, sizeof name, "%s%s+0x%" PRIx64, m->is_ours ? "runtime." : "",
                 base_name(intern_text(&ts->strings, m->path)), address - m->start + m->offset);
    else if (address == SEG_TRACE_MAIN)
        strcpy(name, "main");
    else
        snprintf(name, sizeof name, "0x%" PRIx64, address);
    const struct frame f = {
        .pc = pc,
        .function = intern_string(&ts->strings, name),
        // A stripped libc does not say that this is start_thread; nothing else of it lies at a root.
        .role = m && m->is_libc     ? ROLE_ROOT
                : m && m->is_ours   ? ROLE_OURS
                : m && m->is_stdcxx ? ROLE_TRAMPOLINE
                                    : ROLE_PROGRAM,
        .is_libc = m && m->is_libc,
    };
    return f.function == INTERN_NONE ? -ENOMEM : put_frame(ts, &f);
}

// The image that has the address, which becomes the image's; NULL: none.
static struct symbols_image *image_of(struct trace_symbols *ts, struct module *m, uint64_t *address)
{
    if (m && !m->is_tried)
        open_image(ts, m);
    if (!m || !m->image ||
        (!m->is_absolute &&
         symbols_address_of_offset(m->image, *address - m->start + m->offset, address)))
        return NULL;
    return m->image;
}

static int resolve_location(struct trace_symbols *ts, uint32_t module, uint64_t pc,
                            uint64_t address)
{
    struct symbols_frame sf[SYMBOLS_FRAMES_MAX];
    struct module *m = module == NO_MODULE ? NULL : &ts->modules[module];
    uint64_t link = address;
    struct symbols_image *image = image_of(ts, m, &link);
    int n = image ? symbols_lookup(image, link, sf, SYMBOLS_FRAMES_MAX) : 0, put = 0;
    for (int i = 0; i < n; i++) {
        if (!*sf[i].name)
            continue;
        int rc = put_named(ts, m, pc, &sf[i]);
        if (rc)
            return rc;
        put++;
    }
    return n < 0 ? n : put ? 0 : put_nameless(ts, m, pc, address);
}

// --- Stacks.

static const struct run *location(struct trace_symbols *ts, uint64_t pc, bool is_exact,
                                  uint32_t epoch)
{
    uint64_t address = pc - !is_exact;
    const struct location_key key = {address, find_module(ts, address, epoch), is_exact};
    uint32_t before = ts->locations.count;
    if (array_reserve((void **)&ts->location_frames, &ts->location_capacity, before,
                      sizeof *ts->location_frames))
        return NULL;
    uint32_t id = intern_put(&ts->locations, &key, sizeof key);
    if (id == INTERN_NONE)
        return NULL;
    if (id == before)
        ts->location_frames[id] = (struct run){0};
    struct run *l = &ts->location_frames[id];
    if (!l->is_known) {
        uint32_t first = (uint32_t)ts->frame_count;
        if (resolve_location(ts, key.module, pc, address))
            return NULL;
        *l = (struct run){first, (uint32_t)ts->frame_count - first, true};
    }
    return l;
}

static int put_stack_frame(struct trace_symbols *ts, uint32_t frame)
{
    if (ts->stack_frame_count >= UINT32_MAX ||
        array_reserve((void **)&ts->stack_frames, &ts->stack_frame_capacity, ts->stack_frame_count,
                      sizeof *ts->stack_frames))
        return -ENOMEM;
    ts->stack_frames[ts->stack_frame_count++] = frame;
    return 0;
}

// What the outermost frame of ours at the leaf is to be called, which pcs[caller] called. False: as it is.
static bool called_name(struct trace_symbols *ts, const struct frame *own, bool is_inlined,
                        const uint64_t *caller, uint32_t epoch, char out[TRACE_API_NAME_BYTES])
{
    struct trace_api_leaf leaf = {intern_text(&ts->strings, own->function), is_inlined, NULL, 0};
    struct trace_api_code code;
    // By POSIX a thread that returns ends by this call, too.
    if (strcmp(leaf.function, "runtime.slot_leave") == 0) {
        strcpy(out, "pthread_exit");
        return true;
    }
    if (caller) {
        uint64_t address = *caller - 1;
        uint32_t module = find_module(ts, address, epoch);
        struct module *m = module == NO_MODULE ? NULL : &ts->modules[module];
        struct symbols_image *image = image_of(ts, m, &address);
        if (image && !m->is_absolute) {
            code = trace_api_code_of(image);
            leaf.code = &code;
            leaf.after = address + 1;
        }
    }
    return trace_api_called(&leaf, out);
}

// Of our frames at the leaf the outermost stays, as what the program called. A thread that was looked at while it waited
// is in libc, in the function that else a hook of ours would have been in: that is called likewise.
static int name_leaf(struct trace_symbols *ts, const uint64_t *pcs, int n, enum kind kind,
                     uint32_t epoch, struct run *s)
{
    uint32_t *ids = ts->stack_frames + s->first, own = 0, at = 0;
    bool is_looked_at = s->count && ts->frames[ids[0]].is_libc;
    char name[TRACE_API_NAME_BYTES];
    while (own < s->count && (ts->frames[ids[own]].role == ROLE_OURS ||
                              (is_looked_at && ts->frames[ids[own]].is_libc)))
        own++;
    if (!own || (is_looked_at && own == s->count))
        return 0;
    int caller = 0; // the first pc with a frame that is not ours
    for (; caller < n; caller++) {
        const struct run *l = location(ts, pcs[caller], kind == KIND_OUTSIDE && !caller, epoch);
        if (!l)
            return -ENOMEM;
        if (at + l->count > own)
            break;
        at += l->count;
    }
    struct frame f = ts->frames[ids[own - 1]];
    bool is_program = own < s->count && ts->frames[ids[own]].role != ROLE_ROOT;
    if (called_name(ts, &f, at < own, caller < n ? &pcs[caller] : NULL, epoch, name)) {
        if (strcmp(name, intern_text(&ts->strings, f.function)) != 0) {
            f.file = intern_string(&ts->strings, "");
            f.line = 0;
        }
        f.function = intern_string(&ts->strings, name);
        if (f.function == INTERN_NONE || put_frame(ts, &f))
            return -ENOMEM;
        ids[own - 1] = (uint32_t)ts->frame_count - 1;
        if (strcmp(name, "pthread_exit") == 0)
            s->count = own;
    } else if (!is_program || is_looked_at) {
        return 0;
    }
    s->count -= own - 1;
    memmove(ids, ids + own - 1, s->count * sizeof *ids);
    return 0;
}

// A closure's function is called operator() alone where it is inlined, and otherwise by its parameters, too; whose it is
// stands in what called it. For what has no frame of its own, as one that has not begun, that stands alone.
static int name_closure(struct trace_symbols *ts, uint32_t *id, uint32_t trampoline)
{
    char name[NAME_BYTES];
    struct frame f = ts->frames[*id];
    const char *now = intern_text(&ts->strings, f.function);
    if (!trace_names_callable(intern_text(&ts->strings, ts->frames[trampoline].function), name,
                              sizeof name) ||
        (*id != trampoline && strcmp(now, "operator()") != 0 && !begins(now, name)))
        return 0;
    f.function = intern_string(&ts->strings, name);
    if (f.function == INTERN_NONE || put_frame(ts, &f))
        return -ENOMEM;
    *id = (uint32_t)ts->frame_count - 1;
    return 0;
}

// Takes off the roots, and what the C++ library has between them and a thread's function; a start function that is nothing
// else names nobody, so that the first stack of the thread does. And what is more than a trace may have: from the
// middle, for the outermost frame names the fiber.
static int trim(struct trace_symbols *ts, struct run *s)
{
    uint32_t *ids = ts->stack_frames + s->first;
    while (s->count > 1 && ts->frames[ids[s->count - 1]].role == ROLE_ROOT)
        s->count--;
    uint32_t whole = s->count;
    while (s->count && ts->frames[ids[s->count - 1]].role == ROLE_TRAMPOLINE)
        s->count--;
    if (s->count != whole && s->count)
        for (uint32_t i = s->count; i < whole; i++)
            if (name_closure(ts, &ids[s->count - 1], ids[i]))
                return -ENOMEM;
    for (uint32_t i = 0; !s->count && i < whole; i++) {
        uint32_t named = ids[i];
        if (name_closure(ts, &named, named))
            return -ENOMEM;
        if (named != ids[i]) {
            ids[0] = named;
            s->count = 1;
        }
    }
    if (s->count > TRACE_STACK_FRAMES_MAX) {
        ids[TRACE_STACK_FRAMES_MAX - 1] = ids[s->count - 1];
        s->count = TRACE_STACK_FRAMES_MAX;
    }
    ts->stack_frame_count = s->first + s->count;
    return 0;
}

static int resolve_pcs(struct trace_symbols *ts, const uint64_t *pcs, int n, enum kind kind,
                       uint32_t epoch, struct run *s)
{
    for (int i = 0; i < n; i++) {
        const struct run *l = location(ts, pcs[i], kind != KIND_EVENT && i == 0, epoch);
        for (uint32_t k = 0; l && k < l->count; k++)
            if (put_stack_frame(ts, l->first + k))
                return -ENOMEM;
        if (!l)
            return -ENOMEM;
    }
    s->count = (uint32_t)ts->stack_frame_count - s->first;
    int rc = kind == KIND_SAMPLE ? 0 : name_leaf(ts, pcs, n, kind, epoch, s);
    return rc ? rc : trim(ts, s);
}

static int resolve_stack(struct trace_symbols *ts, uint32_t id, bool is_sample, struct run *s)
{
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    uint32_t kind = 0, epoch = 0;
    int n = seg_reader_stack(ts->o.reader, id, pcs, SEG_STACK_DEPTH_MAX, &kind, &epoch, NULL);
    *s = (struct run){.first = (uint32_t)ts->stack_frame_count, .is_known = true};
    if (n < 0 || kind != 0) {
        ts->damaged++;
        return 0;
    }
    return resolve_pcs(ts, pcs, n, is_sample ? KIND_SAMPLE : KIND_EVENT, epoch, s);
}

static struct trace_text text_of(const struct trace_symbols *ts, uint32_t string)
{
    const char *text = intern_text(&ts->strings, string);
    return (struct trace_text){text, (uint32_t)strlen(text)};
}

// Ids are places in a table of the segment: as many as that has.
enum { STACK_IDS_MAX = 1 << 24 };

static int grow_stacks(struct trace_symbols *ts, uint32_t id)
{
    uint32_t n = ts->stack_limit ? ts->stack_limit : 1 << 10;
    while (n <= id)
        n *= 2;
    for (int i = 0; i < 2; i++) {
        struct run *grown = reallocarray(ts->stacks[i], n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memset(grown + ts->stack_limit, 0, (n - ts->stack_limit) * sizeof *grown);
        ts->stacks[i] = grown;
    }
    ts->stack_limit = n;
    return 0;
}

static int show(struct trace_symbols *ts, const struct run *s,
                const struct trace_writer_frame **frames)
{
    *frames = ts->out;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct frame *f = &ts->frames[ts->stack_frames[s->first + i]];
        ts->out[i] = (struct trace_writer_frame){f->pc, text_of(ts, f->function),
                                                 text_of(ts, f->file), f->line};
    }
    return (int)s->count;
}

int trace_symbols_stack(struct trace_symbols *ts, uint32_t id, bool is_sample,
                        const struct trace_writer_frame **frames)
{
    *frames = ts->out;
    if (!id)
        return 0;
    if (id >= STACK_IDS_MAX) {
        ts->damaged++;
        return 0;
    }
    if (id >= ts->stack_limit && grow_stacks(ts, id))
        return -ENOMEM;
    struct run *s = &ts->stacks[is_sample][id];
    if (!s->is_known) {
        int rc = resolve_stack(ts, id, is_sample, s);
        if (rc) {
            s->is_known = false;
            return rc;
        }
    }
    return show(ts, s, frames);
}

int trace_symbols_pcs(struct trace_symbols *ts, const uint64_t *pcs, uint32_t depth,
                      const struct trace_writer_frame **frames)
{
    struct run s = {.first = (uint32_t)ts->stack_frame_count};
    int rc = resolve_pcs(ts, pcs, (int)depth, KIND_OUTSIDE, UINT32_MAX, &s);
    if (!rc)
        rc = show(ts, &s, frames);
    ts->stack_frame_count = s.first; // nobody asks for it by a number
    return rc;
}
