#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# Makes profiles with the programs that made such profiles first: Go's runtime/pprof, gperftools,
# jemalloc and perf. make(DIR) returns {name: path} of those that could be made here. Run by itself,
# `make_pprof_samples.py DIR`, it makes the samples that are kept in data/pprof.

import glob
import os
import shutil
import subprocess
import sys

LOAD_C = r"""
#include <stdlib.h>
#include <string.h>
#include <time.h>
__attribute__((noinline)) double spin(int n)
{
    volatile double x = 1;
    for (int i = 0; i < n; i++)
        x = x * 1.0000001 + i;
    return x;
}
__attribute__((noinline)) char *take(int n)
{
    char *p = malloc(n);
    memset(p, 1, n);
    return p;
}
__attribute__((noinline)) void work(int i)
{
    spin(200000);
    for (int j = 0; j < 20; j++) {
        char *p = take(100 + j * i % 5000);
        if (j % 3)
            free(p);
    }
}
int main(void)
{
    clock_t end = clock() + CLOCKS_PER_SEC;
    for (int i = 0; clock() < end; i++)
        work(i);
    return 0;
}
"""

LOAD_GO = r"""
package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

var keep [][]byte
var sink float64

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for i := 0; i < 10000; i++ {
			sink = sink*1.0001 + float64(i)
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	dir := os.Args[1]
	runtime.MemProfileRate = 4096
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	cpu, err := os.Create(filepath.Join(dir, "go_cpu.pb.gz"))
	must(err)
	must(pprof.StartCPUProfile(cpu))
	pprof.Do(context.Background(), pprof.Labels("phase", "one", "user", "a b"), func(context.Context) {
		spin(400 * time.Millisecond)
	})
	spin(200 * time.Millisecond)
	for i := 0; i < 200; i++ {
		keep = append(keep, make([]byte, 100+i*37))
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := 0; j < 5; j++ {
				mu.Lock()
				time.Sleep(time.Millisecond)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	hold := make(chan bool)
	for i := 0; i < 3; i++ {
		go func() {
			pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("worker", "x")))
			<-hold
		}()
	}
	time.Sleep(10 * time.Millisecond)
	pprof.StopCPUProfile()
	must(cpu.Close())
	runtime.GC()
	for _, name := range []string{"heap", "allocs", "block", "mutex", "goroutine", "threadcreate"} {
		for suffix, debug := range map[string]int{".pb.gz": 0, ".txt": 1} {
			f, err := os.Create(filepath.Join(dir, "go_"+name+suffix))
			must(err)
			must(pprof.Lookup(name).WriteTo(f, debug))
			must(f.Close())
		}
	}
	runtime.KeepAlive(keep)
}
"""


def library(name):
    paths = glob.glob("/usr/lib/*/" + name)
    return paths[0] if paths else None


def run(argv, **env):
    subprocess.run(argv, check=True, env=dict(os.environ, **env), timeout=120,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def find_go():
    return shutil.which("go") or next(iter(glob.glob("/usr/local/go/bin/go")), None)


def go_pprof():
    """The path of `go tool pprof`, None where there is no Go."""
    go = find_go()
    if not go:
        return None
    # Asking for it builds it where it is not shipped; -n says where it is.
    subprocess.run([go, "tool", "pprof", "-h"], check=False, capture_output=True)
    out = subprocess.run([go, "tool", "-n", "pprof"], check=True, capture_output=True, text=True)
    return out.stdout.strip()


def make_go(directory, made):
    go = find_go()
    if not go:
        return
    source = os.path.join(directory, "load.go")
    with open(source, "w", encoding="ascii") as f:
        f.write(LOAD_GO)
    program = os.path.join(directory, "load_go")
    env = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    if not {"GOCACHE", "XDG_CACHE_HOME", "HOME"} & set(os.environ):
        env["GOCACHE"] = os.path.join(directory, "gocache")
    run([go, "build", "-o", program, source], **env)
    run([program, directory])
    for path in glob.glob(os.path.join(directory, "go_*")):
        made[os.path.basename(path)] = path


def make(directory):
    made = {}
    source = os.path.join(directory, "load.c")
    with open(source, "w", encoding="ascii") as f:
        f.write(LOAD_C)
    load = os.path.join(directory, "load")
    run(["cc", "-g", "-O1", "-fno-omit-frame-pointer", "-o", load, source])

    def out(name):
        return os.path.join(directory, name)

    if library("libprofiler.so.0"):
        run([load], LD_PRELOAD=library("libprofiler.so.0"), CPUPROFILE=out("gperftools_cpu.prof"))
        made["gperftools_cpu.prof"] = out("gperftools_cpu.prof")
    if library("libtcmalloc.so.4"):
        run([load], LD_PRELOAD=library("libtcmalloc.so.4"), HEAPPROFILE=out("hp"))
        files = sorted(glob.glob(out("hp.*.heap")))
        if files:
            os.rename(files[-1], out("gperftools_heap.txt"))
            made["gperftools_heap.txt"] = out("gperftools_heap.txt")
    if library("libjemalloc.so.2"):
        run([load], LD_PRELOAD=library("libjemalloc.so.2"),
            MALLOC_CONF="prof:true,lg_prof_sample:12,prof_final:true,prof_prefix:" + out("je"))
        files = glob.glob(out("je.*.heap"))
        if files:
            os.rename(files[0], out("jemalloc_heap.txt"))
            made["jemalloc_heap.txt"] = out("jemalloc_heap.txt")
    if shutil.which("perf"):
        data = out("perf.data")
        try:
            run(["perf", "record", "-q", "-F", "99", "-g", "-e", "cpu-clock", "-o", data, load])
            with open(out("perf_script.txt"), "wb") as f:
                subprocess.run(["perf", "script", "-i", data], check=True, stdout=f, timeout=60,
                               stderr=subprocess.DEVNULL)
            made["perf_script.txt"] = out("perf_script.txt")
        except (subprocess.CalledProcessError, OSError):
            pass  # not permitted here; the kept sample is tested all the same
    make_go(directory, made)
    return made


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, path in sorted(make(os.path.abspath(sys.argv[1])).items()):
        print(name, os.path.getsize(path))
