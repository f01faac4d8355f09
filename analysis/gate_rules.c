// SPDX-License-Identifier: MIT
//
// Tokenizer and recursive descent parser of the gate's rules. See gate_rules.h for the grammar.
//
// The tokenizer is asked by the parser for what may come next: a regular expression is one raw word
// and not operators and numbers. Recursion is one level deep by the grammar, so no input nests.

#include "analysis/gate_rules.h"

#include "base/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 64, RAW_MAX = 1024, NUMBER_MAX = 40 };
enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_NUMBER, TOKEN_COMPARE, TOKEN_SIGN, TOKEN_OTHER };

struct token {
    enum token_kind kind;
    const char *at;      // in the text
    char text[WORD_MAX]; // word or operator, cut
    double number;
};

struct parser {
    struct gate_rules *rules;
    struct gate_rule *rule;
    const char *source;
    const char *base, *at, *end; // of the whole text
    const char *begin;           // of the rule
    const char *stop;            // of the rule: a newline, a semicolon, a comment, the end
    struct token token;          // the next one
    struct fscope_error *err;
};

static void place(const struct parser *p, const char *at, uint32_t *line, uint32_t *column)
{
    *line = *column = 1;
    for (const char *s = p->base; s < at; s++) {
        (*column)++;
        if (*s == '\n') {
            (*line)++;
            *column = 1;
        }
    }
}

