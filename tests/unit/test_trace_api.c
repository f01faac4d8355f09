// SPDX-License-Identifier: MIT
//
// What a program called, from bytes of code put together by hand: each kind of call, and bytes that are none. The names
// are those that the agent defines.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/trace_api.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASE = 0x10000, CODE_BYTES = 8192, THINGS_MAX = 16 };

struct thing {
    uint64_t low, high;
    const char *name;
};

static struct code {
    uint8_t bytes[CODE_BYTES];
    struct thing functions[THINGS_MAX], slots[THINGS_MAX];
    uint32_t function_count, slot_count;
} code;

static size_t read_code(void *arg, uint64_t address, void *out, size_t size)
{
    (void)arg;
    if (address < BASE || address - BASE >= CODE_BYTES)
        return 0;
    size_t at = (size_t)(address - BASE), n = size < CODE_BYTES - at ? size : CODE_BYTES - at;
    memcpy(out, code.bytes + at, n);
    return n;
}

static const char *find(const struct thing *t, uint32_t count, uint64_t address)
{
    for (uint32_t i = 0; i < count; i++)
        if (address >= t[i].low && address < t[i].high)
            return t[i].name;
    return NULL;
}

static const char *function_at(void *arg, uint64_t address)
{
    (void)arg;
    return find(code.functions, code.function_count, address);
}

static const char *slot_at(void *arg, uint64_t address)
{
    (void)arg;
    return find(code.slots, code.slot_count, address);
}

static const struct trace_api_code reads = {NULL, read_code, function_at, slot_at};

static void begin(void)
{
    memset(&code, 0, sizeof code);
    memset(code.bytes, 0x90, sizeof code.bytes);
}

static void function(uint64_t low, uint64_t high, const char *name)
{
    code.functions[code.function_count++] = (struct thing){BASE + low, BASE + high, name};
}

static void slot(uint64_t at, const char *name)
{
    code.slots[code.slot_count++] = (struct thing){BASE + at, BASE + at + 1, name};
}

// An instruction of these bytes and a displacement to `to`; where the next one begins.
static uint64_t put(uint64_t at, const char *opcode, size_t n, uint64_t to)
{
    uint32_t d = (uint32_t)(to - (at + n + 4));
    memcpy(code.bytes + at, opcode, n);
    memcpy(code.bytes + at + n, &d, 4);
    return at + n + 4;
}

static const char *called_from(uint64_t after, const char *own)
{
    static char name[TRACE_API_NAME_BYTES];
    const struct trace_api_leaf leaf = {own, false, &reads, BASE + after};
    return trace_api_called(&leaf, name) ? name : NULL;
}

static void calls_say_what_they_call(void **state)
{
    (void)state;
    begin();
    function(0, 100, "main");
    function(100, 116, "pthread_mutex_lock@plt");
    function(200, 300, "fib_chan_send");
    slot(0x1f00, "read");
    assert_string_equal(called_from(put(10, "\xe8", 1, 100), "runtime.wait"), "pthread_mutex_lock");
    assert_string_equal(called_from(put(10, "\xe8", 1, 200), "runtime.wait"),
                        "runtime.fib_chan_send");
    assert_string_equal(called_from(put(10, "\xff\x15", 2, 0x1f00), "runtime.begin"), "read");
    assert_string_equal(called_from(put(10, "\x67\xe8", 2, 200), "runtime.w"),
                        "runtime.fib_chan_send");
    // The call says more than the frame: of two public functions one left by the other.
    assert_string_equal(called_from(put(10, "\xe8", 1, 200), "runtime.fib_chan_send_for"),
                        "runtime.fib_chan_send");
    assert_string_equal(called_from(put(10, "\xff\x15", 2, 0x1f08), "runtime.fib_join"),
                        "runtime.fib_join");
    assert_null(called_from(put(10, "\xff\x15", 2, 0x1f08), "runtime.begin"));
    assert_null(called_from(put(10, "\xe8", 1, 50), "runtime.begin"));
    // What is inlined has no call.
    char name[TRACE_API_NAME_BYTES];
    const struct trace_api_leaf leaf = {"runtime.fib_mutex_lock_", true, &reads,
                                        BASE + put(10, "\xe8", 1, 200)};
    assert_true(trace_api_called(&leaf, name));
    assert_string_equal(name, "runtime.fib_mutex_lock");
}

