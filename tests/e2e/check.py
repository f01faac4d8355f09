#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The gate: exit status 0 where nothing grew, 1 with the place where something did, 2 where it
cannot tell; the example in examples/ci/ does what it says; every output form can be read back."""

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree

import pprofwrite as write
from harness import FIBERSCOPE, TESTS, Profile, Skip, main

SOURCE = os.environ["FSCOPE_SOURCE"]
EXAMPLE = os.path.join(SOURCE, "examples", "ci")
TRACE = os.path.join(TESTS, "alloc_trace.so")


def run(work, *args, status=None, **more):
    done = subprocess.run([FIBERSCOPE, *args], cwd=work, capture_output=True, text=True,
                          timeout=60, check=False, **more)
    if status is not None:
        assert done.returncode == status, \
            f"status {done.returncode}, not {status}: {done.stdout}{done.stderr}"
    return done


def check(work, *args, status):
    return run(work, "check", *args, status=status)


def result(work, *args, status):
    return json.loads(check(work, "--format=json", *args, status=status).stdout)


def can_record_exact():
    done = run("/", "record", "--help")
    return "--heap" in done.stdout and not os.environ.get("FSCOPE_SANITIZE")


# --- The example.

def build_example(work, name, patch=None):
    folder = os.path.join(work, name)
    os.mkdir(folder)
    shutil.copy(os.path.join(EXAMPLE, "words.c"), folder)
    if patch:
        subprocess.run(["git", "apply", os.path.join(EXAMPLE, patch)], cwd=folder, check=True,
                       env=dict(os.environ, GIT_CEILING_DIRECTORIES=work))
    program = os.path.join(folder, "words")
    subprocess.run([os.environ.get("FSCOPE_CC", "cc"), "-O1", "-g", "-fno-optimize-sibling-calls",
                    "words.c", "-o", program], cwd=folder, check=True)
    return program


def line_of(folder, text):
    with open(os.path.join(folder, "words.c"), encoding="utf-8") as f:
        return next(i for i, line in enumerate(f, 1) if text in line)


def example(work, patch, status, trace):
    """The gate's JSON and Markdown for a patch; profiles by the tracer or by `record`."""
    before, after = build_example(work, "before"), build_example(work, "after", patch)
    report = ["--format=json=r.json", "--format=markdown=r.md", "--root", f"{work}/after"]
    if trace:
        write.traced(f"{work}/before.pb.gz", TRACE, before)
        write.traced(f"{work}/after.pb.gz", TRACE, after)
        run(work, "baseline", "update", "--ops", "1000", "before.pb.gz", status=0)
        check(work, "--ops", "1000", *report, "after.pb.gz", status=status)
    else:
        run(work, "baseline", "update", "--ops", "1000", "--", before, status=0)
        check(work, "--ops", "1000", *report, "--", after, status=status)
    with open(f"{work}/r.json", encoding="utf-8") as f, open(f"{work}/r.md", encoding="utf-8") as m:
        return json.load(f), m.read()


def one_more(work, trace):
    judged, markdown = example(work, "one-more-allocation.patch", 1, trace)
    line = line_of(f"{work}/after", "malloc(64)")
    assert len(judged["rules"]) == 1 and judged["rules"][0]["path_count"] == 1, judged
    path = judged["rules"][0]["paths"][0]
    assert path["function"] == "process_line" and path["line"] == line, path
    assert path["now"] - path["base"] == 1000 and path["per_op"] == 1, path
    for word in ("process_line", f"words.c:{line}", "+1 alloc/op", "<svg", "❌ regression"):
        assert word in markdown, f"no {word} in {markdown}"


def moved(work, trace):
    judged, markdown = example(work, "moved-and-inlined.patch", 0, trace)
    rule = judged["rules"][0]
    assert rule["verdict"] == "ok" and rule["path_count"] == 0, rule
    # There was something to compare: a line and four words, a thousand times.
    assert rule["base"] >= 5000 and rule["base"] == rule["now"], rule
    assert "✅ ok" in markdown and "<svg" not in markdown, markdown


def need_tracer():
    if not os.path.exists(TRACE):
        raise Skip("alloc_trace is not built")
    if not shutil.which("addr2line"):
        raise Skip("no addr2line here (package binutils)")


