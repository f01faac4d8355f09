// SPDX-License-Identifier: MIT
//
// Numbers of the events that are written, and how: a type, then unsigned LEB128 numbers, the first of them the time
// since the last event. From Go's trace format v2, version 1.23.

#ifndef FIBERSCOPE_EMIT_WIRE_H
#define FIBERSCOPE_EMIT_WIRE_H

#include "emit/emit.h"

#include <string.h>

enum emit_event {
    EV_PROCS_CHANGE = 9,
    EV_PROC_START = 10,
    EV_PROC_STOP = 11,
    EV_PROC_STEAL = 12,
    EV_PROC_STATUS = 13,
    EV_GO_CREATE = 14,
    EV_GO_CREATE_SYSCALL = 15,
    EV_GO_START = 16,
    EV_GO_DESTROY = 17,
    EV_GO_DESTROY_SYSCALL = 18,
    EV_GO_STOP = 19,
    EV_GO_BLOCK = 20,
    EV_GO_UNBLOCK = 21,
    EV_GO_SYSCALL_BEGIN = 22,
    EV_GO_SYSCALL_END = 23,
    EV_GO_SYSCALL_END_BLOCKED = 24,
    EV_HEAP_ALLOC = 37,
    EV_GO_LABEL = 39,
    EV_USER_TASK_BEGIN = 40,
    EV_USER_TASK_END = 41,
    EV_USER_REGION_BEGIN = 42,
    EV_USER_REGION_END = 43,
    EV_USER_LOG = 44,
    EV_GO_STATUS_STACK = 48,
};

// At most 10 bytes.
static inline uint8_t *put_number(uint8_t *at, uint64_t n)
{
    while (n >= 0x80) {
        *at++ = (uint8_t)(n | 0x80);
        n >>= 7;
    }
    *at++ = (uint8_t)n;
    return at;
}

// Writes 8 bytes, of which it counts those that there are.
static inline uint8_t *put_encoded(uint8_t *at, emit_number n)
{
    memcpy(at, &n.bits, sizeof n.bits);
    return at + (n.bits >> 56);
}

static inline emit_number encoded(uint32_t n)
{
    uint8_t bytes[8] = {0};
    emit_number e;
    bytes[7] = (uint8_t)(put_number(bytes, n) - bytes);
    memcpy(&e.bits, bytes, sizeof bytes);
    return e;
}

#endif
