// SPDX-License-Identifier: MIT
//
// Go programs that record a trace of themselves: what the tests of the trace reports read.
//
//	trace_waiting KIND OUT     KIND: channels locks network syscalls tasks
//
// Each runs for about 1.3 seconds, so that its trace has more than one generation.

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"syscall"
	"time"
)

var end time.Time

func running() bool { return time.Now().Before(end) }

func spin(d time.Duration) {
	for t := time.Now(); time.Since(t) < d; {
	}
}

func stage(in <-chan int, out chan<- int, done <-chan struct{}) {
	for {
		select {
		case v := <-in:
			spin(20 * time.Microsecond)
			select {
			case out <- v + 1:
			case <-done:
				return
			}
		case <-done:
			return
		}
	}
}

func channels() {
	done := make(chan struct{})
	first := make(chan int)
	last := first
	for i := 0; i < 4; i++ {
		next := make(chan int, i)
		go stage(last, next, done)
		last = next
	}
	for i := 0; running(); i++ {
		first <- i
		if got := <-last; got != i+4 {
			panic("pipeline")
		}
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
			runtime.Gosched()
		}
	}
	close(done)
}

func lockWorker(m *sync.Mutex, rw *sync.RWMutex, wg *sync.WaitGroup) {
	defer wg.Done()
	for running() {
		m.Lock()
		spin(50 * time.Microsecond)
		m.Unlock()
		rw.RLock()
		time.Sleep(100 * time.Microsecond)
		rw.RUnlock()
	}
}

func waiter(c *sync.Cond, wg *sync.WaitGroup) {
	defer wg.Done()
	c.L.Lock()
	for running() {
		c.Wait()
	}
	c.L.Unlock()
}

func locks() {
	var m sync.Mutex
	var rw sync.RWMutex
	var wg, ws sync.WaitGroup
	c := sync.NewCond(&sync.Mutex{})
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go lockWorker(&m, &rw, &wg)
		ws.Add(1)
		go waiter(c, &ws)
	}
	for running() {
		rw.Lock()
		time.Sleep(time.Millisecond)
		rw.Unlock()
		c.Broadcast()
		time.Sleep(2 * time.Millisecond)
	}
	wg.Wait()
	c.Broadcast()
	ws.Wait()
}

func echo(c net.Conn) {
	defer c.Close()
	io.Copy(c, c)
}

func client(address string, wg *sync.WaitGroup) {
	defer wg.Done()
	c, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	buf := make([]byte, 512)
	for running() {
		c.Write(buf)
		io.ReadFull(c, buf)
		time.Sleep(500 * time.Microsecond)
	}
}

func network() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	var wg sync.WaitGroup
	for i := 0; i < 6; i++ {
		wg.Add(1)
		go client(l.Addr().String(), &wg)
	}
	wg.Wait()
	l.Close()
}

func nap(d time.Duration) { // a system call that blocks its thread
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}

func sleeper(d time.Duration, wg *sync.WaitGroup) {
	defer wg.Done()
	for running() {
		nap(d)
		spin(100 * time.Microsecond)
	}
}

func syscalls() {
	var wg sync.WaitGroup
	for i := 1; i <= 4; i++ {
		wg.Add(1)
		go sleeper(time.Duration(i)*3*time.Millisecond, &wg)
	}
	go nap(time.Hour)               // the trace ends in it
	go func() { spin(time.Hour) }() // and it never yields
	f, _ := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	for running() {
		f.Write([]byte("x"))
		time.Sleep(300 * time.Microsecond)
	}
	wg.Wait()
}

var keep [64][]byte

func request(ctx context.Context, i int, wg *sync.WaitGroup) {
	defer wg.Done()
	ctx, task := trace.NewTask(ctx, fmt.Sprintf("request %d", i%3))
	trace.WithRegion(ctx, "parse", func() { spin(30 * time.Microsecond) })
	trace.Log(ctx, "number", fmt.Sprint(i))
	trace.WithRegion(ctx, "work", func() {
		trace.WithRegion(ctx, "inner", func() { keep[i%len(keep)] = bytes.Repeat([]byte{1}, 200000) })
		var inner sync.WaitGroup
		inner.Add(1)
		go func() { // inherits the task
			trace.WithRegion(ctx, "helper", func() { time.Sleep(time.Millisecond) })
			trace.StartRegion(ctx, "never ended")
			inner.Done()
		}()
		inner.Wait()
	})
	if i%10 != 0 {
		task.End()
	}
}

func tasks() {
	ctx, outer := trace.NewTask(context.Background(), "outer")
	var wg sync.WaitGroup
	for i := 0; running(); i++ {
		wg.Add(1)
		go request(ctx, i, &wg)
		time.Sleep(700 * time.Microsecond)
	}
	wg.Wait()
	outer.End()
}

func main() {
	kinds := map[string]func(){"channels": channels, "locks": locks, "network": network,
		"syscalls": syscalls, "tasks": tasks}
	out, err := os.Create(os.Args[2])
	if err != nil {
		panic(err)
	}
	before := make(chan int) // goroutines that are there when the trace begins
	go func() { <-before }()
	go func() { time.Sleep(500 * time.Millisecond) }()
	go nap(700 * time.Millisecond)
	region := trace.StartRegion(context.Background(), "before the trace")
	time.Sleep(time.Millisecond)
	if os.Args[1] == "tasks" {
		pprof.StartCPUProfile(io.Discard)
	}
	if err := trace.Start(out); err != nil {
		panic(err)
	}
	end = time.Now().Add(1300 * time.Millisecond)
	region.End()
	kinds[os.Args[1]]()
	trace.Stop()
}
