// SPDX-License-Identifier: MIT

#include "formats/trace/spec.h"
#include "formats/trace/trace.h"

#define TIMED(n, ...) .arg_count = (n), .is_timed = true, .args = {__VA_ARGS__}
#define EXPERIMENT(n, ...)                                                                         \
    .arg_count = (n), .is_timed = true, .is_experimental = true, .args = {__VA_ARGS__}
#define BIT(i)   (1u << (i))
#define STACK(i) .stacks = BIT(i), .stack_arg = (i) + 1

static const struct trace_spec specs[TRACE_EV_END] = {
    [TRACE_EV_BATCH] = {.name = "EventBatch"},
    [TRACE_EV_STACKS] = {.name = "Stacks"},
    [TRACE_EV_STACK] = {.name = "Stack"},
    [TRACE_EV_STRINGS] = {.name = "Strings"},
    [TRACE_EV_STRING] = {.name = "String"},
    [TRACE_EV_CPU_SAMPLES] = {.name = "CPUSamples"},
    [TRACE_EV_CPU_SAMPLE] = {.name = "CPUSample"},
    [TRACE_EV_FREQUENCY] = {.name = "Frequency"},
    [TRACE_EV_EXPERIMENTAL_BATCH] = {.name = "ExperimentalBatch"},
    [TRACE_EV_SYNC] = {.name = "Sync"},
    [TRACE_EV_CLOCK_SNAPSHOT] = {.name = "ClockSnapshot"},
    [TRACE_EV_END_OF_GENERATION] = {.name = "EndOfGeneration"},

    [TRACE_EV_PROCS_CHANGE] = {.name = "ProcsChange", TIMED(2, "procs_value", "stack"), STACK(1)},
    [TRACE_EV_PROC_START] = {.name = "ProcStart", TIMED(2, "p", "p_seq")},
    [TRACE_EV_PROC_STOP] = {.name = "ProcStop", TIMED(0, 0)},
    [TRACE_EV_PROC_STEAL] = {.name = "ProcSteal", TIMED(3, "p", "p_seq", "m")},
    [TRACE_EV_PROC_STATUS] = {.name = "ProcStatus", TIMED(2, "p", "pstatus")},

    [TRACE_EV_GO_CREATE] = {.name = "GoCreate",
                            TIMED(3, "new_g", "new_stack", "stack"),
                            .stacks = BIT(1) | BIT(2),
                            .stack_arg = 3},
    [TRACE_EV_GO_CREATE_SYSCALL] = {.name = "GoCreateSyscall", TIMED(1, "new_g")},
    [TRACE_EV_GO_START] = {.name = "GoStart", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_DESTROY] = {.name = "GoDestroy", TIMED(0, 0)},
    [TRACE_EV_GO_DESTROY_SYSCALL] = {.name = "GoDestroySyscall", TIMED(0, 0)},
    [TRACE_EV_GO_STOP] = {.name = "GoStop",
                          TIMED(2, "reason_string", "stack"),
                          STACK(1),
                          .strings = BIT(0)},
    [TRACE_EV_GO_BLOCK] = {.name = "GoBlock",
                           TIMED(2, "reason_string", "stack"),
                           STACK(1),
                           .strings = BIT(0)},
    [TRACE_EV_GO_UNBLOCK] = {.name = "GoUnblock", TIMED(3, "g", "g_seq", "stack"), STACK(2)},
    [TRACE_EV_GO_SYSCALL_BEGIN] = {.name = "GoSyscallBegin", TIMED(2, "p_seq", "stack"), STACK(1)},
    [TRACE_EV_GO_SYSCALL_END] = {.name = "GoSyscallEnd",
                                 TIMED(0, 0),
                                 .begin = TRACE_EV_GO_SYSCALL_BEGIN},
    [TRACE_EV_GO_SYSCALL_END_BLOCKED] = {.name = "GoSyscallEndBlocked",
                                         TIMED(0, 0),
                                         .begin = TRACE_EV_GO_SYSCALL_BEGIN},
    [TRACE_EV_GO_STATUS] = {.name = "GoStatus", TIMED(3, "g", "m", "gstatus")},

    [TRACE_EV_STW_BEGIN] = {.name = "STWBegin",
                            TIMED(2, "kind_string", "stack"),
                            STACK(1),
                            .strings = BIT(0)},
    [TRACE_EV_STW_END] = {.name = "STWEnd", TIMED(0, 0), .begin = TRACE_EV_STW_BEGIN},
    [TRACE_EV_GC_ACTIVE] = {.name = "GCActive", TIMED(1, "gc_seq"), .begin = TRACE_EV_GC_BEGIN},
    [TRACE_EV_GC_BEGIN] = {.name = "GCBegin", TIMED(2, "gc_seq", "stack"), STACK(1)},
    [TRACE_EV_GC_END] = {.name = "GCEnd", TIMED(1, "gc_seq"), .begin = TRACE_EV_GC_BEGIN},
    [TRACE_EV_GC_SWEEP_ACTIVE] = {.name = "GCSweepActive",
                                  TIMED(1, "p"),
                                  .begin = TRACE_EV_GC_SWEEP_BEGIN},
    [TRACE_EV_GC_SWEEP_BEGIN] = {.name = "GCSweepBegin", TIMED(1, "stack"), STACK(0)},
    [TRACE_EV_GC_SWEEP_END] = {.name = "GCSweepEnd",
                               TIMED(2, "swept_value", "reclaimed_value"),
                               .begin = TRACE_EV_GC_SWEEP_BEGIN},
    [TRACE_EV_GC_ASSIST_ACTIVE] = {.name = "GCMarkAssistActive",
                                   TIMED(1, "g"),
                                   .begin = TRACE_EV_GC_ASSIST_BEGIN},
    [TRACE_EV_GC_ASSIST_BEGIN] = {.name = "GCMarkAssistBegin", TIMED(1, "stack"), STACK(0)},
    [TRACE_EV_GC_ASSIST_END] = {.name = "GCMarkAssistEnd",
                                TIMED(0, 0),
                                .begin = TRACE_EV_GC_ASSIST_BEGIN},
    [TRACE_EV_HEAP_ALLOC] = {.name = "HeapAlloc", TIMED(1, "heapalloc_value")},
    [TRACE_EV_HEAP_GOAL] = {.name = "HeapGoal", TIMED(1, "heapgoal_value")},

    [TRACE_EV_GO_LABEL] = {.name = "GoLabel", TIMED(1, "label_string"), .strings = BIT(0)},
    [TRACE_EV_TASK_BEGIN] = {.name = "UserTaskBegin",
                             TIMED(4, "task", "parent_task", "name_string", "stack"),
                             STACK(3),
                             .strings = BIT(2)},
    [TRACE_EV_TASK_END] = {.name = "UserTaskEnd", TIMED(2, "task", "stack"), STACK(1)},
    [TRACE_EV_REGION_BEGIN] = {.name = "UserRegionBegin",
                               TIMED(3, "task", "name_string", "stack"),
                               STACK(2),
                               .strings = BIT(1)},
    [TRACE_EV_REGION_END] = {.name = "UserRegionEnd",
                             TIMED(3, "task", "name_string", "stack"),
                             STACK(2),
                             .strings = BIT(1),
                             .begin = TRACE_EV_REGION_BEGIN},
    [TRACE_EV_LOG] = {.name = "UserLog",
                      TIMED(4, "task", "key_string", "value_string", "stack"),
                      STACK(3),
                      .strings = BIT(1) | BIT(2)},

    [TRACE_EV_GO_SWITCH] = {.name = "GoSwitch", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_SWITCH_DESTROY] = {.name = "GoSwitchDestroy", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_CREATE_BLOCKED] = {.name = "GoCreateBlocked",
                                    TIMED(3, "new_g", "new_stack", "stack"),
                                    .stacks = BIT(1) | BIT(2),
                                    .stack_arg = 3},
    [TRACE_EV_GO_STATUS_STACK] = {.name = "GoStatusStack",
                                  TIMED(4, "g", "m", "gstatus", "stack"),
                                  STACK(3)},

    [TRACE_EV_SPAN] = {.name = "Span", EXPERIMENT(3, "id", "npages_value", "kindclass")},
    [TRACE_EV_SPAN_ALLOC] = {.name = "SpanAlloc", EXPERIMENT(3, "id", "npages_value", "kindclass")},
    [TRACE_EV_SPAN_FREE] = {.name = "SpanFree", EXPERIMENT(1, "id")},
    [TRACE_EV_HEAP_OBJECT] = {.name = "HeapObject", EXPERIMENT(2, "id", "type")},
    [TRACE_EV_HEAP_OBJECT_ALLOC] = {.name = "HeapObjectAlloc", EXPERIMENT(2, "id", "type")},
    [TRACE_EV_HEAP_OBJECT_FREE] = {.name = "HeapObjectFree", EXPERIMENT(1, "id")},
    [TRACE_EV_GO_STACK] = {.name = "GoroutineStack", EXPERIMENT(2, "id", "order")},
    [TRACE_EV_GO_STACK_ALLOC] = {.name = "GoroutineStackAlloc", EXPERIMENT(2, "id", "order")},
    [TRACE_EV_GO_STACK_FREE] = {.name = "GoroutineStackFree", EXPERIMENT(1, "id")},
};

