// SPDX-License-Identifier: MIT
#include "runtime/core.h"
void locals_end(struct g *g)
{
    (void)g;
}
