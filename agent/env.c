// SPDX-License-Identifier: MIT
//
// The parser of FIBERSCOPE; see env.h.

#include "agent/env.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

void agent_env_defaults(struct agent_env *env)
{
    memset(env, 0, sizeof *env);
    env->inherit = true;
    env->unblock = true;
    env->trace_bytes = AGENT_TRACE_BYTES_DEFAULT;
}

// One value, unescaped.
struct value {
    char text[AGENT_PATH_BYTES];
    uint32_t n;
    bool too_long;
};

bool agent_env_wants_anything(const struct agent_env *env)
{
    return env->cpu_hz || env->wall_hz || env->heap_bytes || env->block_ns || env->mutex_fraction ||
           env->order || env->heaptrace_ms || env->trace_on;
}

static const char *read_digits(const char *text, uint32_t length, uint64_t max,
                               const char *too_large, uint64_t *out)
{
    uint64_t n = 0;
    if (!length)
        return "a number is missing";
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return "not a whole number";
        n = n * 10 + (uint64_t)(text[i] - '0');
        if (n > max)
            return too_large;
    }
    *out = n;
    return NULL;
}

static const char *read_number64(const struct value *v, uint64_t max, const char *too_large,
                                 uint64_t *out)
{
    return read_digits(v->text, v->n, max, too_large, out);
}

static const char *read_number(const struct value *v, uint32_t max, const char *too_large,
                               uint32_t *out)
{
    uint64_t n;
    const char *why = read_number64(v, max, too_large, &n);
    if (!why)
        *out = (uint32_t)n;
    return why;
}

static const char *read_hz(const struct value *v, uint32_t *out)
{
    return read_number(v, AGENT_HZ_MAX, "too large (at most 10000)", out);
}

// How long the unit at the end is: K, M, G, T, each with i, B or both after it, as in record --heap; and
// how many bytes it is.
static uint32_t size_suffix(const struct value *v, uint64_t *unit)
{
    static const char letters[] = "kmgt";
    uint32_t n = v->n;
    *unit = 1;
    if (n && (v->text[n - 1] == 'B' || v->text[n - 1] == 'b'))
        n--;
    uint32_t at = n && v->text[n - 1] == 'i' ? n - 1 : n;
    const char *letter = at ? memchr(letters, v->text[at - 1] | 0x20, 4) : NULL;
    if (!letter)
        return v->n - n;
    *unit = UINT64_C(1024) << (10 * (letter - letters));
    return v->n - (at - 1);
}

static const char *read_heap(const struct value *v, uint64_t *out)
{
    if (v->n == 5 && !memcmp(v->text, "exact", 5)) {
        *out = 1;
        return NULL;
    }
    uint64_t unit;
    if (v->n && (v->text[0] < '0' || v->text[0] > '9'))
        return "must be a number of bytes, or exact";
    uint32_t digits = v->n - size_suffix(v, &unit);
    const char *why =
        read_digits(v->text, digits, (UINT64_C(1) << 40) / unit, "too large (at most 1 TiB)", out);
    if (!why)
        *out *= unit;
    return why;
}

static const char *read_trace_bytes(const struct value *v, uint64_t *out)
{
    uint64_t unit, n = 0;
    uint32_t digits = v->n - size_suffix(v, &unit);
    const char *why = read_digits(v->text, digits, AGENT_TRACE_BYTES_MAX / unit,
                                  "too large (at most 64 GiB)", &n);
    if (!why && n * unit < AGENT_TRACE_BYTES_MIN)
        return "too small (at least 1 MiB)";
    if (!why)
        *out = n * unit;
    return why;
}

static const char *read_bool(const struct value *v, bool *out)
{
    if (v->n != 1 || (v->text[0] != '0' && v->text[0] != '1'))
        return "must be 0 or 1";
    *out = v->text[0] == '1';
    return NULL;
}

static const char *read_text(const struct value *v, char *out, size_t size)
{
    if (!v->n)
        return "empty";
    if (v->n >= size)
        return "too long";
    memcpy(out, v->text, v->n);
    out[v->n] = '\0';
    return NULL;
}

static const char *read_source(const struct value *v, enum agent_source_wish *out)
{
    static const char *const names[] = {"auto", "perf", "timer"};
    for (unsigned i = 0; i < 3; i++)
        if (v->n == strlen(names[i]) && !memcmp(v->text, names[i], v->n)) {
            *out = (enum agent_source_wish)i;
            return NULL;
        }
    return "must be auto, perf or timer";
}