__attribute__((format(printf, 3, 4))) static int fail_at(struct parser *p, const char *at,
                                                         const char *fmt, ...)
{
    char text[300];
    uint32_t line, column;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    place(p, at, &line, &column);
    if (p->source[0] == '-' && line == 1) // an option, not a file that editors jump to
        return error_set(p->err, -EINVAL, (uint64_t)(at - p->base), "%.100s, column %u: %s",
                         p->source, column, text);
    return error_set(p->err, -EINVAL, (uint64_t)(at - p->base), "%.100s:%u:%u: %s", p->source, line,
                     column, text);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_word(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' ||
           (!first && (isdigit((unsigned char)c) || c == '.' || c == '-' || c == ':'));
}

// strtod on a copy: the text need not end in a NUL, and "0x1p3", "nan" and "inf" are no amounts.
static int lex_number(struct parser *p, const char **at)
{
    char digits[NUMBER_MAX];
    const char *s = *at;
    size_t n = 0;
    while (s < p->stop && (isdigit((unsigned char)*s) || *s == '.')) {
        if (n + 1 >= sizeof digits)
            return fail_at(p, *at, "a number of more than %d digits", NUMBER_MAX - 1);
        digits[n++] = *s++;
    }
    digits[n] = 0;
    char *rest;
    p->token.number = strtod(digits, &rest);
    if (rest == digits || *rest || !isfinite(p->token.number))
        return fail_at(p, *at, "\"%s\" is not a number", digits);
    *at = s;
    return 0;
}

// Reads the next token into p->token.
static int advance(struct parser *p)
{
    const char *s = p->at;
    size_t n = 0;
    int rc = 0;
    while (s < p->stop && is_space(*s))
        s++;
    p->token = (struct token){.at = s};
    if (s >= p->stop) {
        p->at = s;
        return 0;
    }
    if (is_word(*s, true)) {
        p->token.kind = TOKEN_WORD;
        for (; s < p->stop && is_word(*s, false); s++)
            if (n + 1 < WORD_MAX)
                p->token.text[n++] = *s;
    } else if (isdigit((unsigned char)*s) || *s == '.') {
        p->token.kind = TOKEN_NUMBER;
        rc = lex_number(p, &s);
    } else {
        bool compare = strchr("<>=!", *s) && *s;
        p->token.kind = compare ? TOKEN_COMPARE : *s == '+' || *s == '-' ? TOKEN_SIGN : TOKEN_OTHER;
        p->token.text[n++] = *s++;
        if (compare && s < p->stop && *s == '=')
            p->token.text[n++] = *s++;
    }
    p->at = s;
    return rc;
}

static bool token_is(const struct parser *p, const char *word)
{
    return p->token.kind == TOKEN_WORD && !strcmp(p->token.text, word);
}

// Refuses the next token, naming what was expected and the nearest of the words that may stand
// here.
static int unexpected(struct parser *p, const char *expected, const char *const *words,
                      size_t count)
{
    const struct token *t = &p->token;
    if (t->kind == TOKEN_END)
        return fail_at(p, t->at, "the rule ends where %s is expected", expected);
    int n = (int)(p->at - t->at);
    const char *near = t->kind == TOKEN_WORD ? nearest_word(t->text, words, count) : NULL;
    for (size_t i = 0; i < count && t->kind == TOKEN_WORD; i++)
        near = strcasecmp(t->text, words[i]) ? near : words[i]; // units differ by case
    if (near)
        return fail_at(p, t->at, "\"%.*s\" where %s is expected; did you mean \"%s\"?",
                       n > 60 ? 60 : n, t->at, expected, near);
    return fail_at(p, t->at, "\"%.*s\" where %s is expected", n > 60 ? 60 : n, t->at, expected);
}

// The next raw word: up to white space, or in quotes. Printable, at most RAW_MAX bytes.
static int raw_word(struct parser *p, const char *what, const char **out)
{
    const char *s = p->token.at, *begin = s, *end;
    if (s >= p->stop)
        return unexpected(p, what, NULL, 0);
    if (*s == '"' || *s == '\'') {
        begin = s + 1;
        end = memchr(begin, *s, (size_t)(p->stop - begin));
        if (!end)
            return fail_at(p, s, "the quote is not closed before the end of the rule");
        s = end + 1;
    } else {
        while (s < p->stop && !is_space(*s))
            s++;
        end = s;
    }
    if (end == begin)
        return fail_at(p, begin, "an empty text where %s is expected", what);
    if (end - begin > RAW_MAX)
        return fail_at(p, begin, "more than %d bytes where %s is expected", RAW_MAX, what);
    if (memchr(begin, 0, (size_t)(end - begin)))
        return fail_at(p, begin, "a NUL byte in %s", what);
    *out = arena_strndup(&p->rules->arena, begin, (size_t)(end - begin));
    if (!*out)
        return error_set(p->err, -ENOMEM, 0, "out of memory");
    p->at = s;
    return advance(p);
}

static const char *const kinds[] = {"heap", "cpu", "wall", "block", "mutex"};
// The last sample type of each, which is what the word alone means, as in pprof.
static const char *const kind_types[] = {"inuse_space", "cpu", "wall", "delay", "delay"};
static const char *const metrics[] = {
    "alloc_objects", "alloc_space", "inuse_objects", "inuse_space", "temporary_objects",
    "peak_objects",  "peak_space",  "leaks",         "contentions", "delay",
    "samples",       "heap",        "cpu",           "wall",        "block",
    "mutex"};
static const char *const scope_words[] = {"func", "file", "label", "each"};
static const char *const each_words[] = {"path", "func"};
static const char *const after_words[] = {"in", "per", "or", "and"};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int parse_metric(struct parser *p)
{
    struct gate_rule *r = p->rule;
    const char *kind_type = NULL;
    if (p->token.kind != TOKEN_WORD)
        return unexpected(p, "a metric (alloc_objects, inuse_space, leaks, delay, cpu, ...)",
                          metrics, COUNT(metrics));
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (token_is(p, kinds[i])) {
            r->kind = kinds[i];
            kind_type = kind_types[i];
        }
    }
    int rc = 0;
    if (kind_type)
        rc = advance(p);
    if (!rc && (!kind_type || (p->token.kind == TOKEN_WORD && !token_is(p, "share")))) {
        if (p->at - p->token.at >= WORD_MAX)
            return fail_at(p, p->token.at, "a metric's name of more than %d letters", WORD_MAX - 1);
        r->type = arena_strdup(&p->rules->arena, p->token.text);
        rc = advance(p);
    } else if (!rc) {
        r->type = arena_strdup(&p->rules->arena, kind_type);
    }
    if (rc)
        return rc;
    if (!r->type)
        return error_set(p->err, -ENOMEM, 0, "out of memory");
    if (token_is(p, "share")) {
        r->share = true;
        rc = advance(p);
    }
    return rc;
}

