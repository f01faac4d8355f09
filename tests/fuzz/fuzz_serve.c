// SPDX-License-Identifier: MIT
//
// Any bytes, as what a client of the HTTP server has written: a path, a query, numbers, a host; and as a network on the
// command line. What comes out lies within its bounds, and a clean path stays as it is when it is made clean again.

#include "collector/serve/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void path(const char *text)
{
    char *clean = query_clean_path(text);
    must(clean && clean[0] == '/' && strlen(clean) <= strlen(text) + 1);
    must(!strstr(clean, "//") && !strstr(clean, "/./") && !strstr(clean, "/../"));
    char *again = query_clean_path(clean);
    must(again && strcmp(clean, again) == 0);
    free(again);
    free(clean);
}

static void unescaped(const char *text, size_t size, bool is_form)
{
    char *copy = malloc(size + 1);
    size_t n = size;
    must(copy != NULL);
    memcpy(copy, text, size);
    copy[size] = '\0';
    if (query_unescape(copy, &n, is_form))
        must(n <= size && copy[n] == '\0');
    free(copy);
}

static void numbers(const char *text, size_t size)
{
    int64_t whole;
    double real;
    if (query_parse_int(text, size, &whole) == 0)
        must(size > 0 && strtoll(text, NULL, 10) == whole);
    if (query_parse_float(text, size, &real) == 0)
        must(size > 0);
    if (query_parse_address(text, size))
        must(size > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"debug", "seconds", "a", ""};
    struct serve_network network;
    struct fscope_error err = {0};
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    size_t length = strlen(text);
    path(text);
    unescaped(text, size, false);
    unescaped(text, size, true);
    numbers(text, length);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t n;
        char *value = query_get(text, keys[i], &n);
        must(value ? n <= length && value[n] == '\0' : n == 0);
        free(value);
        query_int(text, keys[i]);
    }
    guard_host_is_local(text);
    if (address_parse_network(&network, text, &err) == 0)
        must(network.bits <= 128 && address_in(&network.address, &network));
    else
        must(err.text[0] != '\0');
    free(text);
    return 0;
}
