#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record: the profile says what the program did, in every thread and process, whatever ends
the recording; the command runs as it would have without us."""

import glob
import os
import pty
import re
import shutil
import signal
import subprocess
import time

from harness import (BURN, BUILD, FIBERSCOPE, NOBODY, TESTS, Profile, Skip, close, leftovers, main,
                     on_a_disk_of, record)

HZ = ["-F", "999"]


def shares_are_those_of_the_program(work):
    record(*HZ, "-o", "p.pb.gz", BURN, "split", "1000", cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    assert p.sample_types == [("samples", "count"), ("cpu", "nanoseconds")], p.sample_types
    close(p.total() / 1e9, 1.0, 0.06, "CPU seconds")
    close(p.total(0), 999, 40, "samples")
    close(p.share("alpha"), 0.7, 0.03, "share of alpha")
    close(p.share("beta"), 0.3, 0.03, "share of beta")
    whole = p.share_below("main", "alpha", "beta")
    assert whole > 0.99, f"only {whole:.3f} reach main"
    assert not any("pid" in s.labels for s in p.samples), "a pid label for one process"


def defaults_need_no_thought(work):
    done = record(BURN, "split", "300", cwd=work, check=0)
    files = glob.glob(f"{work}/*")
    assert len(files) == 1, files
    name = os.path.basename(files[0])
    assert name.startswith("burn.") and name.endswith(".cpu.pb.gz"), name
    assert f"next: fiberscope top {name}" in done.stderr, done.stderr
    p = Profile(files[0])
    close(p.period, 1e9 / 99, 1e6, "period")
    assert any("command:" in c and "split 300" in c for c in p.comments), p.comments


def go_reads_it(work):
    go = shutil.which("go")
    if not go:
        raise Skip("no go here")
    record(*HZ, "-o", "p.pb.gz", BURN, "split", "300", cwd=work, check=0)
    text = subprocess.run([go, "tool", "pprof", "-top", "-symbolize=none", "p.pb.gz"], cwd=work,
                          check=True, capture_output=True, text=True).stdout
    assert "alpha" in text and "Type: cpu" in text, text


def threads_are_told_apart(work):
    record(*HZ, "-o", "p.pb.gz", BURN, "threads", "4", "250", cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    for i in range(4):
        one = p.total(1, lambda s, i=i: s.labels.get("thread") == f"burner-{i}")
        close(one / 1e9, 0.25, 0.03, f"CPU seconds of burner-{i}")


def children_and_exec_are_followed(work):
    record(*HZ, "-o", "p.pb.gz", BURN, "tree", "300", cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    for name in ("alpha", "gamma_", "delta"):
        one = p.total(1, lambda s, name=name: name in s.stack)
        close(one / 1e9, 0.3, 0.04, f"CPU seconds of {name}")
    assert len({s.labels["pid"] for s in p.samples}) == 3, "three processes"


def one_file_per_process_when_asked(work):
    record(*HZ, "-o", "%p.pb.gz", BURN, "tree", "300", cwd=work, check=0)
    files = sorted(glob.glob(f"{work}/*.pb.gz"))
    assert len(files) == 3, files
    tops = sorted(max("alpha gamma_ delta".split(), key=Profile(f).share) for f in files)
    assert tops == ["alpha", "delta", "gamma_"], tops


def no_inherit_keeps_to_the_first_process(work):
    record(*HZ, "--no-inherit", "-o", "p.pb.gz", BURN, "tree", "200", cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    close(p.share("alpha"), 1.0, 0.02, "share of alpha")


def a_shell_pipeline_is_one_profile(work):
    record(*HZ, "-o", "p.pb.gz", "sh", "-c", f"{BURN} split 200 | cat; {BURN} delta 200", cwd=work,
           check=0)
    p = Profile(f"{work}/p.pb.gz")
    close(p.total(1, lambda s: "delta" in s.stack) / 1e9, 0.2, 0.04, "CPU seconds of delta")
    close(p.total(1, lambda s: "alpha" in s.stack) / 1e9, 0.14, 0.04, "CPU seconds of alpha")


def scripts_are_profiled(work):
    path = f"{work}/script.py"
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/usr/bin/python3\nsum(i * i for i in range(3000000))\n")
    os.chmod(path, 0o755)
    record(*HZ, "-o", "p.pb.gz", path, cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    assert p.total(0) > 50 and any("python3" in f for s in p.samples for f in s.files)


def exit_status_is_the_commands(work):
    for status in (0, 1, 42, 255):
        record("-o", "p.pb.gz", BURN, "exit", str(status), cwd=work, check=status)
    for signo in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT):
        record("-o", "p.pb.gz", BURN, "signal", str(int(signo)), cwd=work, check=128 + signo)
        Profile(f"{work}/p.pb.gz")
    done = record("-o", "q.pb.gz", "./no-such-program", cwd=work, check=127)
    assert "not found" in done.stderr, done.stderr
    open(f"{work}/plain", "w", encoding="utf-8").close()
    done = record("-o", "q.pb.gz", "./plain", cwd=work, check=126)
    assert "not executable" in done.stderr, done.stderr
    assert not os.path.exists(f"{work}/q.pb.gz")


def streams_pass_through(work):
    done = record("-o", "p.pb.gz", "cat", cwd=work, check=0, input="one\ntwo\n")
    assert done.stdout == "one\ntwo\n", done.stdout
    ignoring = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh"]
    status = record("-o", "p.pb.gz", "cat", "/proc/self/status", cwd=work, check=0, prefix=ignoring).stdout
    ignored = int(re.search(r"^SigIgn:\s+(\w+)$", status, re.M).group(1), 16)
    assert ignored & (3 | 1 << 24) == 3, f"signals ignored in the command: {ignored:x}"  # HUP, INT, not XFSZ
    fds = record("-o", "p.pb.gz", "ls", "/proc/self/fd", cwd=work, check=0).stdout.split()
    # ls has 0 to 2, the folder, and the agent's segment.
    assert len(fds) <= 5, f"descriptors in the command: {fds}"


def interrupted_while_it_runs(work):
    """(process of fiberscope, pid of the command), once the command says that it is ready."""
    p = subprocess.Popen([FIBERSCOPE, "record", *HZ, "-o", "p.pb.gz", BURN, "interrupt"], cwd=work,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         start_new_session=True)
    assert p.stdout.readline() == "ready\n"
    time.sleep(0.3)
    return p


def ctrl_c_keeps_the_data(work):
    p = interrupted_while_it_runs(work)
    os.killpg(p.pid, signal.SIGINT)  # as a terminal does: both get it
    _, err = p.communicate(timeout=20)
    assert p.returncode == 7, (p.returncode, err)
    q = Profile(f"{work}/p.pb.gz")
    close(q.total(1, lambda s: "beta" in s.stack) / 1e9, 0.1, 0.03, "the end of the program")
    assert q.total(1, lambda s: "alpha" in s.stack) > 0.02e9


def at_a_terminal(work, keys, *command):
    """Runs record on a terminal of its own, pressing Ctrl-C after each of `keys` seconds from the command's "ready" on."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work)
        os.execv(FIBERSCOPE, [FIBERSCOPE, "record", "-F", "999", "-o", "p.pb.gz", *command])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 4096)
    for seconds in keys:
        time.sleep(seconds)
        os.write(terminal, b"\x03")
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:  # EIO: the other end has closed
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def a_terminal_shows_progress_and_passes_ctrl_c(work):
    status, said = at_a_terminal(work, [1.6], BURN, "interrupt")
    assert status == 7 and "1 s, " in said and "next: fiberscope top" in said, (status, said)
    q = Profile(f"{work}/p.pb.gz")
    close(q.total(1, lambda s: "beta" in s.stack) / 1e9, 0.1, 0.03, "the end of the program")


