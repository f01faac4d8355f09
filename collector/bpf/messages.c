// SPDX-License-Identifier: MIT
//
// See messages.h.

#include "collector/bpf/messages.h"

#include "base/error.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_MAX = 256 };

static _Thread_local char reason[MESSAGE_MAX];
static _Thread_local bool is_verifiers; // which says why; what libbpf adds does not
static libbpf_print_fn_t before;

static void keep(const char *text, size_t length)
{
    length = length < sizeof reason ? length : sizeof reason - 1;
    memcpy(reason, text, length);
    reason[length] = '\0';
}

// The last line before the verifier's closing count.
static bool keep_verifiers(const char *log)
{
    const char *end = strstr(log, "\nprocessed "), *line = end;
    while (line && line > log && line[-1] != '\n')
        line--;
    if (line)
        keep(line, (size_t)(end - line));
    return line;
}

// The last warning is the reason; what leads to it is not.
static int hear(enum libbpf_print_level level, const char *format, va_list args)
    FSCOPE_PRINTF(2, 0);
static int hear(enum libbpf_print_level level, const char *format, va_list args)
{
    char *text;
    if (level != LIBBPF_WARN || is_verifiers || vasprintf(&text, format, args) < 0)
        return 0;
    is_verifiers = keep_verifiers(text);
    size_t length = strcspn(text, "\n");
    if (!is_verifiers && length)
        keep(text, length);
    free(text);
    return 0;
}

void bpf_messages_begin(void)
{
    reason[0] = '\0';
    is_verifiers = false;
    before = libbpf_set_print(hear);
}

void bpf_messages_end(void)
{
    libbpf_set_print(before);
}

const char *bpf_messages_reason(void)
{
    return reason;
}

bool bpf_messages_are_verifiers(void)
{
    return is_verifiers;
}
