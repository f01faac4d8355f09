// SPDX-License-Identifier: MIT
//
// Finds and reads source files.

#ifndef FIBERSCOPE_BASE_SOURCE_FILE_H
#define FIBERSCOPE_BASE_SOURCE_FILE_H

#include <stddef.h>
#include <stdint.h>

// Reads the file that a profile calls `path`: that path, else the longest end of it that is in one
// of the folders of `search` (separated by ':'; "": none). *content, to be freed with *lines, has
// NULs for its line ends. 0; -ENOENT with the paths tried in `missing`; -ENOMEM.
int source_read(const char *path, const char *search, char **content, char ***lines,
                uint32_t *count, char *missing, size_t missing_size);

#endif