def one_more_allocation_is_refused(work):
    need_tracer()
    one_more(work, True)


def moved_and_inlined_code_passes(work):
    need_tracer()
    moved(work, True)


def recorded_one_more_allocation_is_refused(work):
    one_more(work, False)


def recorded_moved_and_inlined_code_passes(work):
    moved(work, False)


# --- Verdicts.

def counts_are_compared_path_by_path(work):
    base = {"main;parse:10;token:20": 100, "main;load:5": 50}
    write.exact(f"{work}/a.pb.gz", base)
    write.exact(f"{work}/same.pb.gz", {"main;parse:11;token:99": 100, "main;load:7": 51})
    write.exact(f"{work}/more.pb.gz", {"main;parse:11;token:99": 100, "main;load:7": 52})
    check(work, "-b", "a.pb.gz", "same.pb.gz", status=0)
    bad = result(work, "-b", "a.pb.gz", "more.pb.gz", status=1)
    path = bad["rules"][0]["paths"][0]
    assert (path["function"], path["file"], path["line"]) == ("load", "src/load.c", 7), path
    assert (path["base"], path["now"], path["state"]) == (50, 52, "same"), path
    # What another path saved does not pay for it.
    write.exact(f"{work}/swap.pb.gz", {"main;parse:11;token:99": 10, "main;load:7": 60})
    check(work, "-b", "a.pb.gz", "swap.pb.gz", status=1)
    # Together they may.
    check(work, "-b", "a.pb.gz", "swap.pb.gz", "--rule", "alloc_objects > +0%", status=0)


def renamed_functions_are_said_and_not_refused(work):
    write.exact(f"{work}/a.pb.gz", {"main;parse;token": 100, "main;parse": 7})
    write.exact(f"{work}/b.pb.gz", {"main;read_all;token": 100, "main;read_all": 7})
    got = result(work, "-b", "a.pb.gz", "b.pb.gz", status=0)
    assert got["notes"] == ["parse was renamed to read_all"], got["notes"]
    got = check(work, "-b", "a.pb.gz", "b.pb.gz", status=0)
    assert "parse was renamed to read_all" in got.stdout, got.stdout


def runs_that_differ_do_not_count_as_growth(work):
    for side, counts in (("a", (100, 105, 103)), ("b", (104, 101, 105)), ("c", (107, 108, 109))):
        os.mkdir(f"{work}/{side}")
        for i, n in enumerate(counts):
            write.exact(f"{work}/{side}/{i}.pb.gz", {"main;work": n})
    check(work, "-b", "a", "b", status=0)
    check(work, "-b", "a", "c", status=1)


def rules_say_what_must_hold(work):
    samples = [(write.frames("main;hot;parse_x"), [5, 50, 0, 5, 50, 1, 10], {"request": "/hot"}),
               (write.frames("main;cold"), [7, 70, 0, 7, 70, 2, 65536], {"request": "/cold"})]
    write.write(f"{work}/h.pb.gz", write.EXACT, samples)
    for rule, status in (
            ("alloc_objects == 0 in func matching ^parse_", 1),
            ("alloc_objects == 0 in func matching ^format_", 0),
            ("alloc_objects <= 5 in label request=/hot", 0),
            ("alloc_objects < 5 in label request=/h*", 1),
            ("alloc_objects == 0 in file matching cold.c", 1),
            ("inuse_space <= 64KiB", 1), ("inuse_space <= 65KiB", 0),
            ("leaks <= 3", 0), ("leaks == 0", 1),
            ("alloc_objects share <= 40% in func hot", 1),
            ("alloc_objects share <= 42% in func hot", 0),
            ("alloc_objects > +5 in each func matching parse", 0),
            ("alloc_objects > +100% in each func", 0)):
        check(work, "-b", "h.pb.gz", "--rule", rule, "h.pb.gz", status=status)
    # Of a share, the paths' values are percent too: 5 of 12, of which one path has all.
    bad = result(work, "-b", "h.pb.gz", "--rule", "alloc_objects share <= 40% in func hot", "h.pb.gz",
                 status=1)
    place, = bad["rules"][0]["paths"]
    assert abs(place["now"] - 500 / 12) < 0.01 and abs(place["base"] - 500 / 12) < 0.01, place
    # A rule about a kind that is not there says so in words that can be read.
    said = check(work, "-b", "h.pb.gz", "--rule", "cpu > +5%", "h.pb.gz", status=2).stdout
    assert "there is no cpu profile here" in said, said
    with open(f"{work}/.fiberscope-rules", "w", encoding="utf-8") as f:
        f.write("# of this project\nleaks == 0 in func cold\n")
    bad = result(work, "-b", "h.pb.gz", "h.pb.gz", status=1)
    assert bad["rules"][0]["paths"][0]["function"] == "cold", bad
    assert bad["rules"][0]["source"] == ".fiberscope-rules" and bad["rules"][0]["line"] == 2, bad


