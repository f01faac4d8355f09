// SPDX-License-Identifier: MIT
//
// See thread_places.h.

#include "collector/thread_places.h"

#include "collector/thread_stacks.h"

#include <stdbool.h>
#include <stdlib.h>

enum { PLACES_MAX = 512 };

static int tell(const struct thread_list *list, const struct thread_stacks *stacks,
                int (*fn)(void *arg, uint32_t tid, const uint64_t *pcs, uint32_t depth), void *arg)
{
    int rc = 0;
    for (size_t i = 0, at = 0; !rc && i < stacks->count; i++) { // in the list's order
        const struct thread_stack *s = &stacks->stacks[i];
        while (at < list->count && list->threads[at].tid != s->tid)
            at++;
        if (at < list->count && s->how != THREAD_STACK_NONE && s->depth)
            rc = fn(arg, list->threads[at].own_tid, s->pcs, s->depth);
    }
    return rc;
}

int thread_places_each(uint32_t pid,
                       int (*fn)(void *arg, uint32_t tid, const uint64_t *pcs, uint32_t depth),
                       void *arg)
{
    struct target *t = NULL;
    struct thread_list list = {0};
    struct thread_stacks stacks = {0};
    bool *wanted = NULL;
    int rc = 0;
    if (!target_open_pid(&t, pid, NULL) && !thread_list_read(&list, t, NULL))
        wanted = calloc(list.count + 1, sizeof *wanted);
    for (size_t i = 0, n = 0; wanted && i < list.count; i++)
        wanted[i] = n++ < PLACES_MAX;
    if (wanted && !thread_stacks_take(&stacks, t, &list, wanted)) {
        rc = tell(&list, &stacks, fn, arg);
        thread_stacks_free(&stacks);
    }
    free(wanted);
    thread_list_free(&list);
    target_close(t);
    return rc;
}
