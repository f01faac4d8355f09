#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope finish: what a program recorded without any collector is in its black box, however it
ended, and in its core file."""

import os
import re
import resource
import shutil
import signal
import subprocess
import time

from harness import BUILD, BURN, FIBERSCOPE, Profile, Skip, close, main, on_a_disk_of

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
    # Its blocks are allocated, so its defaults are small.
    assert os.stat(f"{work}/box").st_size < 42 << 20
    p, said = finish(work, "box")
    close(p.total() / 1e9, 0.5, 0.03, "CPU seconds")
    close(p.share("alpha"), 0.7, 0.04, "share of alpha")
    # Not of all samples: on a busy machine the loader's share of half a second is above 1 %.
    assert p.share_below("main", "alpha", "beta") > 0.99 and "next: fiberscope top p.pb.gz" in said, said
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


def a_core_of_the_kernel_has_it_too(work):
    pattern = "/proc/sys/kernel/core_pattern"
    if os.geteuid() != 0 or not os.access(pattern, os.W_OK):
        raise Skip("needs root, to have core files written here")
    with open(pattern, encoding="ascii") as f:
        old = f.read()
    try:
        with open(pattern, "w", encoding="ascii") as f:
            f.write(f"{work}/core.%p")
        env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE="cpu=999,quiet=1,out=never.pb.gz")
        p = subprocess.Popen([BURN, "page", f"{work}/page"], cwd=work, env=env,
                             preexec_fn=lambda: resource.setrlimit(
                                 resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
        time.sleep(0.7)
        # coredump_filter stays the default 0x33: a memfd, unlinked, counts as anonymous shared memory.
        p.send_signal(signal.SIGABRT)
        p.wait(timeout=60)
        counted = page(work)[1]
    finally:
        with open(pattern, "w", encoding="ascii") as f:
            f.write(old)
    if not os.path.exists(f"{work}/core.{p.pid}"):
        raise Skip("the kernel wrote no core file")
    done = os.stat(f"{work}/core.{p.pid}")
    print(f"  core: {done.st_size >> 20} MiB long, {done.st_blocks * 512 >> 20} MiB on the disk")
    assert done.st_blocks * 512 < 40 << 20, "unused parts of the segment are in the core file"
    profile, _ = finish(work, f"core.{p.pid}")
    assert counted - 16e6 <= profile.total() <= counted + 60e6, (counted, profile.total())
    close(profile.share("alpha"), 1.0, 0.02, "share of alpha")


def a_black_box_on_a_small_disk(work):
    # It is made smaller until it fits; where nothing fits the program runs on, and it is said.
    script = (f"LD_PRELOAD={AGENT} FIBERSCOPE=cpu=999,segment=box {BURN} split 300; echo status $?; "
              f"stat -c %s box; {FIBERSCOPE} finish -o /dev/null box")
    for size, fits in (("4m", True), ("16k", False)):
        done = on_a_disk_of(size, work, script)
        assert "status 0" in done.stdout, (done.stdout, done.stderr)
        if fits:
            assert int(done.stdout.split()[2]) <= 4 << 20, done.stdout
            samples = int(re.search(r"([\d,]+) cpu samples", done.stderr)[1].replace(",", ""))
            assert samples > 200, done.stderr
        else:
            assert "cannot record: ENOSPC" in done.stderr, done.stderr


def little_address_space(work):
    # The segment and the agent's own reservations are made smaller, or the program runs on without.
    for limit, must_record in ((96 << 20, True), (12 << 20, False)):
        for name in os.listdir(work):
            os.unlink(f"{work}/{name}")
        env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE="cpu=999,out=dump")
        done = subprocess.run([BURN, "split", "300"], cwd=work, env=env, text=True, timeout=60,
                              capture_output=True, preexec_fn=lambda: resource.setrlimit(
                                  resource.RLIMIT_AS, (limit, limit)))
        assert done.returncode == 0, (limit, done.returncode, done.stderr)
        if os.path.exists(f"{work}/dump"):
            p, _ = finish(work, "dump")
            close(p.total() / 1e9, 0.3, 0.03, f"CPU seconds with {limit >> 20} MiB")
        else:
            assert not must_record and "cannot record" in done.stderr, (limit, done.stderr)


def snapshots_have_the_times_when_they_were_taken(work):
    grows = "import time\nx = []\nfor i in range(%d): x.append(bytearray(1 << 20)); time.sleep(0.05)"

    def start(count, settings):
        env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE=f"heap=65536,quiet=1,{settings}")
        return subprocess.Popen(["/usr/bin/python3", "-c", grows % count], cwd=work, env=env)

    def taken(path):
        p, _ = finish(work, path)
        return (p.time_ns + p.duration) / 1e9

    p = start(1000, "segment=box")
    try:
        for i in range(3):
            time.sleep(0.6)
            before = time.time()
            at = taken("box")
            assert before - 0.05 <= at <= time.time() + 0.05, (before, at)
            os.rename(f"{work}/p.pb.gz", f"{work}/{i}.pb.gz")
    finally:
        p.kill()
        p.wait()
    done = subprocess.run([FIBERSCOPE, "leaks", "2.pb.gz", "0.pb.gz", "1.pb.gz"], cwd=work, text=True,
                          capture_output=True, timeout=60)
    assert "in the order of their times, 0.pb.gz first" in done.stderr and "/s" in done.stdout, done
    # What is over stays as long as it was.
    for settings, path in (("out=dump", "dump"), ("segment=left", "left")):
        began = time.time()
        assert start(10, settings).wait(timeout=30) == 0
        ended = time.time()
        time.sleep(0.5)
        assert began + 0.5 <= taken(path) <= ended + 0.05, (path, began, taken(path), ended)


def each_file_gets_a_name_that_no_other_has(work):
    assert alone(work, BURN, "split", "50").wait(timeout=30) == 0
    for name in ("box.copy1", "box.copy2"):
        shutil.copy(f"{work}/box", f"{work}/{name}")
    inputs = set(os.listdir(work))
    for i, name in enumerate(("box.copy1", "box.copy2", "box", "box", "box.copy2")):
        done = subprocess.run([FIBERSCOPE, "finish", name], cwd=work, text=True, capture_output=True, timeout=60)
        made = set(os.listdir(work)) - inputs
        assert done.returncode == 0 and len(made) == i + 1, (name, made, done.stderr)
    endings = {re.fullmatch(r"burn\.\d+(.*)\.cpu\.pb\.gz", f)[1] for f in made}
    assert endings == {".copy1", ".copy2", "", ".2", ".copy2.2"}, made
    subprocess.run([FIBERSCOPE, "finish", "-q", "-o", "new/", "box.copy1"], cwd=work, check=True, timeout=60)
    assert [re.search(r"\.copy1\.cpu", f) is not None for f in os.listdir(f"{work}/new")] == [True]


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
          a_core_of_the_kernel_has_it_too, a_black_box_on_a_small_disk, little_address_space,
          snapshots_have_the_times_when_they_were_taken,
          each_file_gets_a_name_that_no_other_has, other_files_are_one_clear_error])