def growth_per_operation(work):
    write.exact(f"{work}/a.pb.gz", {"main;work": 1000}, comments=["ops=100"])
    write.exact(f"{work}/b.pb.gz", {"main;work": 2000}, comments=["ops=200"])
    check(work, "-b", "a.pb.gz", "b.pb.gz", status=1)
    rule = ["--rule", "alloc_objects > +0.5 in each path per benchmark op"]
    check(work, "-b", "a.pb.gz", *rule, "b.pb.gz", status=0)
    got = result(work, "-b", "a.pb.gz", *rule, "--ops", "100", "b.pb.gz", status=1)
    assert got["rules"][0]["paths"][0]["per_op"] == 10, got
    write.exact(f"{work}/c.pb.gz", {"main;work": 2000})
    said = check(work, "-b", "a.pb.gz", *rule, "c.pb.gz", status=2)
    assert "--ops" in said.stdout, said.stdout


def cpu(path, values, period=1000000):
    os.mkdir(path)
    for i, ms in enumerate(values):
        stack = write.frames("main;spin")
        write.write(f"{path}/{i}.cpu.pb.gz", write.CPU, [(stack, [ms, ms * 1000000], {})],
                    period=period, period_type=("cpu", "nanoseconds"))


def timings_are_tested_over_runs(work):
    cpu(f"{work}/base", [100, 103, 99, 101, 104])
    cpu(f"{work}/noise", [102, 98, 104, 101, 100])
    cpu(f"{work}/slow", [120, 118, 125, 119, 122])
    cpu(f"{work}/one", [500])
    good = result(work, "-b", "base", "noise", status=0)
    assert 0.05 < good["rules"][0]["p"] <= 1, good
    bad = result(work, "-b", "base", "slow", status=1)
    assert abs(bad["rules"][0]["p"] - 1 / 252) < 1e-9, bad  # all above: 1 of C(10, 5)
    assert bad["rules"][0]["paths"][0]["function"] == "spin", bad
    cpu(f"{work}/rate", [102, 98, 104, 101, 100], period=10000000)
    assert "different rates" in check(work, "-b", "base", "rate", status=0).stdout
    # Up to +30 % is allowed by this one.
    check(work, "-b", "base", "--rule", "cpu > +30%", "slow", status=0)
    # One run can show nothing, however slow, and the error says how many can.
    said = check(work, "-b", "base", "one", status=2).stdout
    assert "record 3 of each" in said, said
    said = check(work, "-b", "base", "--confidence", "99.9", "slow", status=2).stdout
    assert "record 7 of each" in said, said
    check(work, "-b", "base", "--rule", "cpu share <= 50% in func spin", "slow", status=1)
    check(work, "-b", "base", "--rule", "cpu <= 130ms", "slow", status=0)


