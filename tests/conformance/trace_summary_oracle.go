// SPDX-License-Identifier: MIT
//
// What Go's own summary (internal/trace, Summarizer) says about a trace, in the lines of
// trace_numbers.c: the request "summary" of trace_oracle.go.
//
// Of a fiber that the trace leaves in a system call without its Proc, Go adds the time since it lost
// the Proc to SyscallTime and to SchedWaitTime; ours is SyscallBlockTime. So where the parts exceed
// the total by d, those two are less d here, and the third more: no other difference can be hidden,
// as the three shift by one amount that the total gives.

package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"oracle/trace"
)

func ranges(s *trace.GoroutineExecStats, prefix string) (d time.Duration) {
	for name, t := range s.RangeTime {
		if strings.HasPrefix(name, prefix) {
			d += t
		}
	}
	return d
}

func stats(s *trace.GoroutineExecStats) string {
	exec, sched, call, blocked := s.ExecTime, s.SchedWaitTime, s.SyscallTime, s.SyscallBlockTime
	sum := exec + sched + call + blocked
	var reasons []string
	for name, t := range s.BlockTimeByReason {
		sum += t
		if t != 0 {
			reasons = append(reasons, fmt.Sprintf("%q=%d", name, t))
		}
	}
	sort.Strings(reasons)
	if d := sum - s.TotalTime; d > 0 {
		call, sched, blocked = call-d, sched-d, blocked+d
	}
	return fmt.Sprintf("total %d running %d runnable %d syscall %d blocked %d stw %d sweep %d assist %d [%s]",
		s.TotalTime, exec, sched, call, blocked, ranges(s, "stop-the-world"), ranges(s, "GC incremental sweep"),
		ranges(s, "GC mark assist"), strings.Join(reasons, " "))
}

func timeOf(e *trace.Event) string {
	if e == nil {
		return "-"
	}
	return fmt.Sprint(e.Time())
}

func summary(path string) error {
	s := trace.NewSummarizer()
	if err := read(path, func(e trace.Event) { s.Event(&e) }); err != nil {
		return err
	}
	sum := s.Finalize()
	for _, g := range sum.Goroutines {
		start, end := "-", "-"
		if g.StartTime != 0 {
			start = fmt.Sprint(g.StartTime)
		}
		if g.EndTime != 0 {
			end = fmt.Sprint(g.EndTime)
		}
		fmt.Fprintf(&out, "fiber %d %q %x created %d start %s end %s %s\n", g.ID, g.Name, g.PC, g.CreationTime, start,
			end, stats(&g.GoroutineExecStats))
		for _, r := range g.Regions {
			fmt.Fprintf(&out, "region %d %q task %d %s-%s %s\n", g.ID, r.Name, r.TaskID, timeOf(r.Start),
				timeOf(r.End), stats(&r.GoroutineExecStats))
		}
	}
	for _, t := range sum.Tasks {
		if t.Start == nil && t.End == nil {
			continue // only named by a region or a log
		}
		parent := "-"
		if t.Parent != nil {
			parent = fmt.Sprint(t.Parent.ID)
		}
		fmt.Fprintf(&out, "task %d %q parent %s %s-%s\n", t.ID, t.Name, parent, timeOf(t.Start), timeOf(t.End))
	}
	return nil
}