def a_command_that_ignores_ctrl_c_goes_on(work):
    stubborn = ["sh", "-c", "trap '' INT; echo ready; sleep 2.5; exit 5"]
    status, said = at_a_terminal(work, [0.5], *stubborn)
    assert status == 5 and "goes on" in said, (status, said)
    status, said = at_a_terminal(work, [0.3, 1.6], *stubborn)  # once more: leave it alone
    assert status == 130 and "goes on" in said, (status, said)
    Profile(f"{work}/p.pb.gz")


def sigterm_is_passed_on(work):
    p = interrupted_while_it_runs(work)
    os.kill(p.pid, signal.SIGTERM)
    _, err = p.communicate(timeout=20)
    assert p.returncode == 7, (p.returncode, err)
    assert Profile(f"{work}/p.pb.gz").total() > 0.1e9


def duration_ends_the_recording_not_the_command(work):
    start = time.monotonic()
    done = record(*HZ, "--duration", "300ms", "-o", "p.pb.gz", BURN, "split", "900", cwd=work, check=0)
    assert re.search(r"the recording is over \(-d\); process \d+ \(\w+\) goes on", done.stderr), done.stderr
    assert time.monotonic() - start > 0.85, "the command was not waited for"
    recorded = Profile(f"{work}/p.pb.gz").total() / 1e9  # less where others have the CPUs too
    assert 0.05 < recorded < 0.35, f"{recorded} s recorded of 0.3 s"


