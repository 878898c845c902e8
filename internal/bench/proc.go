package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc (USER_HZ), the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// usage is CPU time up to a moment.
type usage struct {
	at     time.Time
	busy   time.Duration // of all processes, all cores
	self   time.Duration // this process
	server time.Duration // the server
}

// readUsage reads CPU times; what cannot be read counts as 0.
func readUsage(server int) usage {
	return usage{time.Now(), systemBusy(), processTime(os.Getpid()), processTime(server)}
}

// foreign returns the CPU others took between two readings, in percent of one core.
func (u usage) foreign(to usage) float64 {
	others := (to.busy - u.busy) - (to.self - u.self) - (to.server - u.server)
	return max(0, 100*others.Seconds()/to.at.Sub(u.at).Seconds())
}

func systemBusy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var busy int64
	for i, f := range strings.Fields(string(line))[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		const idle, iowait, guest = 3, 4, 8 // guest time is in user time already
		if i != idle && i != iowait && i < guest {
			busy += n
		}
	}
	return time.Duration(busy) * tick
}

func processTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const user, system = 11, 12 // counted from the field after the name
	if len(f) <= system {
		return 0
	}
	u, err1 := strconv.ParseInt(f[user], 10, 64)
	s, err2 := strconv.ParseInt(f[system], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(u+s) * tick
}

// rss returns the resident bytes of a process, 0 if unknown.
func rss(pid int) int64 {
	now, _ := memory(pid)
	return now
}

// memory returns the resident bytes of a process and the most there ever were, 0 if unknown.
func memory(pid int) (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		switch {
		case err != nil:
			return 0, 0
		case name == "VmRSS":
			now = n << 10
		default:
			peak = n << 10
		}
	}
	return now, peak
}

// machine describes where the numbers come from.
func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
