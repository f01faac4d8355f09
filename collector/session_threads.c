// SPDX-License-Identifier: MIT
//
// The threads of a session's process, as a profile: see session_internal.h. Looking costs a thread that runs a stop of
// some 50 us (thread_stacks.h). Who made a thread nobody knows any more; "threadcreate" has what it was made for.

#include "collector/session_internal.h"

#include "collector/thread_stacks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add(struct builder_process *p, const char *part, char state,
               const struct thread_stack *stack)
{
    const char text[2] = {state ? state : '?', '\0'};
    const struct builder_label label = {.key = "state", .value = text};
    struct builder_sample one = {
        .count = 1, .part = part, .labels = &label, .label_count = !strcmp(part, "threads")};
    if (stack) {
        one.user = stack->pcs;
        one.user_depth = stack->depth;
        one.flags = stack->depth && stack->end == UNWIND_END_ROOT ? 0 : SEG_FLAG_BROKEN;
    }
    return builder_add(p, &one);
}

// By state alone.
static int without_stacks(struct session *s, struct builder_process *p, const char *part,
                          struct fscope_error *err)
{
    char path[64];
    int rc = 0;
    snprintf(path, sizeof path, "/proc/%u/task", s->pid);
    DIR *dir = opendir(path);
    if (!dir)
        return error_set(err, errno == ENOENT ? -ESRCH : -errno, 0, "process %u has ended", s->pid);
    for (struct dirent *e; !rc && (e = readdir(dir));) {
        char line[512] = "";
        unsigned long tid = strtoul(e->d_name, NULL, 10);
        if (!tid)
            continue;
        snprintf(path, sizeof path, "/proc/%u/task/%lu/stat", s->pid, tid);
        FILE *f = fopen(path, "re");
        const char *after = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        if (f)
            fclose(f);
        if (after) // else it has gone
            rc = add(p, part, after[1] ? after[2] : '?', NULL);
    }
    closedir(dir);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

// --- Where a thread began: the outermost frames of its stack.

static bool begins_threads(const struct target *t, uint64_t pc)
{
    static const char *const libraries[] = {"libc.so", "libc-", "libpthread", "libstdc++",
                                            "libc++"};
    uint64_t start, end;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (target_file_range(t, pc, libraries[i], &start, &end))
            return true;
    return false;
}

// Up to the function that it was given. A thread that just runs a fiber has that one's stack: no frames.
static int add_beginning(struct target *t, struct builder_process *p, const char *part, char state,
                         const struct thread_stack *stack, bool is_main)
{
    struct thread_stack outer = {.end = UNWIND_END_ROOT};
    uint32_t at = stack->depth ? stack->depth - 1 : 0;
    if (stack->end != UNWIND_END_ROOT || !stack->depth ||
        !(is_main || begins_threads(t, stack->pcs[at])))
        return add(p, part, state, NULL);
    do // _start is the program's
        at -= at != 0;
    while (at && begins_threads(t, stack->pcs[at]));
    outer.pcs = stack->pcs + at;
    outer.depth = stack->depth - at;
    // A builder takes the first one for exact; it is a return address.
    stack->pcs[at] -= at != 0;
    return add(p, part, state, &outer);
}

static int with_stacks(struct target *t, const struct thread_list *list, struct builder_process *p,
                       const char *part)
{
    struct thread_stacks stacks;
    int rc = target_tell_builder(t, p);
    if (rc)
        return rc;
    rc = thread_stacks_take(&stacks, t, list, NULL);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < list->count; i++)
        if (i >= stacks.count || stacks.stacks[i].how == THREAD_STACK_NONE)
            rc = add(p, part, list->threads[i].state, NULL);
        else if (strcmp(part, "threadcreate") == 0)
            rc = add_beginning(t, p, part, list->threads[i].state, &stacks.stacks[i],
                               stacks.stacks[i].tid == target_pid(t));
        else
            rc = add(p, part, list->threads[i].state, &stacks.stacks[i]);
    thread_stacks_free(&stacks);
    return rc;
}

int session_threads(struct session *s, struct record_result *result, const char *part,
                    struct fscope_error *err)
{
    struct target *t = NULL;
    struct thread_list list = {0};
    struct builder_process *p =
        builder_process(result->builders[RECORD_CUSTOM], s->pid, 0, s->program);
    if (!p)
        return error_set(err, -ENOMEM, 0, "out of memory");
    if (target_open_pid(&t, s->pid, NULL))
        return without_stacks(s, p, part, err);
    int rc = thread_list_read(&list, t, NULL);
    bool is_listed = !rc;
    if (is_listed)
        rc = with_stacks(t, &list, p, part);
    thread_list_free(&list);
    target_close(t);
    if (!is_listed)
        return without_stacks(s, p, part, err);
    return rc ? error_set(err, rc, 0, "process %u: %s", s->pid, strerror(-rc)) : 0;
}

static const struct pprof_function *function_of(const struct pprof_sample *s)
{
    const struct pprof_location *leaf = s->location_count ? s->locations[0] : NULL;
    return leaf && leaf->line_count ? leaf->lines[leaf->line_count - 1].function : NULL;
}

static bool began_alike(const struct pprof_sample *a, const struct pprof_sample *b)
{
    return function_of(a) && function_of(a) == function_of(b) &&
           a->location_count == b->location_count &&
           !memcmp(a->locations + 1, b->locations + 1,
                   (a->location_count - 1) * sizeof *a->locations);
}

void session_threads_unite(struct pprof_profile *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *one = p->samples[i];
        struct pprof_location *leaf = one->location_count ? one->locations[0] : NULL;
        size_t j = 0;
        if (leaf && one->location_count == 1 && !leaf->mapping)
            one->location_count = 0;             // [stack lost]
        else if (leaf && leaf->line_count > 1) { // less what is inlined there
            leaf->lines += leaf->line_count - 1;
            leaf->line_count = 1;
        }
        while (j < kept && !began_alike(p->samples[j], one))
            j++;
        if (j < kept)
            p->samples[j]->values[0] += one->values[0];
        else
            p->samples[kept++] = one;
    }
    p->sample_count = kept;
}