static const struct unit {
    const char *name;
    enum gate_unit unit;
    double factor;
} units[] = {{"B", GATE_BYTES, 1},         {"kB", GATE_BYTES, 1e3},   {"MB", GATE_BYTES, 1e6},
             {"GB", GATE_BYTES, 1e9},      {"KiB", GATE_BYTES, 1024}, {"MiB", GATE_BYTES, 1 << 20},
             {"GiB", GATE_BYTES, 1 << 30}, {"ns", GATE_TIME, 1},      {"us", GATE_TIME, 1e3},
             {"ms", GATE_TIME, 1e6},       {"s", GATE_TIME, 1e9},     {"k", GATE_PLAIN, 1e3},
             {"M", GATE_PLAIN, 1e6}};

static int parse_amount(struct parser *p, struct gate_term *t)
{
    const char *names[COUNT(units)];
    if (p->token.kind != TOKEN_NUMBER)
        return unexpected(p, "a number", NULL, 0);
    t->amount = p->token.number;
    const char *number_end = p->at;
    int rc = advance(p);
    if (rc)
        return rc;
    if (p->token.kind == TOKEN_OTHER && p->token.text[0] == '%') {
        t->unit = GATE_PERCENT;
        return advance(p);
    }
    if (p->token.kind != TOKEN_WORD)
        return 0;
    for (size_t i = 0; i < COUNT(units); i++) {
        names[i] = units[i].name;
        if (token_is(p, units[i].name)) {
            t->unit = units[i].unit;
            t->amount *= units[i].factor;
            return advance(p);
        }
    }
    if (p->token.at == number_end) // attached, so it is a unit and not the next word
        return unexpected(p, "a unit (B KiB MiB GiB kB MB GB, ns us ms s, k M, %)", names,
                          COUNT(names));
    return 0;
}

static int parse_term(struct parser *p)
{
    struct gate_rule *r = p->rule;
    const struct token op = p->token;
    if (r->term_count == GATE_TERMS_MAX)
        return fail_at(p, op.at, "more than %d conditions in one rule", GATE_TERMS_MAX);
    struct gate_term *t = &r->terms[r->term_count++];
    if (op.kind != TOKEN_COMPARE)
        return unexpected(p, "a comparison (> +AMOUNT, == AMOUNT, <= AMOUNT, < AMOUNT)", NULL, 0);
    int rc = advance(p);
    bool plus = p->token.kind == TOKEN_SIGN && p->token.text[0] == '+';
    if (rc)
        return rc;
    if (p->token.kind == TOKEN_SIGN && !plus)
        return fail_at(p, p->token.at, "a negative amount; growth is written \"> +AMOUNT\"");
    if (!strcmp(op.text, ">") && plus)
        t->compare = GATE_GROWTH;
    else if (!strcmp(op.text, "=="))
        t->compare = GATE_EQUAL;
    else if (!strcmp(op.text, "<="))
        t->compare = GATE_AT_MOST;
    else if (!strcmp(op.text, "<"))
        t->compare = GATE_BELOW;
    else if (!strcmp(op.text, ">") || !strcmp(op.text, ">="))
        return fail_at(p, op.at,
                       "a rule says what may not grow (\"> +AMOUNT\") or what must hold "
                       "(\"<= AMOUNT\"), not \"%s AMOUNT\"",
                       op.text);
    else
        return fail_at(p, op.at, "\"%s\" is no comparison; there are >, ==, <= and <", op.text);
    if (plus && t->compare != GATE_GROWTH)
        return fail_at(p, p->token.at, "an amount with + is growth: \"> +AMOUNT\", not \"%s +\"",
                       op.text);
    if (plus)
        rc = advance(p);
    return rc ? rc : parse_amount(p, t);
}

static int parse_condition(struct parser *p)
{
    for (;;) {
        int rc = parse_term(p);
        if (rc || !(token_is(p, "or") || token_is(p, "and")))
            return rc;
        p->rule->terms[p->rule->term_count - 1].and_next = token_is(p, "and");
        rc = advance(p);
        if (rc)
            return rc;
    }
}

static int parse_pattern(struct parser *p, struct gate_scope *s)
{
    const char *at = p->token.at;
    struct fscope_error why = {0};
    int rc = 0;
    if (token_is(p, "matching")) {
        rc = advance(p);
        at = p->token.at;
    }
    if (!rc)
        rc = raw_word(p, "a regular expression", &s->text);
    if (!rc && (rc = regex_compile(&s->regex, "matching", s->text, &why)))
        rc = rc == -EINVAL ? fail_at(p, at, "%s", why.text)
                           : error_set(p->err, rc, 0, "%s", why.text);
    return rc;
}

