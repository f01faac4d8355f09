// SPDX-License-Identifier: MIT
//
// A library whose constructor runs before the agent's, and allocates; its destructor gives back.

#include <stdlib.h>
#include <string.h>

static char *early[100];

int heap_early_is_there(void);

int heap_early_is_there(void)
{
    return early[0] != NULL;
}

__attribute__((constructor)) static void begin(void)
{
    for (int i = 0; i < 100; i++) {
        early[i] = malloc(100);
        if (early[i])
            memset(early[i], i, 100);
        early[i] = realloc(early[i], 5000);
    }
}

__attribute__((destructor)) static void end(void)
{
    for (int i = 0; i < 100; i++) {
        if (early[i] && early[i][99] != (char)i)
            abort();
        free(early[i]);
    }
}
