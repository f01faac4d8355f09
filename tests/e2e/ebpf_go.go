// SPDX-License-Identifier: MIT
//
// What a Go program's stacks can look like: deep ones that grow, of short goroutines; garbage and its collection; maps,
// sorting, formatting; the clock, which is read on the scheduler's stack; panics; signals, by which goroutines are
// preempted. Prints "ready", and runs until it is killed.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

type node struct {
	left, right *node
	key         int
}

//go:noinline
func tree(depth int) *node {
	if depth == 0 {
		return &node{key: 1}
	}
	return &node{tree(depth - 1), tree(depth - 1), depth}
}

//go:noinline
func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.key + n.left.sum() + n.right.sum()
}

//go:noinline
func spin(n int) int {
	x := n
	for i := 0; i < n; i++ {
		x = x*31 + i
	}
	return x
}

//go:noinline
func deep(n int) int {
	var pad [64]int
	if n == 0 {
		return spin(20000)
	}
	pad[n%64] = n
	return deep(n-1) + pad[n%64]
}

//go:noinline
func trees() int { return tree(12).sum() }

//go:noinline
func words() int {
	var b strings.Builder
	for i := 0; i < 400; i++ {
		fmt.Fprintf(&b, "item %d ", i*7919%400)
	}
	w := strings.Fields(b.String())
	sort.Strings(w)
	m := map[string]int{}
	for _, s := range w {
		m[s]++
	}
	return len(m)
}

//go:noinline
func stacks() int {
	done := make(chan int)
	go func() { done <- deep(60) }()
	return <-done
}

//go:noinline
func clocks() int {
	n := 0
	for i := 0; i < 20000; i++ {
		n += int(time.Now().UnixNano() & 1)
	}
	return n
}

//go:noinline
func recovers() (n int) {
	for i := 0; i < 100; i++ {
		func() {
			defer func() { recover(); n++ }()
			deep(5)
			panic("x")
		}()
	}
	return
}

var sink int

func main() {
	fmt.Println("ready")
	for _, kind := range []func() int{trees, words, stacks, clocks, recovers} {
		go func() {
			for {
				sink += kind()
			}
		}()
	}
	var one [1]byte
	os.Stdin.Read(one[:])
	time.Sleep(time.Hour)
}