static int parse_label(struct parser *p, struct gate_scope *s)
{
    const char *at = p->token.at;
    int rc = raw_word(p, "KEY=VALUE", &s->text);
    if (rc)
        return rc;
    const char *equals = strchr(s->text, '=');
    if (!equals || equals == s->text)
        return fail_at(p, at, "\"%.60s\" where KEY=VALUE is expected (label request=/hot)",
                       s->text);
    s->key = arena_strndup(&p->rules->arena, s->text, (size_t)(equals - s->text));
    s->value = equals + 1;
    return s->key ? 0 : error_set(p->err, -ENOMEM, 0, "out of memory");
}

static int parse_each(struct parser *p)
{
    struct gate_rule *r = p->rule;
    if (!token_is(p, "path") && !token_is(p, "func"))
        return unexpected(p, "\"path\" or \"func\"", each_words, COUNT(each_words));
    if (r->each != GATE_TOGETHER)
        return fail_at(p, p->token.at, "a rule judges \"each\" of one thing only");
    r->each = token_is(p, "path") ? GATE_EACH_PATH : GATE_EACH_FUNC;
    int rc = advance(p);
    // `in each func matching RE` is short for `in each func in func matching RE`.
    if (!rc && r->each == GATE_EACH_FUNC && token_is(p, "matching")) {
        if (r->scope_count == GATE_SCOPES_MAX)
            return fail_at(p, p->token.at, "more than %d places in one rule", GATE_SCOPES_MAX);
        struct gate_scope *s = &r->scopes[r->scope_count++];
        s->kind = GATE_IN_FUNC;
        rc = parse_pattern(p, s);
    }
    return rc;
}

static int parse_scope(struct parser *p)
{
    struct gate_rule *r = p->rule;
    int rc = advance(p); // over "in"
    if (rc)
        return rc;
    if (token_is(p, "each"))
        return (rc = advance(p)) ? rc : parse_each(p);
    bool func = token_is(p, "func"), file = token_is(p, "file");
    if (!func && !file && !token_is(p, "label"))
        return unexpected(p, "\"func\", \"file\", \"label\" or \"each\"", scope_words,
                          COUNT(scope_words));
    if (r->scope_count == GATE_SCOPES_MAX)
        return fail_at(p, p->token.at, "more than %d places in one rule", GATE_SCOPES_MAX);
    struct gate_scope *s = &r->scopes[r->scope_count++];
    s->kind = func ? GATE_IN_FUNC : file ? GATE_IN_FILE : GATE_IN_LABEL;
    rc = advance(p);
    if (rc)
        return rc;
    return s->kind == GATE_IN_LABEL ? parse_label(p, s) : parse_pattern(p, s);
}

static int parse_per(struct parser *p)
{
    static const char *const words[] = {"benchmark", "op"};
    int rc = advance(p);
    if (!rc && token_is(p, "benchmark"))
        rc = advance(p);
    if (rc)
        return rc;
    if (!token_is(p, "op"))
        return unexpected(p, "\"op\" or \"benchmark op\"", words, COUNT(words));
    p->rule->per_op = true;
    return advance(p);
}

// What cannot be meant, said here and not when profiles are at hand.
static int check_rule(struct parser *p)
{
    const struct gate_rule *r = p->rule;
    bool growth = r->terms[0].compare == GATE_GROWTH;
    for (uint32_t i = 0; i < r->term_count; i++) {
        const struct gate_term *t = &r->terms[i];
        if ((t->compare == GATE_GROWTH) != growth)
            return fail_at(p, p->begin, "growth (> +) and what must hold in one rule; write two");
        if (r->share && t->unit != GATE_PERCENT)
            return fail_at(p, p->begin, "a share is compared with percent: \"%s share <= 20%%\"",
                           r->type);
        if (!growth && !r->share && t->unit == GATE_PERCENT)
            return fail_at(p, p->begin,
                           "percent of what? \"%s share <= 20%%\" is of the whole, "
                           "\"> +2%%\" of the baseline",
                           r->type);
    }
    if (r->share && r->per_op)
        return fail_at(p, p->begin, "a share per operation has no meaning");
    return 0;
}

static void free_rule(struct gate_rule *r)
{
    for (uint32_t i = 0; i < r->scope_count; i++)
        regex_free(r->scopes[i].regex);
}