static void registers_are_followed_back(void **state)
{
    (void)state;
    begin();
    function(0, 100, "before");
    function(100, 6000, "main");
    function(6100, 6200, "fib_yield");
    slot(0x1f00, "read");
    slot(0x1f08, "write");
    slot(0x1f10, "puts");
    put(20, "\x48\x8b\x1d", 3, 0x1f08);           // in another function
    put(3000, "\x48\x8b\x1d", 3, 0x1f00);         // mov read, %rbx
    put(3010, "\x4c\x8b\x25", 3, 0x1f08);         // mov write, %r12
    memcpy(code.bytes + 3100, "\xff\xd3", 2);     // call *%rbx
    memcpy(code.bytes + 3200, "\x41\xff\xd4", 3); // call *%r12
    assert_string_equal(called_from(3102, "runtime.begin"), "read");
    assert_string_equal(called_from(3203, "runtime.begin"), "write");
    put(3020, "\x48\x8b\x1d", 3, 0x1f10);
    assert_null(called_from(3102, "runtime.begin"));
    put(3020, "\x48\x8d\x1d", 3, 6100); // lea fib_yield, %rbx
    assert_string_equal(called_from(3102, "runtime.begin"), "runtime.fib_yield");
    memcpy(code.bytes + 60, "\xff\xd3", 2); // the file begins little before it
    assert_string_equal(called_from(62, "runtime.begin"), "write");
    memcpy(code.bytes + 110, "\xff\xd3", 2); // loaded in another function
    assert_null(called_from(112, "runtime.begin"));
}

static void a_function_that_has_gone_is_looked_through(void **state)
{
    (void)state;
    begin();
    function(0, 100, "main");
    function(100, 200, "helper");
    function(200, 300, "other");
    function(400, 416, "fib_join@plt");
    function(416, 432, "fib_yield@plt");
    slot(0x1f00, "read");
    uint64_t after = put(10, "\xe8", 1, 100);
    put(150, "\xe9", 1, 400);
    assert_string_equal(called_from(after, "runtime.fib_join_for"), "runtime.fib_join");
    put(160, "\xe9", 1, 120); // a loop
    assert_string_equal(called_from(after, "runtime.fib_join_for"), "runtime.fib_join");
    put(170, "\xe9", 1, 200); // perhaps by this one
    assert_string_equal(called_from(after, "runtime.fib_join_for"), "runtime.fib_join_for");
    assert_string_equal(called_from(after, "runtime.join"), "runtime.fib_join");
    put(180, "\xe9", 1, 416);
    assert_null(called_from(after, "runtime.join"));
    begin();
    function(0, 100, "main");
    function(100, 200, "helper");
    function(200, 300, "next");
    slot(0x1f00, "read");
    after = put(10, "\xe8", 1, 100);
    put(250, "\xff\x25", 2, 0x1f00); // of the next function
    assert_null(called_from(after, "runtime.begin"));
    put(150, "\xff\x25", 2, 0x1f00);
    assert_string_equal(called_from(after, "runtime.begin"), "read");
}

static void names_are_as_programs_write_them(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"read", "read"},
        {"runtime.read", "read"},
        {"pthread_cond_wait@@GLIBC_2.3.2", "pthread_cond_wait"},
        {"fib_mutex_lock_", "runtime.fib_mutex_lock"},
        {"runtime.fib_join.part.0", "runtime.fib_join"},
        {"fscope_log@plt", "runtime.fscope_log"},
        {"wait_for_mutex", NULL},
        {"runtime.begin", NULL},
        {"reader", NULL},
        {"", NULL},
        {"@plt", NULL},
        {"runtime.", NULL},
    };
    char name[TRACE_API_NAME_BYTES], longer[200];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(trace_api_name(pairs[i][0], name), pairs[i][1] != NULL);
        if (pairs[i][1])
            assert_string_equal(name, pairs[i][1]);
    }
    for (size_t n = 5; n < sizeof longer; n++) {
        memset(longer, 'x', sizeof longer);
        memcpy(longer, "fib_", 4);
        longer[n] = '\0';
        bool is_name = trace_api_name(longer, name);
        assert_true(is_name ? strlen(name) == n + 8 : n + 8 >= TRACE_API_NAME_BYTES);
    }
}

