// SPDX-License-Identifier: MIT
//
// Names of functions, as they are in every build; and which of them a reader can change.
//
// Invariant: each step only shortens the text in place, so the buffer never overflows, and each is
// one pass (or a pass per suffix), so no name takes long.

#include "analysis/paths.h"

#include <ctype.h>
#include <string.h>

static void cut(char *at, size_t n)
{
    memmove(at, at + n, strlen(at + n) + 1);
}

// Removes every "open...close" (close not included in open; no nesting).
static void remove_spans(char *s, const char *open, char close)
{
    for (char *at = strstr(s, open); at; at = strstr(at, open)) {
        char *end = strchr(at, close);
        if (!end)
            return;
        cut(at, (size_t)(end - at) + 1);
    }
}

static void replace_shorter(char *s, const char *what, const char *with)
{
    size_t n = strlen(what), m = strlen(with);
    for (char *at = strstr(s, what); at; at = strstr(at + m, what)) {
        memcpy(at, with, m);
        cut(at + m, n - m);
    }
}

// ".constprop.0", ".part.3.isra.0", ".cold", ".lto_priv.12", ".llvm.4711".
static void strip_suffixes(char *s)
{
    static const char *const suffixes[] = {".constprop", ".isra", ".part",  ".cold",
                                           ".lto_priv",  ".llvm", ".clone", ".localalias",
                                           ".resolver",  ".warm", ".hot"};
    for (;;) {
        size_t n = strlen(s), digits = n;
        while (digits > 0 && isdigit((unsigned char)s[digits - 1]))
            digits--;
        size_t end = digits < n && digits > 0 && s[digits - 1] == '.' ? digits - 1 : n;
        bool found = false;
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !found; i++) {
            size_t k = strlen(suffixes[i]);
            found = end > k && !strncmp(s + end - k, suffixes[i], k);
            if (found)
                s[end - k] = 0;
        }
        if (!found)
            return;
    }
}

static bool ends_in_operator(const char *s, size_t at)
{
    return at >= 8 && !strncmp(s + at - 8, "operator", 8) &&
           (at == 8 || !(isalnum((unsigned char)s[at - 9]) || s[at - 9] == '_'));
}

// The end of the bracket that s[at] opens, one past it; 0 if it is not closed.
static size_t bracket_end(const char *s, size_t at)
{
    size_t depth = 0;
    for (size_t i = at; s[i]; i++) {
        if (s[i] == '(')
            depth++;
        else if (s[i] == ')' && --depth == 0)
            return i + 1;
    }
    return 0;
}

// Takes the parameter lists out that stand outside of <> and {}, with the qualifiers that follow.
static void strip_parameters(char *s)
{
    static const char *const qualifiers[] = {" const", " volatile", " noexcept", " &&", " &"};
    int depth = 0;
    for (size_t i = 0; s[i]; i++) {
        bool after_operator = ends_in_operator(s, i) || (i > 0 && ends_in_operator(s, i - 1)) ||
                              (i > 0 && s[i - 1] == '-');
        if ((s[i] == '<' || s[i] == '>') && after_operator)
            continue; // operator<, operator<<, operator->
        if (s[i] == '<' || s[i] == '{')
            depth++;
        else if (s[i] == '>' || s[i] == '}')
            depth--;
        if (s[i] != '(' || depth > 0 || i == 0)
            continue;
        size_t end = bracket_end(s, i);
        if (!end)
            return;
        if (ends_in_operator(s, i)) {
            i = end - 1; // the name operator()
            continue;
        }
        if (s[i - 1] == '.')
            continue; // Go's main.(*T).Method
        cut(s + i, end - i);
        for (size_t q = 0; q < sizeof qualifiers / sizeof *qualifiers; q++) {
            size_t n = strlen(qualifiers[q]);
            if (!strncmp(s + i, qualifiers[q], n)) {
                cut(s + i, n);
                q = SIZE_MAX; // and again from the first
            }
        }
        i--;
    }
}

