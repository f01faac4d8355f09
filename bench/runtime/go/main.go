// SPDX-License-Identifier: MIT
//
// The programs of runtime_fib, in Go: the same cases by the same names, measured and printed in the same
// way. Usage: runtime_go CASE OPS, with GOMAXPROCS in the environment. Where Go knows two ways
// to say something, the faster one is here. BENCH_TRACE in the environment traces the case: "discard" throws the trace
// away, "flight" is Go's flight recorder, anything else a file.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/trace"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var cases = map[string]func(ops int){
	"yield":             runYield,
	"spawn_sequential":  runSpawnSequential,
	"spawn_batch":       runSpawnBatch,
	"spawn_batch_again": runSpawnBatchAgain,
	"spawn_group":       runSpawnBatch,
	"pingpong":          runPingpong,
	"buffered128":       runBuffered,
	"select":            runSelect,
	"mutex":             runMutex,
	"mutex2":            func(ops int) { runMutexMany(ops, 2) },
	"mutex100":          func(ops int) { runMutexMany(ops, 100) },
	"timers":            runTimers,
	"sleep_storm":       runSleepStorm,
	"skynet":            runSkynet,
	"parked":            runParked,
}

type snapshot struct {
	wall                   time.Time
	cpu                    int64
	voluntary, involuntary int64
}

var (
	first  snapshot
	result = map[string]float64{}
)

func take() snapshot {
	var ts syscall.Timespec
	const processCPU = 2
	if _, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, processCPU,
		uintptr(unsafe.Pointer(&ts)), 0); e != 0 {
		panic(e)
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return snapshot{time.Now(), ts.Nano(), r.Nvcsw, r.Nivcsw}
}

func begin() { first = take() }

func end(ops int) {
	last := take()
	result["ops"] = float64(ops)
	result["wall_ns"] = float64(last.wall.Sub(first.wall))
	result["cpu_ns"] = float64(last.cpu - first.cpu)
	result["voluntary"] = float64(last.voluntary - first.voluntary)
	result["involuntary"] = float64(last.involuntary - first.involuntary)
}

func must(ok bool, what string) {
	if !ok {
		panic("does not hold: " + what)
	}
}

// memoryBytes is VmRSS + VmPTE.
func memoryBytes() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	kib := int64(0)
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			n, err := strconv.ParseInt(strings.Fields(line)[1], 10, 64)
			must(err == nil, line)
			kib += n
		}
	}
	return kib * 1024
}

// startTrace returns what ends it.
func startTrace(how string) func() {
	if how == "" {
		return func() {}
	}
	if how == "flight" {
		recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{})
		must(recorder.Start() == nil, "the flight recorder starts")
		return recorder.Stop
	}
	out := io.Discard
	if how != "discard" {
		f, err := os.Create(how)
		must(err == nil, how)
		out = f
	}
	must(trace.Start(out) == nil, "the trace starts")
	return trace.Stop
}

func main() {
	if len(os.Args) == 3 {
		if run, ok := cases[os.Args[1]]; ok {
			ops, err := strconv.Atoi(os.Args[2])
			must(err == nil, "OPS is a number")
			stop := startTrace(os.Getenv("BENCH_TRACE"))
			run(ops)
			stop()
			line, _ := json.Marshal(result)
			fmt.Println(string(line))
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: runtime_go CASE OPS")
	os.Exit(2)
}