def what_it_cannot_tell(work):
    write.exact(f"{work}/a.pb.gz", {"main;work": 10})
    write.write(f"{work}/sampled.pb.gz", write.HEAP,
                [(write.frames("main;work"), [10, 160, 0, 0], {})], period=524288)
    cpu(f"{work}/cpu", [100])
    os.mkdir(f"{work}/empty")
    with open(f"{work}/broken.pb.gz", "wb") as f:
        f.write(b"\x1f\x8b broken")
    for args, why in (
            (["-b", "a.pb.gz", "absent.pb.gz"], "absent.pb.gz: No such file"),
            (["-b", "absent.pb.gz", "a.pb.gz"], "absent.pb.gz: No such file"),
            (["-b", "a.pb.gz", "empty"], "holds no *.pb.gz"),
            (["-b", "a.pb.gz", "broken.pb.gz"], "broken.pb.gz"),
            (["-b", "a.pb.gz", "sampled.pb.gz"], "exact and sampled"),
            (["-b", "a.pb.gz", "cpu"], "the new side has no heap profile"),
            (["a.pb.gz"], "baseline update"),
            (["-b", "a.pb.gz"], "the new side is missing"),
            (["-b", "a.pb.gz", "--rule", "aloc_objects > +1", "a.pb.gz"], "did you mean alloc_objects"),
            (["-b", "a.pb.gz", "--rule", "alloc_objects <= 5ms", "a.pb.gz"], "cannot be compared"),
            (["-b", "a.pb.gz", "--rule", "alloc_objects > +1 in fnuc x", "a.pb.gz"],
             "--rule 1, column 23: \"fnuc\""),
            (["-b", "a.pb.gz", "--rules", "nowhere", "a.pb.gz"], "nowhere: No such file"),
            (["-b", "a.pb.gz", "--format=jsno", "a.pb.gz"], "did you mean json"),
            (["-b", "a.pb.gz", "-f", "json", "-f", "text", "-o", "x", "a.pb.gz"], "one format"),
            (["-b", "a.pb.gz", "-o", "/proc/none/x", "a.pb.gz"], "/proc/none"),
            (["-b", "a.pb.gz", "a.pb.gz", "--", "true"], "not both")):
        said = check(work, *args, status=2)
        assert why in said.stdout + said.stderr, (args, said.stdout, said.stderr)


MEASURED = {  # rule: which of the target's sizes makes it fail
    "alloc_space > +50% in func take_memory": 0,
    "wall > +50% in func sit_still": 1,
    "block delay > +50% in func want_lock": 2,
    "mutex delay > +50% in func let_go": 2,
}


def recorded_samples_and_waits_are_judged(work):
    sizes = [64 << 10, 60, 60]  # 128 samples of 512 KiB, 12 of 5 ms, 60 ms
    target = os.path.join(TESTS, "gate_target")
    rules = [word for rule in MEASURED for word in ("--rule", rule)]
    run(work, "baseline", "update", "-n", "5", "-q", "-k", "heap", "-k", "wall=200", "-k", "block", "-k", "mutex",
        "--", target, *map(str, sizes), status=0)
    assert len(os.listdir(f"{work}/.fiberscope/baseline")) == 20
    for grown in (None, 0, 1, 2):  # each four times what it was: the ranks of five runs do not mix
        now = [size * 4 if i == grown else size for i, size in enumerate(sizes)]
        want = {rule: "regression" if by == grown else "ok" for rule, by in MEASURED.items()}
        got = result(work, *rules, "--", target, *map(str, now), status=0 if grown is None else 1)
        assert {r["rule"]: r["verdict"] for r in got["rules"]} == want, got
        for r in got["rules"]:
            assert r["base_runs"] == r["now_runs"] == 5, r
            if want[r["rule"]] == "regression":
                assert abs(r["p"] - 1 / 252) < 1e-9 and 3 < r["now"] / r["base"] < 5, r


def contentions_say_what_they_are(work):
    target = os.path.join(TESTS, "gate_target")
    run(work, "record", "--block=1", "--mutex", "-q", "-o", f"{work}/", "--", target, "0", "0", "20", status=0)
    # By what is in them, whatever they are called; the second name would say the contrary.
    for kind, name in (("block", "x"), ("mutex", "from-block")):
        found, = [f for f in os.listdir(work) if f.endswith(f".{kind}.pb.gz")]
        os.rename(f"{work}/{found}", f"{work}/{name}.pb.gz")
    both = ["-b", "x.pb.gz", "-b", "from-block.pb.gz", "x.pb.gz", "from-block.pb.gz", "--rule"]
    check(work, *both, "block delay > +5% in func let_go", status=2)  # one run cannot show it
    check(work, *both, "mutex delay <= 10ms in func let_go", status=1)
    check(work, *both, "block delay <= 10ms in func let_go", status=0)
    check(work, *both, "block delay <= 10ms in func want_lock", status=1)
    for name in ("x", "mutex-and-block"):
        write.write(f"{work}/{name}.pb.gz", write.WAIT, [(write.frames("main;lock"), [1, 1000], {})],
                    period_type=("contentions", "count"))
        said = check(work, "-b", f"{name}.pb.gz", f"{name}.pb.gz", status=2).stderr
        assert f"{name}.pb.gz" in said and "X.mutex.pb.gz" in said, said


