#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Recording and serving by eBPF with a sanitizer's build (FSCOPE_SANITIZED, a build folder) of programs of the ordinary one
(FSCOPE_BUILD): cases of the tests of these, which pass, and no report. For ./dev soak."""

import glob
import os
import sys
import tempfile

import harness

SOURCE = os.environ["FSCOPE_SOURCE"]
sys.path[1:1] = [os.path.join(SOURCE, "tests", "conformance")]
os.environ["FIBERSCOPE_LIBDIR"] = os.path.join(harness.BUILD, "agent")
harness.FIBERSCOPE = os.path.join(os.environ["FSCOPE_SANITIZED"], "cli", "fiberscope")  # before others take it

import ebpf  # noqa: E402
import ebpf_locks  # noqa: E402
import ebpf_serve  # noqa: E402
import ebpf_sites  # noqa: E402
import ebpf_waits  # noqa: E402
import trace_kernel  # noqa: E402

CASES = [
    ebpf.privileges_go_once_it_runs,
    ebpf.a_process_and_its_threads,
    ebpf.a_killed_target_loses_nothing,
    ebpf.a_full_ring_is_counted,
    ebpf.tables_without_room_cost_no_samples,
    ebpf_waits.who_waits_before_and_after_is_there,
    ebpf_locks.a_killed_target_has_waited_until_then,
    ebpf_sites.malloc_is_seen_without_the_agent,
    ebpf_sites.a_killed_target_keeps_what_was_seen,
    ebpf_serve.it_ends_with_the_program,
    trace_kernel.a_killed_program_and_its_children_are_told_to_the_end,
]


def watched(case, reports):
    def run(work):
        log = f"log_path={os.path.join(reports, case.__name__)}:exitcode=99"
        os.environ.update(ASAN_OPTIONS=log, UBSAN_OPTIONS=log + ":print_stacktrace=1")
        try:
            case(*[work][:case.__code__.co_argcount])
        finally:
            for name in glob.glob(os.path.join(reports, case.__name__ + ".*")):
                with open(name, encoding="utf-8", errors="replace") as f:
                    print(f.read()[:6000])
        assert not glob.glob(os.path.join(reports, case.__name__ + ".*")), "a report"
    run.__name__ = case.__name__
    return run


if __name__ == "__main__":
    harness.skip_without_bpf()
    with tempfile.TemporaryDirectory(prefix="fiberscope-reports-") as folder:
        os.chmod(folder, 0o777)
        harness.main([watched(case, folder) for case in CASES])
