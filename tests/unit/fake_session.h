// SPDX-License-Identifier: MIT
//
// A session (collector/session.h) that looks at nothing: profiles are made up, and the test says what goes wrong.

#ifndef FIBERSCOPE_TESTS_FAKE_SESSION_H
#define FIBERSCOPE_TESTS_FAKE_SESSION_H

#include "collector/session.h"

struct fake_session {
    int profile_fails, sample_fails, trace_fails, flight_fails; // 0 or -errno
    uint32_t rounds;     // profiles taken: each has more in it
    uint32_t sampled_ms; // how long the last session_sample took
    bool sampling;       // one is at it
    uint64_t fibers;     // that it has; 0: no runtime
};

// The session is about a child that is a copy of this process and does nothing. Never freed.
struct session *fake_session(struct fake_session **controls);

#endif
