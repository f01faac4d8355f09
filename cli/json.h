// SPDX-License-Identifier: MIT
//
// Writes JSON to a stream: commas, indentation and escaping are done here, balance by the caller.
//
// Invariant: what comes out is valid UTF-8 JSON whatever the strings hold (bytes that are not UTF-8
// become U+FFFD); a number is written exactly (int64) or, where it is not finite, as null.

#ifndef FIBERSCOPE_CLI_JSON_H
#define FIBERSCOPE_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    int depth;
    bool needs_comma;
};

// key is NULL inside an array.
void json_open(struct json *j, const char *key, char bracket); // '{' or '['
void json_close(struct json *j, char bracket);                 // '}' or ']'
void json_string(struct json *j, const char *key, const char *value);
void json_bytes(struct json *j, const char *key, const char *bytes, size_t n); // NULs, too
void json_int(struct json *j, const char *key, int64_t value);
void json_hex(struct json *j, const char *key, uint64_t value); // "0x.." as a string
void json_real(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif
