#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope trace in the hands of a hurried user: whatever is wrong with the file, the options or the place to
write to is said in a sentence that is true and says what to do; nothing is lost, and no empty answer is a success."""

import gzip
import json
import os
import re
import shutil
import subprocess

import made_trace
from harness import FIBERSCOPE, NOBODY, Skip, leftovers, main, on_a_disk_of

GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")


def run(*args, cwd=None, status=None, **more):
    done = subprocess.run([FIBERSCOPE, *args], cwd=cwd, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode in (0, 1, 2), f"{args}: {done.returncode}: {done.stderr}"
    if status is not None:
        assert done.returncode == status, f"{args}: {done.returncode}, not {status}: {done.stdout}{done.stderr}"
    return done


def said(*args, status=1, cwd=None, **more):
    """The message of a command that fails; it has one, and prints no report."""
    done = run("trace", *args, cwd=cwd, status=status, **more)
    assert not done.stdout and done.stderr, (args, done)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Try `")]
    assert len(lines) == 1, done.stderr
    return lines[0]


# --- A trace made here: what a batch is and where it ends is known without the reader.

def leb(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def batch(generation, data, thread=1):
    return b"\x01" + leb(generation) + leb(thread) + leb(1000 * generation) + leb(len(data)) + data


def string(number, text):
    return b"\x05" + leb(number) + leb(len(text)) + text


def made(order, version=23, generations=2):
    """(bytes, [(begin, end of the header, end, kind)]) of a trace whose generations have the batches named."""
    parts = {"events": lambda g: batch(g, b"\x0d" + leb(1) + leb(7) + leb(2)),
             "strings": lambda g: batch(g, b"\x04" + string(1, b"one") + string(2, b"two" * 20)),
             "clock": lambda g: batch(g, b"\x08" + leb(15625000)) if version < 25 else
             batch(g, b"\x32\x08" + leb(15625000) + b"\x33" + leb(1) + leb(5) + leb(6) + leb(7))}
    data, places = b"go 1.%d trace\0\0\0" % version, []
    for g in range(1, generations + 1):
        for name in order:
            b = parts[name](g)
            size_at = len(b"\x01" + leb(g) + leb(1) + leb(1000 * g))
            places.append((len(data), len(data) + size_at + 1, len(data) + len(b), name, g))
            data += b
        data += b"\x34" if version >= 26 else b""
    return data, places


def wrote(folder, name, data):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def cuts_of(data, places, version, folder):
    for n in range(len(data)):
        text = run("trace", "events", "-o", "/dev/null", wrote(folder, "cut", data[:n])).stderr
        ends = [p[2] for p in places]
        inside = [p for p in places if p[0] < n < p[2]]
        if n < 16:
            assert "empty file" in text if n == 0 else f"ends at byte {n}, inside its header" in text, text
        elif inside:
            begin, header, end, kind, generation = inside[0]
            assert f"byte {n}: " in text and f"that begins at byte {begin}" in text, (n, text)
            if n < header:
                assert "inside the header of a batch" in text, (n, text)
            else:
                kind = "unknown kind" if n == header else {"clock": "the clock"}.get(kind, kind)
                assert f"generation {generation}: " in text, (n, text)
                assert f"inside a batch of {kind} that begins" in text and f"on to byte {end} " in text, (n, text)
            # Before 1.26 only the next batch says that a generation was the last.
            open_end = version < 26 and n < header and inside[0] == places[len(places) // 2]
            assert ("--salvage reads what there is of this generation" if open_end else
                    "nothing to salvage" if generation == 1 else
                    "--salvage reads the 1 whole generation before it)") in text, (n, text)
        elif n == 16:
            assert "nothing was recorded" in text, text
        elif n == (ends[2] if version < 26 else ends[2] + 1):
            assert not text, (n, text)  # one generation and no more is a trace
        else:
            assert f"byte {n}: the file ends here, behind a batch, but before the " in text, (n, text)


def every_truncation_says_where_the_file_ends(work):
    for version in (23, 26):
        data, places = made(["events", "strings", "clock"], version)
        run("trace", "validate", wrote(work, "whole", data), status=0)
        cuts_of(data, places, version, work)
    # Behind a clock the generation makes sense without its strings, and is given before the error comes.
    data, places = made(["clock", "events", "strings"])
    cut = wrote(work, "cut", data[:-5])
    assert "--salvage reads the 1 whole generation before it and what there is of this one" in said(cut)
    kept = json.loads(run("trace", "--json", "validate", "--salvage", cut, status=1).stdout)
    assert kept["generations"] == 2 and kept["rule"] == "truncated" and kept["offset"] == len(cut_bytes(cut))


def cut_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def salvage_keeps_all_generations_before_a_bad_first_event(work):
    data, places = made(["events", "strings", "clock"], generations=3)
    bad = bytearray(data)
    bad[places[6][1]] = 0x7f  # the first event of generation 3
    path = wrote(work, "bad", bytes(bad))
    kept = json.loads(run("trace", "--json", "validate", "--salvage", path, status=1).stdout)
    assert kept["generations"] == 2 and kept["rule"] == "event" and kept["offset"] == places[6][1], kept
    assert "--salvage reads the 2 whole generations before it)" in said("events", "-o", "/dev/null", path)


def v1_says_where_it_ends_and_says_it_once(work):
    if not GO:
        raise Skip("no Go here")
    root = subprocess.run([GO, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    source = os.path.join(root, "src/internal/trace/internal/tracev1/testdata/user_task_region_1_19_good")
    with open(source, "rb") as f:
        data = f.read()
    for n in range(16, len(data), 11):
        done = run("trace", "events", "-o", "/dev/null", wrote(work, "cut", data[:n]))
        text = done.stderr
        if done.returncode == 0:  # all that is missing is stacks that no event names
            assert n > 0.8 * len(data) and not text, (n, text)
            continue
        assert f"byte {n}" in text and "the file ends" in text and "as a whole" in text, (n, text)
        assert re.search(r"inside a \w+ that begins at byte \d+|frequency|maybe too early|nothing was", text), text
    done = run("trace", "validate", wrote(work, "cut", data[:700]), status=1)
    assert (done.stdout + done.stderr).count("the file ends here") == 1 and not done.stderr, done
    assert "cannot be cut" in said("cut", "-o", os.path.join(work, "part"), source)


# --- Files that are something else.

def other_files_are_named(work):
    trace, _ = made(["events", "strings", "clock"])
    for data, words in (
            (b"", "empty file"), (b"FIBESEG1" + bytes(100), "fiberscope finish PATH`"),
            (b"FIBDUMP1" + bytes(100), "fiberscope finish PATH`"), (b"PERFILE2" + bytes(100), "perf script -i PATH >out`"),
            (b'{"traceEvents":[]}  ', "ui.perfetto.dev"), (b"[{}]" + b" " * 20, "ui.perfetto.dev"),
            (gzip.compress(trace), "gunzip"), (gzip.compress(b"\x0a\x04abcd" * 9), "fiberscope top PATH`"),
            (gzip.compress(b"words\n" * 9), "no trace inside"), (b"\x28\xb5\x2f\xfd" + bytes(20), "unzstd PATH`"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "browser"), (bytes(64), 'begin with "go 1.NN trace"'),
            (b"404 page not found\n", 'begins with "404 page not found"'),
            (b"go 1.99 trace\0\0\0", "the versions that are read")):
        path = wrote(work, "an other", data)  # commands to copy have its name, as a shell reads it
        assert words.replace("PATH", f"'{path}'") in said(path), (words, said(path))
        words = words.replace("PATH", "-")
        with open(path, "rb") as f:  # a pipe cannot be looked at twice
            assert words in said("-", stdin=f)
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as pipe:
            assert words in said("validate", "-", stdin=pipe.stdout)
    core = bytearray(b"\x7fELF\x02\x01\x01" + bytes(57))
    core[16] = 4
    assert "core file: `fiberscope finish" in said(wrote(work, "core", bytes(core)))
    assert "fiberscope record --trace" in said(FIBERSCOPE)
    assert "a folder" in said(work)
    assert "no such file" in said("sync", os.path.join(work, "nothing"))
    path = wrote(work, "trace", trace)
    for verb in ("top", "flame", "leaks", "finish"):  # nor is a trace anything else
        assert "an execution trace" in run(verb, path, status=1).stderr, verb
    for verb, status in (("waits", 2), ("stack", 1)):
        assert f"`fiberscope trace {path}`" in run(verb, path, status=status).stderr, verb
    for kind in ("--cpu", "--trace", "--heap", "--method=agent"):  # nor is advice given where no process is
        done = run("record", kind, "-p", "4194305", status=1)
        assert "no process 4194305" in done.stderr and "inject" not in done.stderr, done.stderr
    if os.geteuid() == 0:
        os.chmod(wrote(work, "private", trace), 0o600)
        done = subprocess.run([*NOBODY, FIBERSCOPE, "trace", os.path.join(work, "private")], capture_output=True,
                              text=True)
        assert done.returncode == 1 and "you may not read it" in done.stderr, done


# --- Questions that have no answer.

def what_is_not_there_is_an_error(work):
    path = wrote(work, "small", made(["events", "strings", "clock"])[0])
    part = os.path.join(work, "part")
    assert "no fibers" in said("events", "--fiber", "999999", path)
    assert "no fiber 999999" in said("cut", "--fiber", "999999", "-o", part, path)
    assert "no fiber 7 in it" in said("fiber", "7", path)
    assert f"(`fiberscope trace fibers --name '' {path}` lists them)" in said("fiber", "7", path)
    assert "no such event" in said("events", "--kind=Log", path)
    for name in ("fibers", "wakes", "tasks", "regions"):
        assert '"NOSUCH"' in said(name, "--name", "NOSUCH", path)
        assert '"NOSUCH"' in said("--json", name, "--name", "NOSUCH", path)
    for report in ("summary", "fibers", "procs", "util", "wakes", "lints", "sched", "sync", "syscall", "net", "tasks",
                   "regions", "critical", "events"):
        assert "--from is behind the end: the trace lasts " in said(report, "--from=1h", path), report
    for report in ("cut", "export"):
        assert "--from is behind the end" in said(report, "--from=1h", "-o", part, path)
    assert not os.path.exists(part) and not leftovers(work)


def mistakes_say_what_to_do(work):
    path = wrote(work, "small", made(["events", "strings", "clock"])[0])
    for args, words in ((["summry"], 'the report "summary"'), (["summry", path], 'did you mean "summary"'),
                        ([path, "fibers"], f"the report comes first: fiberscope trace fibers {path}"),
                        ([path, path], "one trace FILE"), (["fibers"], "FILE is needed"), ([], "FILE is needed"),
                        (["fiber", path], "a number"), (["--regoin=x", path], "did you mean --region"),
                        (["fibers", "--region=x", path], "these have: critical, explain"),
                        (["cut", "--json", "-o", "x", path], "these have: summary,"),
                        (["fibers", "-o", "x.pb.gz", path], "these can: sched, sync"),
                        (["cut", path], "-o FILE is needed"), (["events", "--kind=x", path], "there are")):
        assert words in said(*args, status=2, cwd=work), args
    assert os.listdir(work) == ["small"]
    help_said = run("trace", "--help", status=0).stdout
    assert help_said.startswith("Usage: fiberscope trace ") and run("trace", "help", cwd=work, status=0).stdout == help_said


# --- Output.

def no_command_replaces_what_it_reads(work):
    data = made(["events", "strings", "clock"])[0]
    path, link, hard = wrote(work, "small", data), os.path.join(work, "link"), os.path.join(work, "hard")
    os.symlink("small", link)
    os.link(path, hard)
    for args in (["cut"], ["export"], ["export", "--format=folded"], ["export", "--format=pprof"], ["summary"],
                 ["events"], ["sync"], ["validate"], ["util"], ["--salvage", "procs"]):
        for name in (path, link, hard):
            assert "is read by this command" in said(*args, "-o", name, path), args
            assert cut_bytes(path) == data
    with open(path, "ab") as out:
        done = subprocess.run([FIBERSCOPE, "trace", "events", path], stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "this file, too" in done.stderr
    with open(path, "rb") as stdin:
        assert "is read by" in said("cut", "-o", path, "-", stdin=stdin)
    assert cut_bytes(path) == data and not leftovers(work)
    profile = os.path.join(work, "p.pb.gz")
    before = gzip.compress(b"".join(key + leb(len(value)) + value for key, value in (
        (b"\x0a", b"\x08\x01\x10\x02"), (b"\x12", b"\x0a\x01\x01\x12\x01\x05"), (b"\x22", b"\x08\x01\x22\x02\x08\x01"),
        (b"\x2a", b"\x08\x01\x10\x03"), (b"\x32", b""), (b"\x32", b"inuse_space"), (b"\x32", b"bytes"), (b"\x32", b"f"))))
    wrote(work, "p.pb.gz", before)
    for verb in (["top"], ["tree"], ["raw"], ["folded"], ["flame"], ["flame", "-diff_base", profile],
                 ["leaks", profile]):
        done = run(*verb, "-o", profile, profile, status=1)
        assert "is read by this command" in done.stderr, (verb, done)
        assert cut_bytes(profile) == before, verb


def a_full_disk_leaves_nothing(work):
    if not GO:
        raise Skip("no Go here")
    source = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "conformance", "trace_waiting.go")
    path = os.path.join(work, "tasks")
    disk = os.path.join(work, "disk")
    os.mkdir(disk)
    subprocess.run([GO, "run", source, "tasks", path], check=True, timeout=100)
    for args in ("cut", "export", "export --format=perfetto", "events", "util --json", "fibers --json --name ''"):
        done = on_a_disk_of("16k", disk, f"{FIBERSCOPE} trace {args} -o part {path}; echo $?; ls -A")
        assert done.stdout == "1\n" and "No space left" in done.stderr, (args, done)
        with open("/dev/full", "wb") as full:
            where = ["-o", "-"] if args.startswith(("cut", "export")) else []
            to_full = subprocess.run([FIBERSCOPE, "trace", *args.replace("''", "").split(), *where, path],
                                     stdout=full, stderr=subprocess.PIPE, text=True)
        assert to_full.returncode == 1 or "fibers" in args, (args, to_full)
        done = subprocess.run(f"{FIBERSCOPE} trace {args} {' '.join(where)} {path} | head -c 20", shell=True,
                              capture_output=True, timeout=60)
        assert not done.stderr, (args, done)


def what_does_not_fit_into_memory_says_how_it_would(work):
    """20,000 goroutines that were made, ran and wait."""
    data, batches = b"\x0d" + leb(1) + leb(1) + leb(1), b""
    for g in range(1, 20001):
        data += b"\x0e\x01" + leb(g) + b"\0\0" + b"\x10\x01" + leb(g) + b"\1" + b"\x14\x01\0\0"
        if len(data) > 60000 or g == 20000:
            batches, data = batches + batch(1, data), b""
    path = wrote(work, "many", b"go 1.23 trace\0\0\0" + batches + batch(1, b"\x08" + leb(15625000)))
    run("trace", "summary", path, status=0)
    text = said("--memory=1MiB", path)
    assert "needs more than 1048576 bytes of memory (--memory=SIZE permits more)" in text, text
    text = said("--memory=8MiB", path)
    assert re.search(r"up to byte \d+ of it, where 1\d{4} fibers live, [78]\.\d MiB .*--memory=SIZE permits more", text), text
    run("trace", "summary", "--memory=64MiB", path, status=0)
    text = said("--memory=1KiB", path)
    assert "more lives at one time than 1024 bytes of memory can hold (--memory=SIZE permits more)" in text, text
    # That it does not fit says nothing of whether it is valid.
    assert said("validate", "--memory=1MiB", path) == said("summary", "--memory=1MiB", path)
    assert "not valid" not in said("validate", "--memory=1MiB", path)
    assert "--memory: 0 is no size" in said("--memory=0", path, status=2)


def a_name_talks_to_no_terminal(work):
    """Names of functions, regions, tasks and reasons, in every report on a trace and on the profile made of it; a
    name of 1,000 characters is cut in a table. JSON has them as they are."""
    ms = 1000000
    path, profile = os.path.join(work, "n.trace"), os.path.join(work, "n.pb.gz")
    names = [f"{word}\x1b[2J\r\nb\u009bc\u2028d\x7f" for word in ("main", "job", "region", "sync")]
    main, job, region, reason = names
    g = made_trace.Generation(1)
    g.say(ms, made_trace.PROC_STATUS, 0, 1)
    g.say(ms, made_trace.GO_STATUS_STACK, 1, made_trace.THREAD, made_trace.RUNNING, g.stack("main"))
    where = g.stack("f" * 1000, (main, 7, 7))
    g.say(2 * ms, made_trace.TASK_BEGIN, 1, 0, g.text(job), 0)
    g.say(2 * ms, made_trace.REGION_BEGIN, 1, g.text(region), 0)
    g.say(3 * ms, made_trace.GO_CREATE, 2, g.stack((main, 7, 7)), where)
    g.block(4 * ms, reason, where)
    g.start(5 * ms, 2)
    g.wake(9 * ms, 1)
    g.block(9 * ms, reason, where)
    g.start(9 * ms, 1)
    g.say(10 * ms, made_trace.REGION_END, 1, g.text(region), 0)
    g.say(10 * ms, made_trace.TASK_END, 1, 0)
    made_trace.write(path, [g, made_trace.Generation(2, begins=11 * ms)])
    run("trace", "sync", "-o", profile, path, status=0)
    assert "is a profile, --json is not" in run("trace", "sync", "--json", "-o", profile, path, status=2).stderr
    reports = [["trace", *r] for r in (["summary"], ["fibers"], ["fibers", "--name", ""], ["fiber", "1"], ["wakes"], ["lints"],
               ["sync"], ["sched"], ["tasks"], ["regions"], ["critical"], ["events"])]
    for args in reports + [["top"], ["tree"], ["peek", "main"], ["raw"]]:
        file = path if args[0] == "trace" else profile
        said = subprocess.run([FIBERSCOPE, *args, file], capture_output=True, timeout=60)
        text = said.stdout.decode()
        assert said.returncode == 0 and text, (args, said)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", text.replace("\t", " ")), (args, text)
        if args[0] == "trace" and args[1] != "events":
            assert max(map(len, text.splitlines())) < 400, (args, text)
    assert '"region?[2J?\nb??c???d?" half' in run("trace", "explain", "--region", region, path, status=1).stderr
    assert "main?[2J??b?c?d?" in run("trace", path).stdout and "f\u2026f" in run("trace", "sync", path).stdout
    got = json.loads(run("trace", "--json", path).stdout)
    assert [got["regions"][0]["name"], got["tasks"][0]["name"]] == [region, job], got
    assert main in [f["function"] for f in got["functions"]], got["functions"]


if __name__ == "__main__":
    main([every_truncation_says_where_the_file_ends, salvage_keeps_all_generations_before_a_bad_first_event,
          v1_says_where_it_ends_and_says_it_once, other_files_are_named, what_is_not_there_is_an_error,
          mistakes_say_what_to_do, no_command_replaces_what_it_reads, a_full_disk_leaves_nothing,
          what_does_not_fit_into_memory_says_how_it_would, a_name_talks_to_no_terminal])
