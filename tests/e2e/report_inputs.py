#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Reports read what a program left behind by itself (raw dump, black box, core) as they read
profiles, say clearly what they cannot read, and keep to the width and colours of a terminal."""

import fcntl
import gzip
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
import time

from harness import BUILD, BURN, FIBERSCOPE, Skip, close, main, on_a_disk_of
from pprofile import encoded, field

AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
LONG = "a_function_whose_name_is_much_longer_than_any_terminal_has_room_for::" * 2


def run(work, *args):
    return subprocess.run([FIBERSCOPE, *args], cwd=work, capture_output=True, text=True,
                          timeout=60, check=False)


def shares(work, *args):
    """Cumulative percentages by function, out of `top --json`."""
    done = run(work, "top", "--json", *args)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    return {n["function"]: n["cum_percent"] for n in table["nodes"]}, table


def with_agent(work, settings, *command, **more):
    env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE=settings, **more)
    return subprocess.Popen(command, cwd=work, env=env)


def check_split(work, path):
    by_name, table = shares(work, path)
    close(by_name["alpha"], 70, 4, "share of alpha")
    close(by_name["beta"], 30, 4, "share of beta")
    close(table["total"] / 1e9, 0.6, 0.05, "CPU seconds")
    for verb in ("tree", "folded", "raw"):
        done = run(work, verb, path)
        assert done.returncode == 0 and "alpha" in done.stdout, (verb, done.stderr)
    done = run(work, "flame", "-o", "f.svg", path)
    assert done.returncode == 0, done.stderr
    with open(f"{work}/f.svg", encoding="utf-8") as f:
        assert "alpha" in f.read()


def a_raw_dump_is_an_input(work):
    assert with_agent(work, "cpu=999,quiet=1,out=x.dump", BURN, "split", "600").wait(60) == 0
    check_split(work, "x.dump")


def a_black_box_is_an_input(work):
    process = with_agent(work, "cpu=999,quiet=1,out=never", BURN, "split", "600",
                         FIBERSCOPE_SEGMENT=f"{work}/box")
    assert process.wait(60) == 0
    check_split(work, "box")


def a_core_is_an_input(work):
    gcore = shutil.which("gcore")
    if not gcore:
        raise Skip("no gcore here (package gdb)")
    p = with_agent(work, "cpu=999,quiet=1,out=never", BURN, "page", f"{work}/page")
    try:
        time.sleep(0.7)
        with open(f"/proc/{p.pid}/coredump_filter", "w", encoding="ascii") as f:
            f.write("0x3f")  # shared mappings, too
        done = subprocess.run([gcore, "-o", "core", str(p.pid)], cwd=work, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        p.kill()
        p.wait()
    by_name, _ = shares(work, f"core.{p.pid}")
    close(by_name["alpha"], 100, 2, "share of alpha")


def perf_text(path, stacks, event="cpu-clock"):
    """What `perf script` prints, one sample of one second per stack (root first)."""
    with open(path, "w", encoding="utf-8") as f:
        for i, stack in enumerate(stacks):
            f.write(f"app 1/1 {100 + i}.000000: 1000000000 {event}:\n")
            for name in reversed(stack):
                f.write(f"\t{0x400000 + 64 * sum(name.encode()):16x} {name}+0x1 (/bin/app)\n")
            f.write("\n")


def profile(path, kind, unit, value=None):
    """A profile.proto of one sample type and, with a value, one sample in the function f."""
    data = field(1, field(1, 1) + field(2, 2))
    if value is not None:
        data += field(2, field(1, encoded(1)) + field(2, encoded(value)))
        data += field(4, field(1, 1) + field(4, field(1, 1))) + field(5, field(1, 1) + field(2, 3))
    data += b"".join(field(6, s.encode()) for s in ("", kind, unit, "f"))
    with open(path, "wb") as f:
        f.write(gzip.compress(data))


def no_samples_is_an_empty_table(work):
    profile(f"{work}/none.pb.gz", "cpu", "nanoseconds")
    done = run(work, "top", "none.pb.gz")
    assert done.returncode == 0, done.stderr
    assert "flat" in done.stdout and "nan" not in done.stdout.lower(), done.stdout
    assert shares(work, "none.pb.gz")[0] == {}
    assert run(work, "tree", "none.pb.gz").returncode == 0
    done = run(work, "flame", "-o", "f.svg", "none.pb.gz")
    assert done.returncode == 1 and "nothing to draw" in done.stderr, done.stderr
    assert not os.path.exists(f"{work}/f.svg")


def without_file_and_profiles_there_is_advice(work):
    done = run(work, "top")
    assert done.returncode == 1 and done.stdout == "", done.stdout
    assert "no FILE given" in done.stderr and "fiberscope record" in done.stderr, done.stderr
    done = run(work, "top", "absent.pb.gz")
    assert done.returncode == 1 and "absent.pb.gz: No such file" in done.stderr, done.stderr


def files_of_one_kind_add_up_and_of_two_are_refused(work):
    profile(f"{work}/a.pb.gz", "cpu", "nanoseconds", 5)
    profile(f"{work}/b.pb.gz", "cpu", "nanoseconds", 7)
    profile(f"{work}/heap.pb.gz", "inuse_space", "bytes", 9)
    _, table = shares(work, "a.pb.gz", "b.pb.gz")
    assert table["total"] == 12, table["total"]
    done = run(work, "top", "a.pb.gz", "heap.pb.gz")
    assert done.returncode == 1 and done.stdout == "", done.stdout
    assert "cpu" in done.stderr and "inuse_space" in done.stderr, done.stderr


def mistakes_are_told_with_what_to_do(work):
    profile(f"{work}/p.pb.gz", "cpu", "nanoseconds", 5)
    with open(f"{work}/p.pb.gz", "rb") as f:
        start = f.read(20)
    for name, data in (("cut.pb.gz", start), ("empty", b""), ("myscript", b"#!/no/such/program\n")):
        with open(f"{work}/{name}", "wb") as f:
            f.write(data)
    os.chmod(f"{work}/myscript", 0o755)
    for args, status, says in (
            (["tpo"], 2, 'no command "tpo"; did you mean "top"?'),
            (["--verison"], 2, 'no option before the command "--verison"; did you mean "--version"?'),
            (["top", "."], 1, "Is a directory; name a profile in it"),
            (["top", "cut.pb.gz"], 1, "--salvage keeps what is whole"),
            (["top", "--salvage", "cut.pb.gz"], 0, "cut.pb.gz: no whole sample is in it"),
            (["flame", "-o", "no/f.svg", "p.pb.gz"], 1, "no/f.svg: cannot be written, its folder is not there"),
            (["finish", "empty"], 1, "empty: too short for a black box, a dump or a core file"),
            (["record", "myscript"], 127, "myscript: command not found in $PATH; ./myscript is in this folder"),
            (["record", "./myscript"], 127, "./myscript: its #! line names /no/such/program: No such file")):
        done = run(work, *args)
        assert done.returncode == status and says in done.stderr, (args, done.returncode, done.stderr)


def a_full_disk_is_called_that(work):
    source = os.path.join(os.path.dirname(work), os.path.basename(work) + ".txt")
    try:
        perf_text(source, [["main", f"function{i}"] for i in range(2000)])
        for verb in ("flame", "raw", "folded"):
            done = on_a_disk_of("4k", work, f"{FIBERSCOPE} {verb} -o out {source}; echo status $?; ls -A")
            assert done.stdout == "status 1\n", (verb, done.stdout)
            assert "out: No space left on device" in done.stderr, (verb, done.stderr)
    finally:
        os.unlink(source)


def on_terminal(work, columns, *args, **env):
    """What the command writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    settings = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    settings.update({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}, **env)
    with subprocess.Popen([FIBERSCOPE, *args], cwd=work, env=settings, stdout=slave,
                          stderr=subprocess.PIPE) as p:
        os.close(slave)
        text = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            text += more
        said = p.stderr.read()
        assert p.wait(30) == 0, said
    os.close(master)
    return text.decode().replace("\r\n", "\n")