const struct trace_spec *trace_spec_of(uint8_t wire)
{
    return &specs[wire < TRACE_EV_END ? wire : TRACE_EV_NONE];
}

bool trace_spec_permits(uint32_t version, uint8_t wire)
{
    if (!trace_spec_of(wire)->name)
        return false;
    if (wire >= TRACE_EV_SPAN)
        return version >= 23;
    return wire <= (version <= 22   ? TRACE_EV_LOG
                    : version <= 23 ? TRACE_EV_EXPERIMENTAL_BATCH
                    : version <= 25 ? TRACE_EV_CLOCK_SNAPSHOT
                                    : TRACE_EV_END_OF_GENERATION);
}

static const char *name_in(const char *const *names, size_t count, size_t i)
{
    return i < count && names[i] ? names[i] : "?";
}
#define NAME_IN(names, i) name_in(names, sizeof(names) / sizeof *(names), i)

const char *trace_kind_name(uint8_t kind)
{
    static const char *const names[] = {
        [TRACE_SYNC] = "Sync",
        [TRACE_METRIC] = "Metric",
        [TRACE_LABEL] = "Label",
        [TRACE_STACK_SAMPLE] = "StackSample",
        [TRACE_RANGE_BEGIN] = "RangeBegin",
        [TRACE_RANGE_ACTIVE] = "RangeActive",
        [TRACE_RANGE_END] = "RangeEnd",
        [TRACE_TASK_BEGIN] = "TaskBegin",
        [TRACE_TASK_END] = "TaskEnd",
        [TRACE_REGION_BEGIN] = "RegionBegin",
        [TRACE_REGION_END] = "RegionEnd",
        [TRACE_LOG] = "Log",
        [TRACE_TRANSITION] = "StateTransition",
        [TRACE_EXPERIMENTAL] = "Experimental",
    };
    return NAME_IN(names, kind);
}

