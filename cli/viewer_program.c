// SPDX-License-Identifier: MIT
//
// See viewer_program.h.

#include "cli/viewer_program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int viewer_program(char path[VIEWER_PATH_MAX])
{
    static const char *const beside[] = {
        "fiberscope-view", "../viewer/fiberscope-view"}; // the second: of a build folder
    char self[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? strrchr(self, '/') : NULL;
    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        snprintf(path, VIEWER_PATH_MAX, "%s/%s", self, beside[i]);
        if (!access(path, X_OK))
            return 0;
    }
    snprintf(path, VIEWER_PATH_MAX, "%s", self);
    return -ENOENT;
}
