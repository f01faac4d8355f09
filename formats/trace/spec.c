// SPDX-License-Identifier: MIT

#include "formats/trace/spec.h"
#include "formats/trace/trace.h"

#define TIMED(n, ...) .arg_count = (n), .is_timed = true, .args = {__VA_ARGS__}
#define EXPERIMENT(n, ...)                                                                         \
    .arg_count = (n), .is_timed = true, .is_experimental = true, .args = {__VA_ARGS__}
#define BIT(i)   (1u << (i))
#define STACK(i) .stacks = BIT(i), .stack_arg = (i) + 1

static const struct trace_spec specs[TRACE_EV_END] = {
    [TRACE_EV_BATCH] = {"EventBatch"},
    [TRACE_EV_STACKS] = {"Stacks"},
    [TRACE_EV_STACK] = {"Stack"},
    [TRACE_EV_STRINGS] = {"Strings"},
    [TRACE_EV_STRING] = {"String"},
    [TRACE_EV_CPU_SAMPLES] = {"CPUSamples"},
    [TRACE_EV_CPU_SAMPLE] = {"CPUSample"},
    [TRACE_EV_FREQUENCY] = {"Frequency"},
    [TRACE_EV_EXPERIMENTAL_BATCH] = {"ExperimentalBatch"},
    [TRACE_EV_SYNC] = {"Sync"},
    [TRACE_EV_CLOCK_SNAPSHOT] = {"ClockSnapshot"},
    [TRACE_EV_END_OF_GENERATION] = {"EndOfGeneration"},

    [TRACE_EV_PROCS_CHANGE] = {"ProcsChange", TIMED(2, "procs_value", "stack"), STACK(1)},
    [TRACE_EV_PROC_START] = {"ProcStart", TIMED(2, "p", "p_seq")},
    [TRACE_EV_PROC_STOP] = {"ProcStop", TIMED(0, 0)},
    [TRACE_EV_PROC_STEAL] = {"ProcSteal", TIMED(3, "p", "p_seq", "m")},
    [TRACE_EV_PROC_STATUS] = {"ProcStatus", TIMED(2, "p", "pstatus")},

    [TRACE_EV_GO_CREATE] = {"GoCreate", TIMED(3, "new_g", "new_stack", "stack"),
                            .stacks = BIT(1) | BIT(2), .stack_arg = 3},
    [TRACE_EV_GO_CREATE_SYSCALL] = {"GoCreateSyscall", TIMED(1, "new_g")},
    [TRACE_EV_GO_START] = {"GoStart", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_DESTROY] = {"GoDestroy", TIMED(0, 0)},
    [TRACE_EV_GO_DESTROY_SYSCALL] = {"GoDestroySyscall", TIMED(0, 0)},
    [TRACE_EV_GO_STOP] = {"GoStop", TIMED(2, "reason_string", "stack"), STACK(1),
                          .strings = BIT(0)},
    [TRACE_EV_GO_BLOCK] = {"GoBlock", TIMED(2, "reason_string", "stack"), STACK(1),
                           .strings = BIT(0)},
    [TRACE_EV_GO_UNBLOCK] = {"GoUnblock", TIMED(3, "g", "g_seq", "stack"), STACK(2)},
    [TRACE_EV_GO_SYSCALL_BEGIN] = {"GoSyscallBegin", TIMED(2, "p_seq", "stack"), STACK(1)},
    [TRACE_EV_GO_SYSCALL_END] = {"GoSyscallEnd", TIMED(0, 0), .begin = TRACE_EV_GO_SYSCALL_BEGIN},
    [TRACE_EV_GO_SYSCALL_END_BLOCKED] = {"GoSyscallEndBlocked", TIMED(0, 0),
                                         .begin = TRACE_EV_GO_SYSCALL_BEGIN},
    [TRACE_EV_GO_STATUS] = {"GoStatus", TIMED(3, "g", "m", "gstatus")},

    [TRACE_EV_STW_BEGIN] = {"STWBegin", TIMED(2, "kind_string", "stack"), STACK(1),
                            .strings = BIT(0)},
    [TRACE_EV_STW_END] = {"STWEnd", TIMED(0, 0), .begin = TRACE_EV_STW_BEGIN},
    [TRACE_EV_GC_ACTIVE] = {"GCActive", TIMED(1, "gc_seq"), .begin = TRACE_EV_GC_BEGIN},
    [TRACE_EV_GC_BEGIN] = {"GCBegin", TIMED(2, "gc_seq", "stack"), STACK(1)},
    [TRACE_EV_GC_END] = {"GCEnd", TIMED(1, "gc_seq"), .begin = TRACE_EV_GC_BEGIN},
    [TRACE_EV_GC_SWEEP_ACTIVE] = {"GCSweepActive", TIMED(1, "p"), .begin = TRACE_EV_GC_SWEEP_BEGIN},
    [TRACE_EV_GC_SWEEP_BEGIN] = {"GCSweepBegin", TIMED(1, "stack"), STACK(0)},
    [TRACE_EV_GC_SWEEP_END] = {"GCSweepEnd", TIMED(2, "swept_value", "reclaimed_value"),
                               .begin = TRACE_EV_GC_SWEEP_BEGIN},
    [TRACE_EV_GC_ASSIST_ACTIVE] = {"GCMarkAssistActive", TIMED(1, "g"),
                                   .begin = TRACE_EV_GC_ASSIST_BEGIN},
    [TRACE_EV_GC_ASSIST_BEGIN] = {"GCMarkAssistBegin", TIMED(1, "stack"), STACK(0)},
    [TRACE_EV_GC_ASSIST_END] = {"GCMarkAssistEnd", TIMED(0, 0), .begin = TRACE_EV_GC_ASSIST_BEGIN},
    [TRACE_EV_HEAP_ALLOC] = {"HeapAlloc", TIMED(1, "heapalloc_value")},
    [TRACE_EV_HEAP_GOAL] = {"HeapGoal", TIMED(1, "heapgoal_value")},

    [TRACE_EV_GO_LABEL] = {"GoLabel", TIMED(1, "label_string"), .strings = BIT(0)},
    [TRACE_EV_TASK_BEGIN] = {"UserTaskBegin",
                             TIMED(4, "task", "parent_task", "name_string", "stack"), STACK(3),
                             .strings = BIT(2)},
    [TRACE_EV_TASK_END] = {"UserTaskEnd", TIMED(2, "task", "stack"), STACK(1)},
    [TRACE_EV_REGION_BEGIN] = {"UserRegionBegin", TIMED(3, "task", "name_string", "stack"),
                               STACK(2), .strings = BIT(1)},
    [TRACE_EV_REGION_END] = {"UserRegionEnd", TIMED(3, "task", "name_string", "stack"), STACK(2),
                             .strings = BIT(1), .begin = TRACE_EV_REGION_BEGIN},
    [TRACE_EV_LOG] = {"UserLog", TIMED(4, "task", "key_string", "value_string", "stack"), STACK(3),
                      .strings = BIT(1) | BIT(2)},

    [TRACE_EV_GO_SWITCH] = {"GoSwitch", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_SWITCH_DESTROY] = {"GoSwitchDestroy", TIMED(2, "g", "g_seq")},
    [TRACE_EV_GO_CREATE_BLOCKED] = {"GoCreateBlocked", TIMED(3, "new_g", "new_stack", "stack"),
                                    .stacks = BIT(1) | BIT(2), .stack_arg = 3},
    [TRACE_EV_GO_STATUS_STACK] = {"GoStatusStack", TIMED(4, "g", "m", "gstatus", "stack"),
                                  STACK(3)},

    [TRACE_EV_SPAN] = {"Span", EXPERIMENT(3, "id", "npages_value", "kindclass")},
    [TRACE_EV_SPAN_ALLOC] = {"SpanAlloc", EXPERIMENT(3, "id", "npages_value", "kindclass")},
    [TRACE_EV_SPAN_FREE] = {"SpanFree", EXPERIMENT(1, "id")},
    [TRACE_EV_HEAP_OBJECT] = {"HeapObject", EXPERIMENT(2, "id", "type")},
    [TRACE_EV_HEAP_OBJECT_ALLOC] = {"HeapObjectAlloc", EXPERIMENT(2, "id", "type")},
    [TRACE_EV_HEAP_OBJECT_FREE] = {"HeapObjectFree", EXPERIMENT(1, "id")},
    [TRACE_EV_GO_STACK] = {"GoroutineStack", EXPERIMENT(2, "id", "order")},
    [TRACE_EV_GO_STACK_ALLOC] = {"GoroutineStackAlloc", EXPERIMENT(2, "id", "order")},
    [TRACE_EV_GO_STACK_FREE] = {"GoroutineStackFree", EXPERIMENT(1, "id")},
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
