#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`fiberscope leaks` finds leaks that are known by construction: exactly those sites, at exactly their
rates, with the trend and its probability that a count of all orders gives."""

import itertools
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys

from harness import FIBERSCOPE, main
from report_inputs import on_terminal

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance",
                                "data"))
sys.dont_write_bytecode = True
import make_pairs  # noqa: E402

PERIOD = ("space", "bytes", 1)
START = 1700000000


def snapshot(work, name, use, time, period=PERIOD, **more):
    """use: {"main;server;site": (objects, bytes)} in use; all of it and as much again allocated."""
    stacks = [(list(reversed(path.split(";"))), [2 * n, 2 * b, n, b], {})
              for path, (n, b) in use.items()]
    make_pairs.write(f"{work}/{name}", make_pairs.HEAP, stacks, period, time=time, **more)
    return name


def run(work, *args):
    return subprocess.run([FIBERSCOPE, "leaks", *args], cwd=work, capture_output=True, text=True,
                          timeout=60, check=False)


def table(work, *args):
    done = run(work, "--json", *args)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {";".join(reversed(p["frames"])): p for p in found["paths"]}, found


def counted_p(y):
    """tau-b and its two-sided p by looking at every order of y."""
    def score(v):
        return sum((b > a) - (b < a) for a, b in itertools.combinations(v, 2))
    s, scores = score(y), [score(v) for v in itertools.permutations(y)]
    pairs = len(y) * (len(y) - 1) // 2
    untied = sum(a != b for a, b in itertools.combinations(y, 2))
    tau = s / math.sqrt(pairs * untied) if untied else 0
    return tau, sum(abs(v) >= abs(s) for v in scores) / len(scores)


def median_slope(x, y):
    pairs = itertools.combinations(zip(x, y), 2)
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)


def one_snapshot_lists_what_is_in_use_by_site(work):
    snapshot(work, "a.pb.gz", {"main;load;take": (3, 300), "main;serve;take": (2, 5000),
                               "main;table": (1, 4096), "main;freed": (0, 0)}, START)
    rows, found = table(work, "a.pb.gz")
    assert {k: (v["objects"], v["bytes"]) for k, v in rows.items()} == \
        {"take": ([5], [5300]), "table": ([1], [4096])}, rows
    assert found["total"]["bytes"] == [9396] and found["total"]["objects"] == [6], found["total"]
    rows, _ = table(work, "--by=path", "a.pb.gz")
    assert [(k, v["bytes"][0]) for k, v in rows.items()] == \
        [("main;serve;take", 5000), ("main;table", 4096), ("main;load;take", 300)], rows
    text = run(work, "a.pb.gz").stdout
    assert re.search(r"5.18kB +56.41% +5  take\n", text), text


def what_was_sampled_is_called_an_estimate(work):
    sampled = ("space", "bytes", 524288)
    for i, period in enumerate((PERIOD, sampled)):
        a = snapshot(work, f"a{i}.pb.gz", {"main;x": (1, 4096)}, START, period)
        b = snapshot(work, f"b{i}.pb.gz", {"main;x": (3, 12288)}, START + 1, period)
        one, two = run(work, a).stdout, run(work, a, b).stdout
        about = "~" if i else ""
        assert f"In use: {about}4kB in {about}1 object\n" in one, one
        assert f"In use: {about}4kB → {about}12kB (+8kB)" in two, two
        for text in (one, two):
            assert ("from samples of one allocation per 512kB" in text) == bool(i), text
        assert table(work, a)[1]["estimates"] is bool(i)


def two_snapshots_give_the_difference(work):
    snapshot(work, "a.pb.gz", {"main;grows": (10, 1000), "main;steady": (5, 500),
                               "main;shrinks": (8, 800)}, START)
    snapshot(work, "b.pb.gz", {"main;grows": (14, 1800), "main;steady": (5, 500),
                               "main;shrinks": (2, 200), "main;appears": (1, 2400)}, START + 40)
    rows, found = table(work, "a.pb.gz", "b.pb.gz")
    assert [(k, v["growth_bytes"], v["growth_objects"], v["bytes_per_second"])
            for k, v in rows.items()] == \
        [("main;appears", 2400, 1, 60), ("main;grows", 800, 4, 20)], rows
    assert found["total"]["growth_bytes"] == 2600
    assert list(table(work, "-all", "a.pb.gz", "b.pb.gz")[0]) == \
        ["main;appears", "main;grows", "main;steady", "main;shrinks"]
    text = run(work, "a.pb.gz", "b.pb.gz").stdout
    assert re.search(r"\+60B/s +\+2.34kB +\+1 +2.34kB  appears ← main\n", text), text
    assert "2 paths that did not grow are left out" in text, text


def histories(count, seed):
    """{path: bytes at each of so many snapshots}: leaks, and what looks like some."""
    rnd = random.Random(seed)
    burst = count // 2
    return {
        "main;serve;leak_steadily": [1000 * 60 * i + 5000 for i in range(count)],
        "main;serve;leak_slowly": [100 * 60 * i + 7 for i in range(count)],
        "main;serve;leak_with_burst": [300 * 60 * i + 10 ** 8 * (i == burst) for i in range(count)],
        "main;serve;leak_in_noise": [200 * 60 * i + rnd.randint(0, 9000) for i in range(count)],
        "main;cache_fills": [min(i, 2) * 500000 + 9 for i in range(count)],
        "main;buffer_once": [10 ** 8 * (i == burst) + 64 for i in range(count)],
        "main;constant": [123456] * count,
        "main;noise": [rnd.randint(100000, 200000) for _ in range(count)],
        "main;shrinks": [50000000 - 40000 * i for i in range(count)],
    }


def series(work, count, seed, gap=60):
    paths = histories(count, seed)
    files = [snapshot(work, f"s{i}.pb.gz", {p: (v[i] // 64, v[i]) for p, v in paths.items()},
                      START + gap * i) for i in range(count)]
    return paths, files


def known_leaks_are_found_at_their_rates(work):
    for seed in range(3):
        paths, files = series(work, 7, seed)
        rows, found = table(work, "--all", *files)
        assert set(rows) == set(paths)
        times = [60 * i for i in range(7)]
        for path, values in paths.items():
            row, (tau, p) = rows[path], counted_p(values)
            assert row["bytes"] == values, path
            slope = median_slope(times, values)
            assert abs(row["bytes_per_second"] - slope) < 1e-6 * max(1, abs(slope)), (path, row)
            assert abs(row["tau"] - tau) < 1e-6 and abs(row["p"] - p) < 1e-6, (path, row, tau, p)
        for name, rate in (("steadily", 1000), ("slowly", 100), ("with_burst", 300)):
            assert abs(rows["main;serve;leak_" + name]["bytes_per_second"] - rate) < 1e-6
        assert [k for k in rows if "leak" in k] == \
            ["main;serve;leak_" + n for n in ("steadily", "with_burst", "in_noise", "slowly")]
        rates = [r["bytes_per_second"] for r in rows.values()]
        assert rates == sorted(rates, reverse=True)
        assert rows["main;buffer_once"]["bytes_per_second"] == 0
        assert found["total"]["bytes"] == [sum(v[i] for v in paths.values()) for i in range(7)]
        certain = {k for k, v in rows.items() if v["p"] <= 0.05 and v["bytes_per_second"] > 0}
        leaks = {k for k in paths if "leak" in k}
        assert leaks <= certain | {"main;serve;leak_with_burst"}, certain
        assert not certain & {"main;constant", "main;buffer_once", "main;shrinks"}, certain


def many_snapshots_use_the_normal_approximation(work):
    paths, files = series(work, 40, 1)
    rows, _ = table(work, "--all", *files)
    for path, y in paths.items():
        s = sum((b > a) - (b < a) for a, b in itertools.combinations(y, 2))
        v = 40 * 39 * 85 - sum(t * (t - 1) * (2 * t + 5) for t in map(y.count, set(y)))
        p = math.erfc((abs(s) - 1) / math.sqrt(v / 18) / math.sqrt(2)) if s else 1
        assert abs(rows[path]["p"] - p) < 1e-6, (path, rows[path]["p"], p)
    exact, _ = table(work, "--all", *files[:30])
    two_orders = 2 / math.factorial(30)  # only up, only down
    assert math.isclose(exact["main;serve;leak_slowly"]["p"], two_orders, rel_tol=1e-5), exact


def the_times_decide_the_order(work):
    _, files = series(work, 5, 1)
    shuffled = [files[i] for i in (3, 0, 4, 2, 1)]
    done = run(work, "--json", *shuffled)
    assert "in the order of their times, s0.pb.gz first" in done.stderr, done.stderr
    assert done.stdout == run(work, "--json", *files).stdout
    for i in range(3):
        snapshot(work, f"t{i}.pb.gz", {"main;a": (i, 100 * i)}, 0)
    done = run(work, "--json", "t0.pb.gz", "t1.pb.gz", "t2.pb.gz")
    assert "no times of their own" in done.stderr, done.stderr
    assert json.loads(done.stdout)["paths"][0]["bytes_per_snapshot"] == 100


def filters_and_grouping_hold(work):
    _, files = series(work, 5, 2)
    rows, _ = table(work, "-focus=serve", "-ignore=slowly", *files)
    assert set(rows) == {"main;serve;leak_" + n for n in ("steadily", "with_burst", "in_noise")}
    rows, _ = table(work, "--by=site", "-hide=leak", "-focus=serve", *files)
    assert list(rows) == ["serve"], rows
    rows, _ = table(work, "-lines", "-focus=steadily", *files)
    assert re.fullmatch(r"main /src/m.c:40;serve /src/s.c:50;leak_steadily /src/l.c:130",
                        list(rows)[0]), rows
    done = run(work, "-focus=absent", *files)
    assert done.returncode == 0 and "Nothing is in use" in done.stdout, done.stdout
    assert done.stderr.count("matched no samples") == 1, done.stderr


def other_load_addresses_are_the_same_paths(work):
    for i in range(3):
        snapshot(work, f"s{i}.pb.gz", {"main;a": (i + 1, 100 * i + 100)}, START + i,
                 start=0x7f0000000000 + 0x100000 * i, build="b%d" % i)
    rows, _ = table(work, "s0.pb.gz", "s1.pb.gz", "s2.pb.gz")
    assert rows["main;a"]["bytes"] == [100, 200, 300], rows


def the_next_command_works(work):
    name = "operator new(unsigned long)::[it's]"
    for i in range(3):
        snapshot(work, f"a file {i}.pb.gz", {"main;" + name: (i + 1, 4096 * i + 64)}, START + i)
    files = [f"a file {i}.pb.gz" for i in range(3)]
    for some in (files, files[:2], files[:1]):
        text = run(work, *some).stdout
        command = re.search(r"(?m)^Next: (fiberscope .*)$", text).group(1)
        env = dict(os.environ, PATH=os.path.dirname(FIBERSCOPE) + ":" + os.environ["PATH"])
        done = subprocess.run(["sh", "-c", command], cwd=work, env=env, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 0 and not done.stderr, (command, done.stderr)
        assert name + " /src/o.c:" in done.stdout, done.stdout
    assert "With 3 snapshots no p can be below 0.05" in run(work, *files).stdout


def what_cannot_be_measured_is_said(work):
    done = run(work)
    assert done.returncode == 2 and "leaks A [B C...]" in done.stderr, done.stderr
    make_pairs.write(f"{work}/cpu.pb.gz", make_pairs.CPU, [(["main"], [1, 2], {})])
    snapshot(work, "a.pb.gz", {"main": (1, 2)}, START)
    done = run(work, "a.pb.gz", "cpu.pb.gz")
    assert done.returncode == 1 and done.stdout == "", done.stdout
    for word in ("cpu.pb.gz: not a profile of memory in use", "samples, cpu", "inuse_space"):
        assert word in done.stderr, done.stderr
    done = run(work, "-focus=(", "a.pb.gz")
    assert done.returncode == 2 and "focus" in done.stderr, done.stderr
    assert "absent: No such file" in run(work, "absent").stderr
    snapshot(work, "b.pb.gz", {"main": (1, 2)}, START + 9)
    assert "Nothing grew: 1 path stayed or shrank (--all shows it)" in run(work, "a.pb.gz", "b.pb.gz").stdout


def tables_fit_a_terminal(work):
    for i in range(3):
        snapshot(work, f"s{i}.pb.gz", {"main;" + "a_long_name::" * 20 + "x": (i + 1, 99 * i)},
                 START + i)
    for columns in (100, 140):
        text = on_terminal(work, columns, "leaks", "s0.pb.gz", "s1.pb.gz", "s2.pb.gz")
        row = [r for r in text.splitlines() if "/s" in r][0]
        assert len(row) == columns and "…" in row, row


if __name__ == "__main__":
    main([one_snapshot_lists_what_is_in_use_by_site, two_snapshots_give_the_difference,
          what_was_sampled_is_called_an_estimate, known_leaks_are_found_at_their_rates, many_snapshots_use_the_normal_approximation,
          the_times_decide_the_order, filters_and_grouping_hold,
          other_load_addresses_are_the_same_paths, the_next_command_works,
          what_cannot_be_measured_is_said, tables_fit_a_terminal])
