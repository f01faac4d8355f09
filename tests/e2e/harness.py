# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: running fiberscope, cases by name, leaving nothing behind."""

import concurrent.futures
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
TESTS = os.path.join(BUILD, "tests", "e2e")
BURN = os.path.join(TESTS, "burn")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pprofile import Profile  # noqa: E402  (re-exported)

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Skip(Exception):
    """A case that cannot run here; its text says why."""


def record(*args, cwd, timeout=60, check=None, prefix=(), **more):
    done = subprocess.run([*prefix, FIBERSCOPE, "record", *args], cwd=cwd, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if check is not None:
        assert done.returncode == check, \
            f"exit status {done.returncode}, not {check}: {done.stderr}"
    return done


def on_a_disk_of(size, work, script):
    """Runs a shell script in `work`, which is a disk of this size for it alone."""
    if os.geteuid() != 0:
        raise Skip("needs root for a small tmpfs")
    mount = f"mount -t tmpfs -o size={size} none {work} && cd {work} && "
    return subprocess.run(["unshare", "-m", "sh", "-c", mount + script], timeout=60, text=True,
                          capture_output=True)


@functools.cache
def go_tool(name):
    """The program behind `go tool NAME`, which takes its time at each call."""
    go = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
    if not go:
        raise Skip("there is no Go here")
    subprocess.run([go, "tool", name, "-h"], check=False, capture_output=True)  # it is built at the first one
    return subprocess.run([go, "tool", "-n", name], check=True, capture_output=True, text=True).stdout.strip()


def close(value, want, tolerance, what):
    assert abs(value - want) <= tolerance, f"{what}: {value:.4g}, not {want:.4g} +- {tolerance:.4g}"


def leftovers(folder):
    """Files that a recording must not leave: temporaries beside the profile."""
    return [f for f in os.listdir(folder) if f.endswith((".tmp", "~")) or f.startswith(".")]


def taken_ns():
    """Time of all CPUs that the kernel's clock of a run queue leaves out: interrupts, and the host's own (steal)."""
    with open("/proc/stat", encoding="ascii") as f:
        return sum(map(int, f.readline().split()[6:9])) * 1e9 / os.sysconf("SC_CLK_TCK")


def go_first():
    """Others on the machine make delays long and are in no account of ours; where that is allowed they come second."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except PermissionError:
        pass


def skip_without_bpf():
    """Ends the test where `doctor` says that this kernel or user cannot have eBPF; who can must load what we have."""
    done = subprocess.run([FIBERSCOPE, "doctor", "--json"], capture_output=True, text=True, check=True, timeout=60)
    bpf = re.search(r'"topic": "BPF", "state": "(\w+)", "found": "([^"]*)"', done.stdout)
    if bpf.group(1) != "ok":
        print(f"SKIP: {bpf.group(2)}")
        sys.exit(77)


def main(cases, at_once=1):
    """Runs the functions of `cases` (all, those named on the command line, or those not named after --without), each
    with a folder of its own if it takes one; so many at a time. Exit status 77, for ctest's "skipped", if any could
    not run and none failed."""
    without = sys.argv[1:2] == ["--without"]
    named = set(sys.argv[1 + without:])
    if named - {case.__name__ for case in cases}:
        sys.exit(f"no such cases: {named - {case.__name__ for case in cases}}")
    wanted = [case for case in cases if not named or (case.__name__ in named) != without]
    failed, skipped = [], []

    def run(case):
        work = tempfile.mkdtemp(prefix="fiberscope-test-")
        os.chmod(work, 0o777)
        began = time.monotonic()
        try:
            case(*[work][:case.__code__.co_argcount])
            print(f"ok    {case.__name__}  {time.monotonic() - began:.1f} s\n", end="", flush=True)
        except Skip as why:
            skipped.append(case.__name__)
            print(f"SKIP: {case.__name__}: {why}\n", end="", flush=True)
        except Exception:  # each case reports for itself
            failed.append(case.__name__)
            print(f"FAIL  {case.__name__}\n{traceback.format_exc()}", end="", flush=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    if at_once == 1:
        for case in wanted:
            run(case)
    else:
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, wanted))
    if failed:
        sys.exit(1)
    if skipped:
        sys.exit(77)
