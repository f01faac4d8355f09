// SPDX-License-Identifier: MIT
//
// What profiles.c and profiles_frame.c share.

#ifndef FIBERSCOPE_VIEWER_VIEWS_PROFILES_INTERNAL_H
#define FIBERSCOPE_VIEWER_VIEWS_PROFILES_INTERNAL_H

#include "viewer/views/profiles.h"

#include <stdio.h>

void profiles_sync(struct profiles *p);
void profiles_load_lines(struct profiles *p);
void profiles_set_function(struct profiles *p, const char *label); // NULL: as it is
void profiles_undo(struct profiles *p, int by);

// A state after the one in force. 0 or -errno with err; then everything is as before, but message.
int profiles_push(struct profiles *p, const struct refine_state *s, struct fscope_error *err);

#endif