def many_execs_at_a_high_rate(work):
    # Each exec meets signals under way; one that finds no handler would kill the new image.
    script = "for i in $(seq 40); do (exec sh -c 'exec sh -c \"exec true\"') || exit 1; done; echo whole"
    done = record("-F", "4999", "-o", "p.pb.gz", "bash", "-c", script, cwd=work, check=0)
    assert done.stdout == "whole\n", (done.stdout, done.stderr)
    assert Profile(f"{work}/p.pb.gz").total() > 0


def the_target_outlives_the_collector(work):
    page = f"{work}/page"
    p = subprocess.Popen([FIBERSCOPE, "record", *HZ, "-o", "p.pb.gz", BURN, "page", page], cwd=work,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    p.kill()
    p.wait()
    pid, before = read_page(page)
    time.sleep(0.5)
    _, after = read_page(page)
    os.kill(pid, signal.SIGKILL)
    assert after > before + 50e6, f"the target stopped: {before} {after}"
    assert not os.path.exists(f"{work}/p.pb.gz") and not leftovers(work), os.listdir(work)


def read_page(path):
    with open(path, "rb") as f:
        data = f.read(24)
    word = [int.from_bytes(data[i:i + 8], "little") for i in (0, 8, 16)]
    return word[0], word[1] + word[2]


def unloaded_libraries_keep_their_names(work):
    done = record(*HZ, "-o", "p.pb.gz", BURN, "plugins", TESTS, "libburn_one.so", "libburn_two.so",
                  "30", cwd=work, check=0)
    if int(done.stdout) < 10:
        raise Skip(f"the libraries lay at one address in {done.stdout.strip()} of 19 rounds only")
    p = Profile(f"{work}/p.pb.gz")
    close(p.share("burn_one"), 0.5, 0.05, "share of the first library")
    close(p.share("burn_two"), 0.5, 0.05, "share of the second library")


def libraries_that_go_with_another_keep_their_names(work):
    done = record(*HZ, "-o", "p.pb.gz", BURN, "plugins", TESTS, "libburn_with_one.so",
                  "libburn_with_two.so", "30", cwd=work, check=0)
    assert int(done.stdout) >= 10, f"at one address in {done.stdout.strip()} of 19 rounds only"
    p = Profile(f"{work}/p.pb.gz")
    close(p.share("burn_dep_one"), 0.5, 0.05, "share of the first library's dependency")
    close(p.share("burn_dep_two"), 0.5, 0.05, "share of the second library's dependency")


def a_full_disk_is_one_clear_error(work):
    done = on_a_disk_of("64k", work, f"head -c 65536 /dev/zero > filler 2>/dev/null; {FIBERSCOPE} record "
                        f"-F 999 -o p.pb.gz {BURN} split 200; echo status $?; ls -A")
    assert "No space left" in done.stderr, done.stderr
    assert "status 1" in done.stdout, done.stdout
    assert done.stdout.split("\n", 1)[1].split() == ["filler"], done.stdout
    kept = re.search(r"it is kept as ([^;\s]+)", done.stderr)[1]
    try:
        close(Profile(kept).total() / 1e9, 0.2, 0.03, "CPU seconds of what was kept")
    finally:
        shutil.rmtree(os.path.dirname(kept))


def a_full_disk_costs_a_trace_and_says_so(work):
    done = on_a_disk_of("64k", work, f"head -c 65536 /dev/zero > filler 2>/dev/null; {FIBERSCOPE} record "
                        "--trace -o t.trace sh -c 'true; exit 3'; echo status $?; ls -A")
    assert "t.trace: No space left on device: no trace was written" in done.stderr, done.stderr
    assert "ended with status 3" in done.stderr and done.stdout.split() == ["status", "1", "filler"], done.stdout


def a_file_size_limit_is_an_error_too(work):
    limit = "import resource,os,sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); " \
            "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(["/usr/bin/python3", "-c", limit, FIBERSCOPE, "record", "-o", "p.pb.gz",
                           BURN, "split", "100"], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "too large" in done.stderr, (done.returncode, done.stderr)
    assert os.listdir(work) == [], os.listdir(work)


def an_unwritable_folder_is_told_before_the_start(work):
    os.mkdir(f"{work}/locked", 0o555)
    prefix = NOBODY if os.geteuid() == 0 else []
    done = record("-o", "locked/p.pb.gz", "touch", "started", cwd=work, prefix=prefix)
    assert done.returncode == 1 and "Permission denied" in done.stderr, done.stderr
    assert not os.path.exists(f"{work}/started"), "the command was run for nothing"
    done = record("-o", "missing/p.pb.gz", "touch", "started", cwd=work)
    assert done.returncode == 1 and "No such file" in done.stderr, done.stderr
    open(f"{work}/file", "w", encoding="utf-8").close()
    for kind, name in (("--cpu", "file/"), ("--trace", "file/"), ("--cpu", "file/p.pb.gz"), ("--trace", "file/t.trace")):
        done = record(kind, "-o", name, "touch", "started", cwd=work)
        assert done.returncode == 1 and "is a file, not a folder" in done.stderr, (name, kind, done.stderr)
        assert "-o FILE" not in done.stderr and not os.path.exists(f"{work}/started"), done.stderr