// "void f<int>" is "f<int>": what stands before the last space outside of brackets, but not before
// the one of "operator new".
static void strip_return_type(char *s)
{
    int depth = 0;
    size_t name = 0;
    for (size_t i = 0; s[i]; i++) {
        if (ends_in_operator(s, i))
            break;
        if (s[i] == '<' || s[i] == '{' || s[i] == '(')
            depth++;
        else if (s[i] == '>' || s[i] == '}' || s[i] == ')')
            depth--;
        else if (s[i] == ' ' && depth <= 0 && s[i + 1])
            name = i + 1;
    }
    cut(s, name);
}

// {lambda(int)#2} and $_3: the number counts lambdas of the function and shifts with each new one.
static void strip_lambda_numbers(char *s)
{
    for (char *at = s; *at; at++) {
        bool hash = at[0] == '#' && at > s && at[-1] == ')';
        bool clang = at[0] == '_' && at > s && at[-1] == '$';
        size_t n = 0;
        while ((hash || clang) && isdigit((unsigned char)at[1 + n]))
            n++;
        if (n && (clang || at[1 + n] == '}'))
            hash ? cut(at, n + 1) : cut(at + 1, n);
    }
}

const char *paths_normalise(char *buf, size_t size, const char *name)
{
    size_t n = strlen(name);
    if (!size)
        return buf;
    if (n >= size) {
        memcpy(buf, name, size - 1);
        buf[size - 1] = 0;
        return buf;
    }
    memcpy(buf, name, n + 1);
    remove_spans(buf, " [clone ", ']');
    remove_spans(buf, "[abi:", ']');
    char *version = strchr(buf, '@');
    if (version && version > buf)
        *version = 0; // memcpy@@GLIBC_2.14, read@plt
    strip_suffixes(buf);
    if (!strpbrk(buf, "(<{: $"))
        return buf; // C
    replace_shorter(buf, "(anonymous namespace)", "{anonymous}");
    replace_shorter(buf, "std::__cxx11::", "std::");
    replace_shorter(buf, "std::__1::", "std::");
    strip_lambda_numbers(buf);
    replace_shorter(buf, "> >", ">>");
    replace_shorter(buf, "> >", ">>"); // "> > >" gave ">> >"
    replace_shorter(buf, ", ", ",");
    strip_parameters(buf);
    strip_return_type(buf);
    return buf;
}

static bool is_one_of(const char *name, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(name, words[i]))
            return true;
    }
    return false;
}

// Functions that allocate on behalf of their caller; nobody mends a regression there.
static bool allocates_for_others(const char *key)
{
    static const char *const names[] = {"malloc",           "calloc",         "realloc",
                                        "reallocarray",     "aligned_alloc",  "memalign",
                                        "valloc",           "pvalloc",        "strdup",
                                        "strndup",          "wcsdup",         "posix_memalign",
                                        "asprintf",         "vasprintf",      "getline",
                                        "getdelim",         "free",           "mmap",
                                        "operator new",     "operator new[]", "operator delete",
                                        "operator delete[]"};
    static const char *const prefixes[] = {"std::", "__gnu_cxx::", "__libc_", "__GI_",
                                           "_int_", "je_",         "tc_",     "mi_"};
    if (is_one_of(key, names, sizeof names / sizeof *names))
        return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (!strncmp(key, prefixes[i], strlen(prefixes[i])))
            return true;
    }
    return false;
}

const struct paths_frame *paths_blame(const struct paths_path *path)
{
    const struct paths_frame *named = NULL;
    for (uint32_t i = path->depth; i-- > 0;) {
        const struct paths_frame *f = &path->frames[i];
        if (allocates_for_others(path->keys[i]) || path->keys[i][0] == '[')
            continue;
        if (f->line && strncmp(f->file, "/usr/include/", 13) != 0)
            return f;
        named = named ? named : f;
    }
    return named ? named : path->depth ? &path->frames[path->depth - 1] : NULL;
}
