// SPDX-License-Identifier: MIT
//
// Any bytes, read as rules of the gate: rules within their bounds that read again as they were
// written, or an error with a text and nothing added. Also as a function's name.

#include "analysis/gate_rules.h"
#include "analysis/paths.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_again(const struct gate_rule *r)
{
    struct gate_rules again = {0};
    struct fscope_error err = {0};
    must(gate_rules_add(&again, "again", r->text, strlen(r->text), &err) == 0);
    must(again.count == 1);
    const struct gate_rule *s = again.rules[0];
    must(!strcmp(r->type, s->type) && r->term_count == s->term_count);
    must(r->scope_count == s->scope_count && r->each == s->each && r->per_op == s->per_op);
    gate_rules_finish(&again);
}

static void normalise(const uint8_t *data, size_t size)
{
    char *name = malloc(size + 1), *buf = malloc(size + 2), small[16];
    must(name && buf);
    memcpy(name, data, size);
    name[size] = 0;
    paths_normalise(buf, size + 2, name);
    must(strlen(buf) <= strlen(name));
    must(strlen(paths_normalise(small, sizeof small, name)) < sizeof small);
    free(buf);
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gate_rules rules = {0};
    struct fscope_error err = {0};
    int rc = gate_rules_add(&rules, "fuzz", (const char *)data, size, &err);
    if (rc) {
        must(rules.count == 0 && err.code == rc && err.text[0]);
    }
    must(rules.count <= GATE_RULES_MAX);
    for (size_t i = 0; i < rules.count; i++) {
        const struct gate_rule *r = rules.rules[i];
        must(r->term_count >= 1 && r->term_count <= GATE_TERMS_MAX);
        must(r->scope_count <= GATE_SCOPES_MAX && r->type[0]);
        for (uint32_t t = 0; t < r->term_count; t++)
            must(isfinite(r->terms[t].amount) && r->terms[t].amount >= 0);
        if (i < 4 && !memchr(r->text, 0, 1))
            check_again(r);
    }
    if (size <= 4096)
        normalise(data, size);
    gate_rules_finish(&rules);
    return 0;
}
