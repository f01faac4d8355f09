// SPDX-License-Identifier: MIT
//
// What every goroutine and Proc was at each moment of a range, by Go's own trace reader: the requests "keep" and
// "states" of trace_oracle.go.
//
//	range BEGIN END             where the trace begins and ends in it
//	Goroutine(7) Waiting 3 9    from 3 to 9, one line after the other
//
// A state that is first heard of has lasted since the last Sync, as Go's summary has it. So of what comes after the
// range that counts, up to the next Sync.

package main

import (
	"fmt"
	"sort"
	"strconv"

	"oracle/trace"
)

type span struct {
	state      string
	begin, end trace.Time
}

type change struct {
	id    trace.ResourceID
	to    string
	time  trace.Time // of the event
	since trace.Time // the state has lasted since then
	first bool       // heard of, and it was there
}

type timeline struct {
	changes    []change
	syncs      []trace.Time
	begin, end trace.Time
}

var kept = map[string]*timeline{}

func timelineOf(path string) (*timeline, error) {
	if t := kept[path]; t != nil {
		return t, nil
	}
	t := &timeline{begin: -1}
	err := read(path, func(e trace.Event) {
		t.end = e.Time()
		if t.begin < 0 {
			t.begin = t.end
		}
		if e.Kind() == trace.EventSync {
			t.syncs = append(t.syncs, e.Time())
		}
		if e.Kind() != trace.EventStateTransition {
			return
		}
		s := e.StateTransition()
		c := change{id: s.Resource, time: e.Time(), since: e.Time()}
		from := ""
		if s.Resource.Kind == trace.ResourceGoroutine {
			f, to := s.Goroutine()
			from, c.to = f.String(), to.String()
		} else {
			f, to := s.Proc()
			from, c.to = f.String(), to.String()
		}
		if from == "Undetermined" {
			c.first, c.since = true, t.syncs[len(t.syncs)-1]
		}
		if from != c.to {
			t.changes = append(t.changes, c)
		}
	})
	return t, err
}

func keep(path string) error {
	t, err := timelineOf(path)
	kept[path] = t
	return err
}

// The time at which the generation that `at` is in is over.
func (t *timeline) nextSync(at trace.Time) trace.Time {
	for _, s := range t.syncs {
		if s > at {
			return s
		}
	}
	return t.end
}

func (t *timeline) spans(from, to trace.Time) map[trace.ResourceID][]span {
	late := t.nextSync(to)
	all := map[trace.ResourceID][]span{}
	for _, c := range t.changes {
		if c.time > late {
			break
		}
		if c.time > to && !c.first {
			continue
		}
		list := all[c.id]
		if n := len(list); n > 0 {
			list[n-1].end = c.since
		}
		all[c.id] = append(list, span{c.to, c.since, to})
	}
	return all
}

func states(path, first, last string) error {
	t, err := timelineOf(path)
	if err != nil {
		return err
	}
	n, _ := strconv.ParseInt(first, 10, 64)
	from := max(trace.Time(n), t.begin)
	to := t.end
	if n, _ = strconv.ParseInt(last, 10, 64); n != 0 {
		to = min(to, trace.Time(n))
	}
	var lines []string
	for id, list := range t.spans(from, to) {
		for _, s := range list {
			s.begin, s.end = max(s.begin, from), min(s.end, to)
			if s.begin < s.end && s.state != "NotExist" {
				lines = append(lines, fmt.Sprintf("%s %020d %s %d", id, s.begin, s.state, s.end))
			}
		}
	}
	sort.Strings(lines)
	fmt.Fprintf(&out, "range %d %d\n", from, to)
	for _, line := range lines {
		fmt.Fprintln(&out, line)
	}
	return nil
}