static const char *set_key(struct agent_env *env, const char *key, size_t n, const struct value *v)
{
#define IS(name) (n == sizeof(name) - 1 && !memcmp(key, name, n))
    if (IS("cpu"))
        return read_hz(v, &env->cpu_hz);
    if (IS("wall"))
        return read_hz(v, &env->wall_hz);
    if (IS("heap"))
        return read_heap(v, &env->heap_bytes);
    if (IS("block"))
        return read_number64(v, UINT64_C(3600000000000), "too large (at most an hour)",
                             &env->block_ns);
    if (IS("mutex"))
        return read_number64(v, 1000000000, "too large (at most 1000000000)", &env->mutex_fraction);
    if (IS("order"))
        return read_bool(v, &env->order);
    if (IS("heaptrace"))
        return read_number(v, 3600000, "too large (at most an hour)", &env->heaptrace_ms);
    if (IS("mmap"))
        return read_bool(v, &env->mmaps);
    if (IS("trace"))
        return read_bool(v, &env->trace_on);
    if (IS("trace_bytes"))
        return read_trace_bytes(v, &env->trace_bytes);
    if (IS("flight")) {
        const char *why = read_bool(v, &env->trace_flight);
        env->trace_on |= env->trace_flight;
        return why;
    }
    static const char *const slow[] = {"slow_region", "slow_task", "slow_latency", "slow_stall"};
    for (uint32_t i = 0; i < 4; i++) {
        if (n == strlen(slow[i]) && !memcmp(key, slow[i], n)) {
            const char *why = read_number64(v, UINT64_C(3600000000000),
                                            "too large (at most an hour)", &env->trace_slow_ns[i]);
            env->trace_flight |= env->trace_slow_ns[i] != 0;
            env->trace_on |= env->trace_flight;
            return why;
        }
    }
    if (IS("got"))
        return read_bool(v, &env->got);
    if (IS("out"))
        return read_text(v, env->out, sizeof env->out);
    if (IS("segment"))
        return read_text(v, env->segment, sizeof env->segment);
    if (IS("socket"))
        return read_text(v, env->socket, sizeof env->socket);
    if (IS("inherit"))
        return read_bool(v, &env->inherit);
    if (IS("unblock"))
        return read_bool(v, &env->unblock);
    if (IS("quiet"))
        return read_bool(v, &env->quiet);
    if (IS("source"))
        return read_source(v, &env->source);
#undef IS
    return "not a key this agent knows";
}

// Reads the value that starts at p up to its comma or the end; where it stopped.
static const char *take_value(struct value *v, const char *p)
{
    v->n = 0;
    v->too_long = false;
    for (; *p && *p != ','; p++) {
        if (*p == '\\' && (p[1] == ',' || p[1] == '\\'))
            p++;
        if (v->n < sizeof v->text)
            v->text[v->n++] = *p;
        else
            v->too_long = true;
    }
    return p;
}

int agent_env_parse(struct agent_env *env, const char *text, agent_env_complain_fn *fn, void *arg)
{
    int wrong = 0;
    struct value v;
    for (const char *p = text ? text : ""; *p;) {
        const char *item = p, *why;
        while (*p && *p != ',' && *p != '=')
            p++;
        size_t key_n = (size_t)(p - item);
        if (*p == '=') {
            p = take_value(&v, p + 1);
            why = v.too_long ? "too long" : set_key(env, item, key_n, &v);
        } else {
            why = key_n ? "not key=value" : NULL; // an empty item does no harm
        }
        if (why) {
            wrong++;
            ptrdiff_t n = p - item;
            if (fn)
                fn(arg, item, n > 64 ? 64 : (int)n, why);
        }
        if (*p == ',')
            p++;
    }
    return wrong;
}

int agent_env_expand(char *path, uint32_t size, const char *pattern, uint32_t pid,
                     const char *program)
{
    uint32_t n = 0;
    char digits[12];
    for (const char *p = pattern; *p; p++) {
        char one[2] = {*p, '\0'};
        const char *add = one;
        bool is_name = false;
        if (p[0] == '%' && p[1] == 'p') {
            char *d = digits + sizeof digits;
            *--d = '\0';
            uint32_t rest = pid;
            do
                *--d = (char)('0' + rest % 10);
            while (rest /= 10);
            add = d;
            p++;
        } else if (p[0] == '%' && p[1] == 'e') {
            add = program;
            is_name = true;
            p++;
        } else if (p[0] == '%' && p[1] == '%') {
            p++;
        }
        for (; *add; add++) {
            if (n + 1 >= size)
                return -ENAMETOOLONG;
            path[n++] = is_name && *add == '/' ? '_' : *add;
        }
    }
    path[n] = '\0';
    return 0;
}