def stacks_with_long_names(work):
    deep = [["main", LONG + "one", LONG + "two"]] * 40 + [["main", "parse"]] * 9 + [["main"]]
    perf_text(f"{work}/p.txt", deep)


def tables_fit_a_terminal(work):
    stacks_with_long_names(work)
    for columns in (60, 80, 100, 160):
        for verb in ("top", "tree"):
            text = re.sub("\033\\[[0-9;]*m", "", on_terminal(work, columns, verb, "p.txt"))
            rows = [r for r in text[text.index("flat%"):].splitlines() if "%" in r]
            for row in rows:
                assert len(row) <= columns, f"{verb}: {len(row)} of {columns} columns: {row}"
            cut = [r for r in rows if "…" in r]
            assert len(cut) >= 2, text
            assert any("one" in r for r in cut), "the end of a name tells it from its neighbours"
            if verb == "top":  # numbers stay in their columns
                assert len({r.index("%") for r in rows[1:]}) == 1, text
                assert len(cut[0]) == columns, f"{len(cut[0])} of {columns} columns used: {cut[0]}"


def colour_is_for_terminals_only(work):
    stacks_with_long_names(work)
    for verb in ("top", "tree"):
        assert "\033[" in on_terminal(work, 80, verb, "p.txt")
        assert "\033" not in on_terminal(work, 80, verb, "p.txt", NO_COLOR="1")
        assert "\033" not in on_terminal(work, 80, verb, "p.txt", TERM="dumb")
        done = run(work, verb, "p.txt")
        assert "\033" not in done.stdout and LONG + "two" in done.stdout, "names cut in a pipe"


if __name__ == "__main__":
    main([a_raw_dump_is_an_input, a_black_box_is_an_input, a_core_is_an_input,
          no_samples_is_an_empty_table, without_file_and_profiles_there_is_advice,
          files_of_one_kind_add_up_and_of_two_are_refused, mistakes_are_told_with_what_to_do,
          a_full_disk_is_called_that, tables_fit_a_terminal, colour_is_for_terminals_only])