const char *trace_go_state_name(uint8_t state)
{
    static const char *const names[] = {"Undetermined", "NotExist", "Runnable",
                                        "Running",      "Waiting",  "Syscall"};
    return NAME_IN(names, state);
}

const char *trace_proc_state_name(uint8_t state)
{
    static const char *const names[] = {"Undetermined", "NotExist", "Running", "Idle"};
    return NAME_IN(names, state);
}

const char *trace_range_name(uint8_t range)
{
    static const char *const names[] = {
        [TRACE_RANGE_STW] = "stop-the-world",
        [TRACE_RANGE_GC_MARK] = "GC concurrent mark phase",
        [TRACE_RANGE_GC_SWEEP] = "GC incremental sweep",
        [TRACE_RANGE_GC_ASSIST] = "GC mark assist",
    };
    return NAME_IN(names, range);
}

const char *trace_metric_name(uint8_t metric)
{
    static const char *const names[] = {
        [TRACE_METRIC_GOMAXPROCS] = "/sched/gomaxprocs:threads",
        [TRACE_METRIC_HEAP_BYTES] = "/memory/classes/heap/objects:bytes",
        [TRACE_METRIC_HEAP_GOAL_BYTES] = "/gc/heap/goal:bytes",
    };
    return NAME_IN(names, metric);
}

const char *trace_rule_name(enum trace_rule rule)
{
    static const char *const names[] = {
        [TRACE_RULE_NONE] = "none",
        [TRACE_RULE_SYSTEM] = "system",
        [TRACE_RULE_HEADER] = "header",
        [TRACE_RULE_TRUNCATED] = "truncated",
        [TRACE_RULE_BATCH] = "batch",
        [TRACE_RULE_GENERATION] = "generation",
        [TRACE_RULE_EVENT] = "event",
        [TRACE_RULE_TABLE] = "table",
        [TRACE_RULE_ID] = "id",
        [TRACE_RULE_CONTEXT] = "context",
        [TRACE_RULE_STATUS] = "status",
        [TRACE_RULE_EXISTS] = "exists",
        [TRACE_RULE_SEQUENCE] = "sequence",
        [TRACE_RULE_RANGE] = "range",
        [TRACE_RULE_REGION] = "region",
        [TRACE_RULE_TASK] = "task",
        [TRACE_RULE_GC] = "gc",
        [TRACE_RULE_PROC_TWICE] = "proc-twice",
    };
    return NAME_IN(names, (size_t)rule);
}
