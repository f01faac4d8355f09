// SPDX-License-Identifier: MIT
//
// See usdt.h.

#include "runtime/usdt.h"

USDT_SEMAPHORES(RUNTIME_PROBES)
