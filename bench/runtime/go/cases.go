// SPDX-License-Identifier: MIT

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func runYield(ops int) {
	var wg sync.WaitGroup
	each := ops / 2
	begin()
	for range 2 {
		wg.Add(1)
		go func() {
			for range each {
				runtime.Gosched()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	end(2 * each)
}

var (
	ran   atomic.Int64
	spawn sync.WaitGroup
)

func count() {
	ran.Add(1)
	spawn.Done()
}

func runSpawnSequential(ops int) {
	begin()
	for range ops {
		spawn.Add(1)
		go count()
		spawn.Wait()
	}
	end(ops)
	must(ran.Load() == int64(ops), "all ran")
}

func batch(ops int) {
	spawn.Add(ops)
	for range ops {
		go count()
	}
	spawn.Wait()
}

func runSpawnBatch(ops int) {
	begin()
	batch(ops)
	end(ops)
	must(ran.Load() == int64(ops), "all ran")
}

func runSpawnBatchAgain(ops int) {
	batch(ops)
	begin()
	batch(ops)
	end(ops)
	must(ran.Load() == int64(2*ops), "all ran")
}

func runPingpong(ops int) {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	begin()
	for i := range ops {
		there <- i
		must(<-back == i, "the same comes back")
	}
	end(ops)
	close(there)
}

func runBuffered(ops int) {
	c := make(chan int, 128)
	begin()
	go func() {
		for i := range ops {
			c <- i
		}
		close(c)
	}()
	n := 0
	for v := range c {
		must(v == n, "in order")
		n++
	}
	end(ops)
	must(n == ops, "all arrived")
}

func runSelect(ops int) {
	there, back, quit := make(chan int), make(chan int), make(chan struct{})
	go func() {
		for {
			select {
			case v := <-there:
				back <- v
			case <-quit:
				return
			}
		}
	}()
	begin()
	for i := range ops {
		there <- i
		select {
		case v := <-back:
			must(v == i, "the same comes back")
		case <-quit:
			panic("quit")
		}
	}
	end(ops)
	close(quit)
}

var (
	mutex   sync.Mutex
	counter int
)

func lockLoop(n int) {
	for range n {
		mutex.Lock()
		counter++
		mutex.Unlock()
	}
}

func runMutex(ops int) {
	begin()
	lockLoop(ops)
	end(ops)
	must(counter == ops, "counted")
}

func runMutexMany(ops, goroutines int) {
	each := ops / goroutines
	var wg sync.WaitGroup
	begin()
	for range goroutines {
		wg.Add(1)
		go func() {
			lockLoop(each)
			wg.Done()
		}()
	}
	wg.Wait()
	end(each * goroutines)
	must(counter == each*goroutines, "counted")
}

// Timers of one's own that are used again, as fib_timer is: AfterFunc, which allocates, is slower.
func runTimers(ops int) {
	const timers = 1024
	var fired atomic.Int64
	var t [timers]*time.Timer
	for i := range t {
		t[i] = time.AfterFunc(time.Hour, func() { fired.Add(1) })
		t[i].Stop()
	}
	stopped := 0
	begin()
	for i := range ops {
		t[i%timers].Reset(time.Duration(3600+i%7) * time.Second)
		if t[(i+timers/2)%timers].Stop() {
			stopped++
		}
	}
	end(ops)
	must(stopped == ops-timers/2 && fired.Load() == 0, "stopped, none fired")
}

func runSleepStorm(ops int) {
	const fibers = 50000
	sleeps := ops / fibers
	var early atomic.Int64
	var wg sync.WaitGroup
	begin()
	wg.Add(fibers)
	for range fibers {
		go func() {
			for range sleeps {
				before := time.Now()
				time.Sleep(time.Millisecond)
				if time.Since(before) < time.Millisecond {
					early.Add(1)
				}
			}
			wg.Done()
		}()
	}
	wg.Wait()
	end(sleeps * fibers)
	must(early.Load() == 0, "none woke early")
}

func node(up chan int, number, size int) {
	if size == 1 {
		up <- number
		return
	}
	c := make(chan int)
	for i := range 10 {
		go node(c, number+i*(size/10), size/10)
	}
	sum := 0
	for range 10 {
		sum += <-c
	}
	up <- sum
}

func runSkynet(ops int) {
	up := make(chan int)
	begin()
	go node(up, 0, ops)
	sum := <-up
	end(ops)
	must(sum == ops*(ops-1)/2, "the sum")
}

func runParked(ops int) {
	gate := make(chan struct{})
	var arrived atomic.Int64
	var left sync.WaitGroup
	left.Add(ops)
	before := memoryBytes()
	begin()
	started := time.Now()
	for range ops {
		go func() {
			arrived.Add(1)
			<-gate
			left.Done()
		}()
	}
	for arrived.Load() < int64(ops) {
		runtime.Gosched()
	}
	parked := time.Now()
	after := memoryBytes()
	closed := time.Now()
	close(gate)
	left.Wait()
	ended := time.Now()
	end(ops)
	result["bytes"] = float64(after-before) / float64(ops)
	result["park_ns"] = float64(parked.Sub(started))
	result["end_ns"] = float64(ended.Sub(closed))
}