def benchmarks_say_how_often_they_ran(work):
    bench = os.path.join(TESTS, "bench_target")
    for name, times in (("a", 50), ("b", 150)):
        run(work, "record", "--heap=exact", "-q", "-o", f"{name}.heap.pb.gz", "--", bench, "times",
            str(times), status=0)
        p = Profile(f"{work}/{name}.heap.pb.gz")
        assert f"ops={2 * (times + 1)}" in p.comments, p.comments  # two benchmarks, each once before
    check(work, "-b", "a.heap.pb.gz", "b.heap.pb.gz", status=1)
    rule = ["--rule", "alloc_objects > +0.1 in each func matching known per op"]
    check(work, "-b", "a.heap.pb.gz", *rule, "b.heap.pb.gz", status=0)
    # What is said goes before what was counted.
    run(work, "baseline", "update", "--ops", "1000000", "a.heap.pb.gz", status=0)
    check(work, *rule, "b.heap.pb.gz", status=1)


def block_and_mutex_are_told_apart(work):
    for kind, ms in (("block", 3), ("mutex", 9)):
        write.write(f"{work}/x.{kind}.pb.gz", write.WAIT,
                    [(write.frames("main;lock"), [1, ms * 1000000], {})], period_type=("contentions", "count"))
    both = ["-b", "x.block.pb.gz", "-b", "x.mutex.pb.gz", "x.block.pb.gz", "x.mutex.pb.gz", "--rule"]
    check(work, *both, "block delay <= 5ms in func lock", status=0)
    check(work, *both, "mutex delay <= 5ms", status=1)
    assert 'write "block delay"' in check(work, *both, "delay <= 5ms", status=2).stdout
    said = check(work, "-b", "x.block.pb.gz", "-b", "x.mutex.pb.gz", "x.block.pb.gz", "--rule",
                 "block delay <= 5ms", status=0)
    assert "only the baseline has a mutex profile" in said.stdout, said.stdout


# --- Output.

EVIL = 'a<b>"c|d\'&,:%'


def evil_profiles(work):
    write.exact(f"{work}/a.pb.gz", {"main;work": 1})
    stack = [("main", "m.c", 1), (EVIL, f"src/{EVIL}.c", 42)]
    write.write(f"{work}/b.pb.gz", write.EXACT, [(stack, [9, 9, 0, 9, 9, 0, 0], {})])


def all_forms_at_once(work):
    evil_profiles(work)
    check(work, "-b", "a.pb.gz", "b.pb.gz", "-f", "json=r.json", "-f", "github=r.txt", "-f",
          "markdown=r.md", "-f", "text", "-o", "t.txt", "--svg", "r.svg", status=1)
    with open(f"{work}/r.json", encoding="utf-8") as f:
        path = json.load(f)["rules"][0]["paths"][0]
    assert path["function"] == EVIL and path["stack"] == ["main", EVIL], path
    with open(f"{work}/r.txt", encoding="utf-8") as f:
        lines = f.read().splitlines()
    assert len(lines) == 1, lines
    properties, _, message = lines[0].removeprefix("::error ").partition("::")
    fields = dict(p.split("=", 1) for p in properties.split(","))
    decode = lambda s: s.replace("%3A", ":").replace("%2C", ",").replace("%0A", "\n").replace("%25", "%")
    assert decode(fields["file"]) == f"src/{EVIL}.c" and fields["line"] == "42", fields
    assert decode(message).startswith(f"{EVIL}: alloc_objects +9"), message
    with open(f"{work}/t.txt", encoding="utf-8") as f:
        assert f"src/{EVIL}.c:42" in f.read()
    with open(f"{work}/r.md", encoding="utf-8") as f:
        markdown = f.read()
    assert "![What grew](r.svg)" in markdown and "<svg" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| <code>")]
    assert len(rows) == 1 and rows[0].count("|") == 7, rows
    check_svg(f"{work}/r.svg")


