// SPDX-License-Identifier: MIT
//
// See regex.h.

#include "analysis/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MATCH_LIMIT = 1000000 }; // steps; a sane pattern on a symbol name takes hundreds

struct regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

int regex_compile(struct regex **out, const char *what, const char *pattern,
                  struct fscope_error *err)
{
    int number;
    PCRE2_SIZE at;
    int rc = -ENOMEM;
    *out = NULL;
    struct regex *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, rc, 0, "%s: out of memory", what);
    // Names in a profile need not be UTF-8; `$` means the end of the text as in RE2.
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY |
                                PCRE2_NEVER_BACKSLASH_C,
                            &number, &at, NULL);
    if (!r->code) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(number, text, sizeof text);
        rc = error_set(err, -EINVAL, at,
                       "%s: \"%.80s\" is no regular expression: %s at character %zu", what, pattern,
                       (const char *)text, (size_t)at + 1);
        goto fail;
    }
    r->data = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->data || !r->context) {
        error_set(err, rc, 0, "%s: out of memory", what);
        goto fail;
    }
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    pcre2_set_depth_limit(r->context, MATCH_LIMIT);
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); // where there is none, it interprets
    *out = r;
    return 0;
fail:
    regex_free(r);
    return rc;
}

bool regex_match(struct regex *r, const char *text)
{
    return pcre2_match(r->code, (PCRE2_SPTR)text, strlen(text), 0, 0, r->data, r->context) >= 0;
}

void regex_free(struct regex *r)
{
    if (!r)
        return;
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->data);
    pcre2_code_free(r->code);
    free(r);
}
