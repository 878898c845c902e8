package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/durable"
)

// limit is the least that two durable copies cost on this machine: requests of many clients are
// collected while the last group is being written, then appended to two files, each synced. There
// is no HTTP, no database and no checking in it. No server that keeps two copies can be faster.
type limit struct {
	files [2]durable.File
	at    int64
}

const (
	limitSize  = 64 << 20 // bytes of each file, zero-filled beforehand; written over and over
	limitEntry = 700      // bytes of one request: a card with its frame
)

func newLimit(dir string) (*limit, error) {
	l := &limit{}
	for i := range l.files {
		name := filepath.Join(dir, fmt.Sprintf("limit-%d", i))
		f, err := durable.Disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		if err := f.Allocate(limitSize); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		l.files[i] = f
	}
	return l, nil
}

func (l *limit) close() {
	for _, f := range l.files {
		_ = f.Close() // nothing in it is worth an error
	}
}

// run lets clients append for a while and returns how many a second were acknowledged.
func (l *limit) run(clients int, d time.Duration) (perSecond float64, err error) {
	queue := make(chan chan error, clients)
	end := time.Now().Add(d)
	var done sync.WaitGroup
	counts := make([]int, clients)
	for i := range clients {
		done.Go(func() {
			ack := make(chan error, 1)
			for time.Now().Before(end) {
				queue <- ack
				if <-ack != nil {
					return
				}
				counts[i]++
			}
		})
	}
	go func() { done.Wait(); close(queue) }()
	began := time.Now()
	for first := range queue {
		group := l.collect(first, queue)
		err = l.append(len(group))
		for _, ack := range group {
			ack <- err
		}
		if err != nil {
			return 0, fmt.Errorf("append to two files: %w", err)
		}
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func (l *limit) collect(first chan error, queue chan chan error) []chan error {
	group := []chan error{first}
	for {
		select {
		case a, ok := <-queue:
			if !ok {
				return group
			}
			group = append(group, a)
		default:
			return group
		}
	}
}

// append writes one group to both files at the same time and waits for both syncs.
func (l *limit) append(n int) error {
	b := make([]byte, n*limitEntry)
	for i := range b {
		b[i] = byte(i)
	}
	if l.at+int64(len(b)) > limitSize {
		l.at = 0
	}
	var g sync.WaitGroup
	var errs [2]error
	for i, f := range l.files {
		g.Go(func() {
			if _, errs[i] = f.WriteAt(b, l.at); errs[i] == nil {
				errs[i] = f.Sync()
			}
		})
	}
	g.Wait()
	l.at += int64(len(b))
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}
