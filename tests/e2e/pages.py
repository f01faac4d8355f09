#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""/debug/fibers, /debug/requests and /metrics of a program that says itself what they have to show."""
import html.parser
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.append("/usr/lib/python3/dist-packages")  # Debian's, where python3 is another one
from harness import FIBERSCOPE, TESTS, Skip, main

TARGET = os.path.join(TESTS, "pages_target")


class Served:
    def __init__(self, work, *target):
        argv = [FIBERSCOPE, "serve", "--heap=4096", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(argv + list(target or [TARGET]), cwd=work, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        found = re.search(r"\(pid (\d+)\) at (http://[^/]+)", line)
        assert found, line + self.process.stderr.read()
        self.pid, self.url = int(found.group(1)), found.group(2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def lines(self, until="done"):
        have = []
        for line in self.process.stdout:
            if line == until + "\n":
                return have
            have.append(line.rstrip("\n"))
        raise AssertionError(f"it ended after {have}")

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.lines()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as r:
            return r.headers, r.read()

    def json(self, path):
        return json.loads(self.get(path)[1].decode("utf-8"))


class Strict(html.parser.HTMLParser):
    """Elements are closed in order, and none is there that a page of ours has not."""
    void = {"meta"}
    known = {"html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "span", "nav", "a", "p",
             "b", "i", "div", "table", "thead", "tbody", "tr", "th", "td", "code"}

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert tag in self.known, tag
        if tag == "td":
            self.cells.append("")
        if tag not in self.void:
            self.open.append(tag)
        assert all(name in ("class", "style", "href", "id", "title", "lang", "charset", "name", "content",
                            "http-equiv") for name, _ in attrs), attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


def fibers_are_what_the_program_says(work):
    with Served(work) as s:
        s.lines("ready")
        said = {int(f[0]): [int(x) for x in f[1:]] for f in (line.split() for line in s.tell("fibers"))}
        t = s.json("/debug/fibers?format=json&rows=5000")
        rows = {r["id"]: r for r in t["rows"]}
        assert t["of"] == "fibers" and set(rows) == set(said) and t["total"] == len(said) == 50, (t["total"], len(said))
        by_start = {}
        for r in rows.values():
            by_start.setdefault(r["start"], []).append(r)
        assert {k: len(v) for k, v in by_start.items() if k != "start"} == \
            {"receiver": 40, "holder": 1, "locker": 7, "yielder": 1}, by_start.keys()
        for r in rows.values():
            if r["start"] == "start":
                continue  # it runs
            switches, wakes, cpu_ns, owner = said[r["id"]]
            assert (r["switches"], r["wakes"]) == (switches, wakes), r
            assert abs(r["busy_ns"] - cpu_ns) <= cpu_ns // 1000 + 1, (r, cpu_ns)
            assert r.get("held_by", {}).get("fiber", 0) == owner, (r, owner)
            assert r["busy_ns"] + r["waiting_ns"] + r["runnable_ns"] >= r["age_ns"] >= r["since_ns"] - 1000, r
        holder = by_start["holder"][0]["id"]
        assert all(r["waits_on"] == "g_lock" and r["held_by"]["fiber"] == holder for r in by_start["locker"])
        y = by_start["yielder"][0]  # whoever yields while nobody else can run goes on without a switch
        assert y["self_wakes"] + y["preempted"] == y["switches"] - y["wakes"] - 1 and 1 <= y["self_wakes"] <= 100, y
        assert y["name"] == "<b>\"y'&\ufffd", y
        assert re.fullmatch(r"pages_target\.c:\d+", y["created_at"]) and y["created"] == "start", y
        groups = s.json("/debug/fibers?format=json&group=site")["groups"]
        assert [g["count"] for g in groups] == [40, 7, 1, 1, 1] and sum(g["count"] for g in groups) == t["total"]
        for key, field in (("switches", "switches"), ("since", "since_ns"), ("id", "id"), ("busy", "busy_ns")):
            for order in ("asc", "desc"):
                have = [r[field] for r in s.json(f"/debug/fibers?format=json&sort={key}&order={order}&rows=20")["rows"]]
                whole = sorted((r[field] for r in rows.values()), reverse=order == "desc")
                assert len(have) == 20 and have == sorted(have, reverse=order == "desc"), (key, order, have)
                # What runs meanwhile changes; numbers of fibers do not.
                assert key != "id" or have == whole[:20], (key, have)
        text = s.get("/debug/fibers?debug=1")[1].decode("utf-8")
        assert text.startswith("fibers: total 50\n") and "on g_lock held by fiber" in text, text


def pages_hold_what_is_hostile(work):
    with Served(work) as s:
        s.lines("ready")
        for path in ("/debug/fibers", "/debug/fibers?group=site", "/debug/fibers?group=start&sort=busy",
                     "/debug/fibers?of=threads", "/debug/fibers?sort=%3Cscript%3E&order=x&rows=-1&refresh=99999999",
                     "/debug/requests", "/debug/requests?family=%3Cscript%3E&b=1&refresh=x"):
            headers, body = s.get(path)
            assert headers["Content-Type"] == "text/html; charset=utf-8", path
            assert headers["Content-Security-Policy"].startswith("default-src 'none'"), path
            Strict(body.decode("utf-8"))
        cells = Strict(s.get("/debug/fibers?rows=5000")[1].decode("utf-8")).cells
        assert "<b>\"y'&\ufffd" in cells, cells[:40]
        threads = s.json("/debug/fibers?of=threads&format=json")
        assert threads["of"] == "threads" and threads["total"] == len(os.listdir(f"/proc/{s.pid}/task"))


def tasks_are_counted_and_shown(work):
    with Served(work) as s:
        s.lines("ready")
        before = s.json("/debug/requests?format=json")
        assert before["families"] == [] and before["why"], before
        got = []
        ask = threading.Thread(target=lambda: got.append(s.json("/debug/requests?seconds=3&format=json")))
        ask.start()
        time.sleep(1)
        s.tell("tasks")
        ask.join()
        families = {f["name"]: f for f in got[0]["families"]}
        hostile = "a\"b\\<i>\n\ufffd"
        have = {n: (f["ended"], f["active"], f["errors"]) for n, f in families.items()}
        assert have == {"fast": (30, 0, 0), "slow": (5, 0, 0), hostile: (3, 0, 3), "stays": (0, 1, 0)}, have
        slow = {b["from_ns"]: b["count"] for b in families["slow"]["buckets"]}
        assert slow[10000000] + slow[100000000] == 5 and families["slow"]["p50_ns"] >= 8192 * 1024, families["slow"]
        tasks = s.json("/debug/requests?format=json&family=slow&b=3")["tasks"]
        assert len(tasks) == slow[10000000] and all(t["took_ns"] >= 12000000 for t in tasks)
        kinds = [[(e["kind"], e["text"]) for e in t["events"]] for t in tasks]
        assert all(k == [("region", "parse"), ("log", "note: </td><script>alert(1)</script>")] for k in kinds), kinds
        page = "/debug/requests?family=a%22b%5C%3Ci%3E%0A%FE&b=errors"
        cells = Strict(s.get(page)[1].decode("utf-8")).cells
        assert cells.count("error: no \"such\" <thing>") == 3, cells
        assert len(s.json("/debug/requests?format=json&family=fast&b=0").get("tasks", [])) <= 10
        # Another trace after a gap: what is counted stays, what was active is forgotten.
        after = s.json("/debug/requests?seconds=0.2&format=json")
        have = {f["name"]: (f["ended"], f["active"]) for f in after["families"]}
        assert have["fast"] == (30, 0) and "stays" not in have and after["forgotten"] == 1, after


def parse(text):
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as e:
        raise Skip("there is no python3-prometheus-client here") from e
    return {f.name: f for f in text_string_to_metric_families(text)}


def check_histogram(family, labels):
    rows = [x for x in family.samples if all(x.labels.get(k) == v for k, v in labels.items())]
    buckets = [(float(x.labels["le"]), x.value) for x in rows if x.name.endswith("_bucket")]
    count = next(x.value for x in rows if x.name.endswith("_count"))
    assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets), buckets
    assert buckets[-1] == (float("inf"), count), buckets
    return count, next(x.value for x in rows if x.name.endswith("_sum"))


def metrics_are_read_by_prometheus(work):
    with Served(work) as s:
        s.lines("ready")
        headers, body = s.get("/metrics")
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", headers
        parse(body.decode("utf-8"))
        s.tell("tasks")
        text = s.get("/metrics")[1].decode("utf-8")
        m = parse(text)

        def one(name):
            assert len(m[name].samples) == 1, name
            return m[name].samples[0].value

        assert one("fiberscope_sched_goroutines_goroutines") == 50
        states = {x.labels["state"]: x.value for x in m["fiberscope_fibers"].samples}
        assert sum(states.values()) == 50 and states["sync.Mutex.Lock"] == 7, states
        sites = sorted(x.value for x in m["fiberscope_fibers_by_creation_site"].samples)
        assert sites == [0, 1, 1, 1, 7, 40], sites
        count, _ = check_histogram(m["fiberscope_sched_latencies_seconds"], {})
        assert count % 8 == 0
        times = m["fiberscope_region_duration_seconds"]
        names = {x.labels["region"] for x in times.samples}
        assert len(names) == 65 and "other" in names and "parse" in names, (len(names), names)
        counts = {n: check_histogram(times, {"region": n}) for n in names}
        assert counts["parse"][0] == 38 and sum(c for c, _ in counts.values()) == 38 + 80, counts
        assert counts["other"][0] == 80 - 63, counts["other"]
        errors = {x.labels["region"]: x.value for x in m["fiberscope_region_errors"].samples}
        assert errors["parse"] == 3 and sum(errors.values()) == 3, errors
        with open(f"/proc/{s.pid}/status", encoding="ascii") as f:
            rss = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))
        assert abs(one("process_resident_memory_bytes") - rss) < 8 << 20
        assert one("process_open_fds") == len(os.listdir(f"/proc/{s.pid}/fd"))
        assert abs(one("process_start_time_seconds") - os.stat(f"/proc/{s.pid}").st_ctime) < 5
        assert one("fiberscope_gc_heap_allocs_bytes") >= one("fiberscope_memory_classes_heap_objects_bytes")
        assert {x.labels["what"] for x in m["fiberscope_recording_lost"].samples} >= {"ring", "stack", "pointer"}
        if subprocess.run(["which", "promtool"], capture_output=True, check=False).returncode == 0:
            done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True,
                                  check=False)
            assert "error" not in done.stderr.lower() and done.returncode in (0, 3), done.stderr


def a_program_without_fibers_has_threads(work):
    with Served(work, "sh", "-c", "echo ready; read x; exit 0") as s:
        s.lines("ready")
        t = s.json("/debug/fibers?format=json")
        assert t["of"] == "threads" and t["total"] == 1 and t["rows"][0]["id"] == s.pid, t
        assert t["rows"][0]["name"] == "sh" and t["rows"][0]["switches"] > 0, t
        text = s.get("/metrics")[1].decode("utf-8")
        assert "fiberscope_sched_" not in text and "process_cpu_seconds_total" in text
        s.process.stdin.write("\n")


if __name__ == "__main__":
    main([fibers_are_what_the_program_says, pages_hold_what_is_hostile, tasks_are_counted_and_shown,
          metrics_are_read_by_prometheus, a_program_without_fibers_has_threads])