def without_perf_events_the_rate_is_honest(work):
    no_perf = os.path.join(TESTS, "no_perf")
    done = record(*HZ, "-o", "p.pb.gz", BURN, "split", "1000", cwd=work, check=0, prefix=[no_perf])
    p = Profile(f"{work}/p.pb.gz")
    close(p.total() / 1e9, 1.0, 0.06, "CPU seconds")
    close(p.share("alpha"), 0.7, 0.06, "share of alpha")
    delivered = p.total(0) / (p.total() / 1e9)
    close(1e9 / p.period, delivered, delivered * 0.1, "rate that the period says")
    if delivered < 900:
        assert "instead of 999" in done.stderr, done.stderr


def an_ordinary_user_may_record(work):
    if os.geteuid() != 0:
        raise Skip("is one already: the other cases have shown it")
    record(*HZ, "-o", "p.pb.gz", BURN, "split", "500", cwd=work, check=0,
           prefix=[*NOBODY, "env", "HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent"])
    p = Profile(f"{work}/p.pb.gz")
    close(p.total() / 1e9, 0.5, 0.05, "CPU seconds")
    close(p.share("alpha"), 0.7, 0.05, "share of alpha")


def what_cannot_be_entered_is_said(work):
    program = f"{work}/secret"
    shutil.copy(BURN, program)
    os.chmod(program, 0o4755)  # setuid root
    if os.geteuid() == 0:
        done = record("-o", "p.pb.gz", program, "exit", "0", cwd=work, prefix=NOBODY, check=126)
        assert "setuid" in done.stderr and "as root" in done.stderr, done.stderr
    with open(f"{work}/bits32", "wb") as f:
        f.write(b"\x7fELF\x01\x01\x01" + bytes(57))
    os.chmod(f"{work}/bits32", 0o755)
    done = record("-o", "p.pb.gz", "./bits32", cwd=work, check=126)
    assert "32-bit" in done.stderr, done.stderr


def static_programs_are_watched_from_outside(work):
    static = os.path.join(TESTS, "burn_static")
    done = record(*HZ, "-o", "p.pb.gz", static, "split", "500", cwd=work, check=0)
    assert "statically linked" in done.stderr, done.stderr
    p = Profile(f"{work}/p.pb.gz")
    close(p.total() / 1e9, 0.5, 0.06, "CPU seconds")
    close(p.share("alpha"), 0.7, 0.06, "share of alpha")


def wall_time_is_recorded(work):
    os.mkdir(f"{work}/out")
    record("--cpu", "--wall=99", "-o", "out", "sleep", "0.5", cwd=work, check=0)
    wall = glob.glob(f"{work}/out/sleep.*.wall.pb.gz")
    assert len(wall) == 1 and len(os.listdir(f"{work}/out")) == 2, os.listdir(f"{work}/out")
    p = Profile(wall[0])
    assert p.sample_types[1] == ("wall", "nanoseconds"), p.sample_types
    close(p.total() / 1e9, 0.5, 0.12, "wall seconds")


if __name__ == "__main__":
    assert os.path.exists(FIBERSCOPE), f"no fiberscope in {BUILD}"
    main([shares_are_those_of_the_program, defaults_need_no_thought, go_reads_it,
          threads_are_told_apart, children_and_exec_are_followed, one_file_per_process_when_asked,
          no_inherit_keeps_to_the_first_process, a_shell_pipeline_is_one_profile,
          scripts_are_profiled, exit_status_is_the_commands, streams_pass_through,
          ctrl_c_keeps_the_data, a_terminal_shows_progress_and_passes_ctrl_c,
          a_command_that_ignores_ctrl_c_goes_on, sigterm_is_passed_on, duration_ends_the_recording_not_the_command,
          many_execs_at_a_high_rate, the_target_outlives_the_collector, unloaded_libraries_keep_their_names,
          libraries_that_go_with_another_keep_their_names,
          a_full_disk_is_one_clear_error, a_full_disk_costs_a_trace_and_says_so, a_file_size_limit_is_an_error_too,
          an_unwritable_folder_is_told_before_the_start, without_perf_events_the_rate_is_honest,
          an_ordinary_user_may_record, what_cannot_be_entered_is_said,
          static_programs_are_watched_from_outside, wall_time_is_recorded])