def check_svg(path):
    tree = xml.etree.ElementTree.parse(path).getroot()
    texts = ["".join(e.itertext()) for e in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert any(EVIL in t for t in texts) and any("+9" in t for t in texts), texts
    width = float(tree.get("width"))
    for r in tree.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 < float(r.get("x")) + float(r.get("width")) <= width, r.attrib


def inline_picture_is_one_block_of_html(work):
    evil_profiles(work)
    said = check(work, "-b", "a.pb.gz", "b.pb.gz", "-f", "markdown", status=1).stdout
    picture = said[said.index("<svg"):said.index("</svg>") + 6]
    assert "\n\n" not in picture and "\n    " not in picture, picture
    with open(f"{work}/p.svg", "w", encoding="utf-8") as f:
        f.write(picture)
    check_svg(f"{work}/p.svg")


def the_picture_shows_in_a_browser(work):
    browser = shutil.which("chromium")
    if not browser or not shutil.which("convert"):
        raise Skip("no chromium or no convert (package imagemagick)")
    evil_profiles(work)
    check(work, "-b", "a.pb.gz", "b.pb.gz", "--svg", "r.svg", status=1)
    subprocess.run([browser, "--headless", "--force-device-scale-factor=1", "--no-sandbox", "--disable-gpu", "--disable-quic",
                    "--no-first-run", "--disable-background-networking", "--disable-component-update",
                    "--disable-sync", f"--user-data-dir={work}/data", f"--screenshot={work}/p.png",
                    "--window-size=900,400", f"file://{work}/r.svg"],
                   check=True, timeout=60, capture_output=True)
    ppm = subprocess.run(["convert", f"{work}/p.png", "ppm:-"], capture_output=True, check=True).stdout
    pixels = ppm[len(ppm) - 900 * 400 * 3:]
    red = sum(pixels[i:i + 3] == b"\xd1\x38\x2f" for i in range(0, len(pixels), 3))
    # One bar of what was added, almost as wide as a bar can be: its height is 14.
    assert 400 * 14 < red < 510 * 15, f"{red} pixels in the colour of growth"


# --- Baselines.

def a_baseline_is_replaced_whole_and_says_what_changed(work):
    write.exact(f"{work}/a.pb.gz", {"main;work": 10}, comments=["command: ./bench"])
    write.exact(f"{work}/b.pb.gz", {"main;work": 10, "main;more": 4})
    run(work, "baseline", "update", "a.pb.gz", status=0)
    folder = f"{work}/.fiberscope/baseline"
    assert os.listdir(folder) == ["heap.001.pb.gz"], os.listdir(folder)
    stored = Profile(f"{folder}/heap.001.pb.gz")
    assert stored.total(0) == 10 and stored.period == 1
    assert "command: ./bench" in stored.comments, stored.comments
    assert any(c.startswith("fiberscope.cpus: ") for c in stored.comments), stored.comments
    check(work, "a.pb.gz", status=0)
    said = run(work, "baseline", "update", "b.pb.gz", status=0).stdout
    assert "alloc_objects      10 -> 14 (+4)" in said and "1 new" in said, said
    assert os.listdir(f"{work}/.fiberscope") == ["baseline"], "something is left beside it"
    shown = run(work, "baseline", "show", status=0).stdout
    assert "heap (exact): 1 run" in shown and "fiberscope.kernel" in shown, shown
    check(work, "b.pb.gz", status=0)


def a_baseline_without_samples_is_refused(work):
    target = os.path.join(TESTS, "gate_target")
    for args in (["-k", "heap", "--", target, "0", "0", "0"], ["z.pb.gz"]):
        write.write(f"{work}/z.pb.gz", write.HEAP, [], period=524288)
        said = run(work, "baseline", "update", *args, status=1).stderr
        assert "one allocation per 512kB" in said and "heap=exact" in said, said
        assert not os.path.exists(f"{work}/.fiberscope"), said
    # No contention is a finding.
    run(work, "baseline", "update", "-k", "mutex", "--", target, "0", "0", "0", status=0)


def a_folder_of_something_else_is_not_replaced(work):
    write.exact(f"{work}/a.pb.gz", {"main;work": 10})
    os.mkdir(f"{work}/mine")
    with open(f"{work}/mine/notes.txt", "w", encoding="utf-8") as f:
        f.write("keep")
    said = run(work, "baseline", "update", "--dir", "mine", "a.pb.gz", status=1).stderr
    assert "notes.txt" in said and os.listdir(f"{work}/mine") == ["notes.txt"], said
    said = run(work, "baseline", "update", "--dir", "new", "absent.pb.gz", status=1).stderr
    assert "absent.pb.gz" in said and not os.path.exists(f"{work}/new"), said
    assert "baseline update" in run(work, "baseline", "show", status=1).stderr
    assert "did you mean update" in run(work, "baseline", "updaet", status=2).stderr


def the_command_of_a_check_is_recorded_as_the_baseline_was(work):
    if os.environ.get("FSCOPE_SANITIZE"):
        raise Skip("an agent with a sanitizer cannot be preloaded into a program without")
    burn = [os.path.join(TESTS, "burn"), "split", "200"]
    run(work, "baseline", "update", "-k", "cpu=499", "-n", "3", "-q", "--", *burn, status=0)
    assert len(os.listdir(f"{work}/.fiberscope/baseline")) == 3
    got = result(work, "--rule", "cpu > +100%", "--rule", "cpu share <= 90% in func alpha", "--",
                 *burn, status=0)
    assert got["rules"][0]["now_runs"] == 3 and got["rules"][1]["now"] > 50, got
    check(work, "--rule", "cpu share <= 20% in func alpha", "--", *burn, status=1)
    said = check(work, "--", "sh", "-c", "exit 7", status=2).stderr
    assert "status 7" in said and "--allow-failure" in said, said
    said = check(work, "--", "/nonexistent/program", status=2).stderr
    assert "/nonexistent/program" in said, said


# --- stat.

def stat_measures_and_passes_the_status_on(work):
    done = run(work, "stat", "-r", "5", "--no-allocs", "--json", "-o", "s.json", "sh", "-c",
               "echo out; sleep 0.05; exit 3", status=3)
    assert done.stdout == "out\n" * 5, done.stdout
    with open(f"{work}/s.json", encoding="utf-8") as f:
        s = json.load(f)
    assert (s["runs"], s["failed"], s["exit_status"]) == (5, 5, 3), s
    assert len(s["time"]["values"]) == 5 and all(v >= 5e7 for v in s["time"]["values"]), s
    assert s["time"]["min"] <= s["time"]["median"] <= s["time"]["max"], s
    assert s["user"]["median"] + s["system"]["median"] < s["time"]["median"], s
    big = 'import sys; b = bytearray(80 << 20); b[::4096] = b"x" * len(b[::4096])'
    done = run(work, "stat", "--no-allocs", "-j", "/usr/bin/python3", "-c", big, status=0)
    s = json.loads(done.stdout)
    assert 80 << 20 < s["max_rss"]["median"] < 200 << 20, s["max_rss"]
    assert s["minor_faults"]["median"] > 80 << 8, s["minor_faults"]
    assert run(work, "stat", "/nonexistent", status=127).stderr
    done = run(work, "stat", "-r", "3", "--no-allocs", "true", status=0)
    assert "median" in done.stderr and "max RSS" in done.stderr and done.stdout == "", done


def stat_counts_allocations(work):
    program = build_example(work, "x")
    s = json.loads(run(work, "stat", "--json", program, status=0).stdout)
    assert s["allocations"]["median"] == 5000, s


if __name__ == "__main__":
    # Until `record` has --heap=exact there is nothing to leave out: these cases do not exist.
    recorded = [recorded_one_more_allocation_is_refused, recorded_moved_and_inlined_code_passes,
                recorded_samples_and_waits_are_judged, contentions_say_what_they_are,
                benchmarks_say_how_often_they_ran, a_baseline_without_samples_is_refused,
                stat_counts_allocations]
    main([*(recorded if can_record_exact() else []),
          one_more_allocation_is_refused, moved_and_inlined_code_passes,
          counts_are_compared_path_by_path, renamed_functions_are_said_and_not_refused,
          runs_that_differ_do_not_count_as_growth, rules_say_what_must_hold, growth_per_operation,
          timings_are_tested_over_runs, what_it_cannot_tell, block_and_mutex_are_told_apart,
          all_forms_at_once, inline_picture_is_one_block_of_html, the_picture_shows_in_a_browser,
          a_baseline_is_replaced_whole_and_says_what_changed,
          a_folder_of_something_else_is_not_replaced,
          the_command_of_a_check_is_recorded_as_the_baseline_was,
          stat_measures_and_passes_the_status_on])