// Each name of the agent's version script, but for C++'s operators, which have no leaf to name.
static void all_that_the_agent_defines_is_known(void **state)
{
    (void)state;
    char path[4096], word[128], name[TRACE_API_NAME_BYTES];
    int c, known = 0;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/agent/agent.map", getenv("FSCOPE_SOURCE"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while ((c = fgetc(f)) != EOF) {
        if (isalnum(c) || c == '_') {
            assert_true(n < sizeof word - 1);
            word[n++] = (char)c;
            continue;
        }
        word[n] = '\0';
        if (n && c == ';' && strncmp(word, "_Z", 2) != 0) {
            if (!trace_api_name(word, name) || !strstr(name, word))
                fail_msg("%s is not in collector/trace_api.c", word);
            known++;
        }
        n = 0;
    }
    fclose(f);
    assert_true(known > 80);
}

static void any_bytes_are_survived(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {0xe8, 0xe9, 0xff, 0x15, 0x25, 0xd3, 0x48, 0x8b};
    uint32_t x = 1;
    for (int round = 0; round < 200; round++) {
        begin();
        function(0, CODE_BYTES, "main");
        function(100, 200, "fib_join");
        slot(0x1f00, "read");
        for (size_t i = 0; i < CODE_BYTES; i++) {
            x = x * 1664525 + 1013904223;
            code.bytes[i] = x >> 30 ? (uint8_t)(x >> 16) : opcodes[x >> 13 & 7];
        }
        for (uint64_t after = 0; after < 64; after++)
            (void)called_from(after, "runtime.begin");
        for (uint64_t after = CODE_BYTES - 64; after < CODE_BYTES + 64; after++)
            (void)called_from(after, "runtime.begin");
        for (uint64_t after = 4000; after < 4100; after++)
            (void)called_from(after, "runtime.begin");
    }
    const struct trace_api_leaf nowhere[] = {{"runtime.begin", false, &reads, 0},
                                             {"runtime.begin", false, &reads, UINT64_MAX},
                                             {"runtime.begin", false, &reads, 3},
                                             {"runtime.begin", false, NULL, 0}};
    char name[TRACE_API_NAME_BYTES];
    for (size_t i = 0; i < 4; i++)
        assert_false(trace_api_called(&nowhere[i], name));
}

static void a_leaf_says_what_may_be_waited_for(void **state)
{
    (void)state;
    static const struct {
        const char *leaf, *reason; // NULL: it runs
        bool fits;
    } cases[] = {
        {"pthread_mutex_lock", "sync", true},
        {"pthread_mutex_lock", "sleep", false},
        {"pthread_mutex_lock", NULL, false},
        {"pthread_cond_wait", "sync.(*Cond).Wait", true},
        {"usleep", "sleep", true},
        {"usleep", "sync", false},
        {"usleep", "", false},
        {"poll", "network", true},
        {"poll", "sleep", true},
        {"poll", "sync", false},
        {"epoll_wait", "sleep", false},
        {"read", "", true},
        {"read", NULL, false},
        {"read", "sync", false},
        {"reads", "sync", true},
        {"main", "sleep", true},
        {"main", NULL, true},
        {"sem_wait", "sync", true},
        {"runtime.fib_chan_recv", "sleep", true},
        {"", "sync", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(trace_api_fits(cases[i].leaf, strlen(cases[i].leaf), cases[i].reason),
                         cases[i].fits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_say_what_they_call),
        cmocka_unit_test(registers_are_followed_back),
        cmocka_unit_test(a_function_that_has_gone_is_looked_through),
        cmocka_unit_test(names_are_as_programs_write_them),
        cmocka_unit_test(all_that_the_agent_defines_is_known),
        cmocka_unit_test(a_leaf_says_what_may_be_waited_for),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
