#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope finish: what a program recorded without any collector is in its black box, however it
ended, and in its core file."""

import os
import shutil
import signal
import subprocess
import time

from harness import BUILD, BURN, FIBERSCOPE, Profile, Skip, close, main

AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")


def alone(work, *command, box=True):
    """Runs a program with the agent (and a black box), and nobody to collect."""
    env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE="cpu=999,quiet=1,out=never.pb.gz")
    if box:
        env["FIBERSCOPE_SEGMENT"] = f"{work}/box"
    return subprocess.Popen(command, cwd=work, env=env)


def page(work):
    """pid and CPU time, as the target has counted them."""
    with open(f"{work}/page", "rb") as f:
        data = f.read(24)
    word = [int.from_bytes(data[i:i + 8], "little") for i in (0, 8, 16)]
    return word[0], word[1] + word[2]


def finish(work, path):
    done = subprocess.run([FIBERSCOPE, "finish", path, "-o", "p.pb.gz"], cwd=work, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Profile(f"{work}/p.pb.gz"), done.stderr


def a_black_box_is_complete(work):
    assert alone(work, BURN, "split", "500").wait(timeout=30) == 0
    p, said = finish(work, "box")
    close(p.total() / 1e9, 0.5, 0.03, "CPU seconds")
    close(p.share("alpha"), 0.7, 0.04, "share of alpha")
    assert p.share("main") > 0.99 and "next: fiberscope top p.pb.gz" in said, said
    again, _ = finish(work, "box")
    assert again.total() == p.total(), "reading used the black box up"


def a_killed_program_leaves_all_it_had(work):
    p = alone(work, BURN, "page", f"{work}/page")
    time.sleep(0.7)
    p.send_signal(signal.SIGKILL)
    p.wait()
    counted = page(work)[1]
    profile, _ = finish(work, "box")
    assert counted - 16e6 <= profile.total() <= counted + 60e6, (counted, profile.total())


def a_core_file_has_it_too(work):
    gcore = shutil.which("gcore")
    if not gcore:
        raise Skip("no gcore here (package gdb)")
    p = alone(work, BURN, "page", f"{work}/page", box=False)
    time.sleep(0.7)
    # Shared mappings are in a core file only where coredump_filter says so (0x8).
    with open(f"/proc/{p.pid}/coredump_filter", "w", encoding="ascii") as f:
        f.write("0x3f")
    before = page(work)[1]
    done = subprocess.run([gcore, "-o", "core", str(p.pid)], cwd=work, capture_output=True,
                          text=True, timeout=60)
    after = page(work)[1]
    p.kill()
    p.wait()
    assert done.returncode == 0, done.stderr
    profile, _ = finish(work, f"core.{p.pid}")
    assert before - 16e6 <= profile.total() <= after + 16e6, (before, profile.total(), after)
    close(profile.share("alpha"), 1.0, 0.02, "share of alpha")


def other_files_are_one_clear_error(work):
    for name, data in (("text", b"hello\n" * 100), ("empty", b""), ("zeros", bytes(100000))):
        with open(f"{work}/{name}", "wb") as f:
            f.write(data)
        done = subprocess.run([FIBERSCOPE, "finish", name], cwd=work, text=True,
                              capture_output=True, timeout=60)
        assert done.returncode == 1 and name in done.stderr, (done.returncode, done.stderr)
    assert len(os.listdir(work)) == 3, os.listdir(work)


if __name__ == "__main__":
    main([a_black_box_is_complete, a_killed_program_leaves_all_it_had, a_core_file_has_it_too,
          other_files_are_one_clear_error])
