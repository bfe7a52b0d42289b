// Go's net package as a client: PORT WINDOW SECONDS. One goroutine reads, and
// gives each reply to the one that waits for its number.
package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	window, _ := strconv.Atoi(os.Args[2])
	seconds, _ := strconv.ParseFloat(os.Args[3], 64)
	conn, err := net.Dial("udp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	var mutex sync.Mutex
	waiting := map[uint32]chan [16]byte{}
	var sequence, replies, wrong atomic.Uint32
	go func() {
		var buffer [65536]byte
		for {
			n, err := conn.Read(buffer[:])
			if err != nil || n != 16 {
				continue
			}
			id := binary.BigEndian.Uint32(buffer[:])
			mutex.Lock()
			reply, ok := waiting[id]
			delete(waiting, id)
			mutex.Unlock()
			if ok {
				var got [16]byte
				copy(got[:], buffer[:])
				reply <- got
			}
		}
	}()
	var times []float64
	start := time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	var done sync.WaitGroup
	for i := 0; i < window; i++ {
		done.Add(1)
		go func() {
			defer done.Done()
			reply := make(chan [16]byte, 1)
			for time.Now().Before(end) {
				id := sequence.Add(1)
				var sent [16]byte
				for i := range sent {
					sent[i] = byte(id)
				}
				binary.BigEndian.PutUint32(sent[:], id)
				sentAt := time.Now()
				mutex.Lock()
				waiting[id] = reply
				mutex.Unlock()
				conn.Write(sent[:])
				select {
				case got := <-reply:
					took := float64(time.Since(sentAt).Nanoseconds()) / 1e3
					replies.Add(1)
					if got != sent {
						wrong.Add(1)
					}
					mutex.Lock()
					if len(times) < 100000 {
						times = append(times, took)
					}
					mutex.Unlock()
				case <-time.After(100 * time.Millisecond):
				}
			}
		}()
	}
	done.Wait()
	took := time.Since(start).Seconds()
	sort.Float64s(times)
	fmt.Printf("{\"repliesPerSecond\":%.0f,\"lost\":%d,\"wrong\":%d,\"medianUs\":%.2f}\n",
		float64(replies.Load())/took, sequence.Load()-replies.Load(), wrong.Load(), times[len(times)/2])
}