// One rule from p->at to p->stop.
static int parse_rule(struct parser *p)
{
    struct gate_rules *set = p->rules;
    const char *begin = p->at, *end = p->stop;
    while (begin < end && is_space(*begin))
        begin++;
    while (end > begin && is_space(end[-1]))
        end--;
    if (begin == end)
        return 0;
    p->at = p->begin = begin;
    if (set->count == GATE_RULES_MAX)
        return fail_at(p, begin, "more than %d rules", GATE_RULES_MAX);
    struct gate_rule *r = p->rule = arena_alloc(&set->arena, sizeof *r);
    if (!r)
        return error_set(p->err, -ENOMEM, 0, "out of memory");
    r->source = p->source;
    r->text = arena_strndup(&set->arena, begin, (size_t)(end - begin));
    place(p, begin, &r->line, &r->column);
    int rc = r->text ? advance(p) : error_set(p->err, -ENOMEM, 0, "out of memory");
    if (!rc)
        rc = parse_metric(p);
    if (!rc)
        rc = parse_condition(p);
    while (!rc && p->token.kind != TOKEN_END) {
        if (token_is(p, "in"))
            rc = parse_scope(p);
        else if (token_is(p, "per"))
            rc = parse_per(p);
        else
            rc = unexpected(p, "\"in\", \"per\", \"or\", \"and\" or the end", after_words,
                            COUNT(after_words));
    }
    if (!rc)
        rc = check_rule(p);
    if (rc)
        free_rule(r);
    else
        set->rules[set->count++] = r;
    return rc;
}

// Where the rule at s ends: at a newline or semicolon; *comment is where a # cuts it, which only
// counts after white space (a # may be part of a regular expression). Quotes hide all of them but
// the newline.
static const char *rule_end(const char *s, const char *end, const char **comment)
{
    char quote = 0;
    bool apart = true;
    for (*comment = NULL; s < end && *s != '\n'; s++) {
        if (*comment)
            continue;
        if (quote) {
            quote = *s == quote ? 0 : quote;
        } else if (apart && (*s == '"' || *s == '\'')) {
            quote = *s;
        } else if (*s == ';') {
            break;
        } else if (apart && *s == '#') {
            *comment = s;
        }
        apart = is_space(*s);
    }
    return s;
}

int gate_rules_add(struct gate_rules *r, const char *source, const char *text, size_t n,
                   struct fscope_error *err)
{
    struct parser p = {.rules = r, .base = text, .end = text + n, .err = err};
    size_t before = r->count;
    int rc = 0;
    if (n > GATE_TEXT_MAX)
        return error_set(err, -EFBIG, 0, "%.100s: %zu bytes of rules; at most %d are read", source,
                         n, GATE_TEXT_MAX);
    p.source = arena_strdup(&r->arena, source);
    if (!p.source)
        return error_set(err, -ENOMEM, 0, "out of memory");
    for (const char *s = text; s < p.end && !rc;) {
        const char *comment, *end = rule_end(s, p.end, &comment);
        p.at = s;
        p.stop = comment ? comment : end;
        rc = parse_rule(&p);
        s = end < p.end ? end + 1 : end;
    }
    while (rc && r->count > before)
        free_rule(r->rules[--r->count]);
    return rc;
}

int gate_rules_add_file(struct gate_rules *r, const char *path, struct fscope_error *err)
{
    int rc = 0;
    char *text = NULL;
    FILE *f = fopen(path, "re");
    if (!f)
        return error_set(err, -errno, 0, "%.200s: %s", path, strerror(errno));
    text = malloc(GATE_TEXT_MAX + 1);
    size_t n = text ? fread(text, 1, GATE_TEXT_MAX + 1, f) : 0;
    if (!text)
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    else if (ferror(f))
        rc = error_set(err, -EIO, 0, "%.200s: %s", path, strerror(errno ? errno : EIO));
    else
        rc = gate_rules_add(r, path, text, n, err);
    free(text);
    fclose(f);
    return rc;
}

void gate_rules_finish(struct gate_rules *r)
{
    for (size_t i = 0; i < r->count; i++)
        free_rule(r->rules[i]);
    r->count = 0;
    arena_finish(&r->arena);
}

// Iterative with one point to go back to, so that no pattern takes more than length * length steps.
bool gate_label_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
