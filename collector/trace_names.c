// SPDX-License-Identifier: MIT
//
// See trace_names.h.

#include "collector/trace_names.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 4096 };

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool trace_names_is_root(const char *name, bool is_ours)
{
    static const char *const libc[] = {"start_thread", "clone",  "__clone",           "clone3",
                                       "__clone3",     "_start", "__libc_start_main", NULL};
    static const char *const ours[] = {"fib_root_",   "fiber_begin", "task_run",
                                       "posix_begin", "c11_begin",   NULL};
    for (int i = 0; libc[i]; i++)
        if (strcmp(name, libc[i]) == 0)
            return true;
    for (int i = 0; is_ours && ours[i]; i++)
        if (strcmp(name, ours[i]) == 0)
            return true;
    return begins(name, "__libc_start_main_impl") || begins(name, "__libc_start_call_main");
}

const char *trace_names_public(const char *name, bool is_ours)
{
    // It serves functions of all kinds in turn, so it has no better name than the pool's.
    return is_ours && strcmp(name, "worker") == 0 ? "fib_workers" : NULL;
}

// "void std::__invoke_impl<void, int (*)()>(...)" as "std::__invoke_impl": no template arguments, no return type, no
// parameters.
static void bare_name(const char *name, char out[NAME_BYTES])
{
    size_t n = 0;
    int depth = 0;
    for (const char *p = name; *p && n < NAME_BYTES - 1; p++) {
        if (*p == '<')
            depth++;
        else if (*p == '>' && depth)
            depth--;
        else if (!depth && *p == '(')
            break;
        else if (!depth && *p == ' ')
            n = 0;
        else if (!depth)
            out[n++] = *p;
    }
    out[n] = '\0';
}

bool trace_names_is_trampoline(const char *name)
{
    static const char *const whole[] = {"execute_native_thread_routine",
                                        "execute_native_thread_routine_compat",
                                        "std::__invoke",
                                        "std::__invoke_impl",
                                        "std::__invoke_r",
                                        "std::__1::__invoke",
                                        "std::__1::__thread_execute",
                                        "std::__1::__thread_proxy",
                                        "std::call_once",
                                        "__gthread_once",
                                        NULL};
    // The last five are std::async's.
    static const char *const of[] = {"std::thread::_State_impl::",
                                     "std::thread::_Invoker::",
                                     "std::__future_base::",
                                     "std::once_flag::",
                                     "std::function::",
                                     "std::_Function_handler::",
                                     NULL};
    char bare[NAME_BYTES];
    if (!strstr(name, "std::") && !begins(name, "execute_native") && !begins(name, "__gthread"))
        return false;
    bare_name(name, bare);
    for (int i = 0; whole[i]; i++)
        if (strcmp(bare, whole[i]) == 0)
            return true;
    for (int i = 0; of[i]; i++)
        if (begins(bare, of[i]))
            return true;
    return false;
}

// What stands behind `before`, up to the end of that argument of a template.
static bool callable_behind(const char *trampoline, const char *before, char *out, size_t size)
{
    const char *at = strstr(trampoline, before);
    if (!at)
        return false;
    at += strlen(before);
    size_t n = 0;
    int depth = 0; // of brackets of all kinds
    for (; at[n] && (depth || (at[n] != ',' && at[n] != '>')); n++) {
        depth += at[n] == '<' || at[n] == '(' || at[n] == '{';
        depth -= at[n] == '>' || at[n] == ')' || at[n] == '}';
    }
    while (n && at[n - 1] == ' ')
        n--;
    int written = snprintf(out, size, "%.*s::operator()", (int)n, at);
    // "void (*)(int)", "void (work::object::*)()"
    return n && !strstr(out, "*)") && written > 0 && (size_t)written < size;
}

bool trace_names_callable(const char *trampoline, char *out, size_t size)
{
    return callable_behind(trampoline, "std::thread::_State_impl<std::thread::_Invoker<std::tuple<",
                           out, size) ||
           callable_behind(
               trampoline,
               "std::__future_base::_Async_state_impl<std::thread::_Invoker<std::tuple<", out,
               size);
}
