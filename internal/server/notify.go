package server

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"holdfast/internal/ledger"
)

// notifier talks to systemd as sd_notify(3) does: datagrams to the socket that NOTIFY_SOCKET names.
// Without one every method does nothing; a nil notifier too.
type notifier struct {
	conn  net.Conn
	log   *slog.Logger
	every time.Duration // between signs of life; 0: none are wanted
	ended chan struct{}
	done  chan struct{}
}

func newNotifier(log *slog.Logger) *notifier {
	n := &notifier{log: log, ended: make(chan struct{}), done: make(chan struct{})}
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return n
	}
	conn, err := net.Dial("unixgram", path) // net reads a leading @ as an abstract name, as systemd means it
	if err != nil {
		log.Warn("the supervisor cannot be told anything", "err", err)
		return n
	}
	n.conn = conn
	// sd_watchdog_enabled(3): microseconds, meant for WATCHDOG_PID if that is set.
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && usec < int64(time.Hour/time.Microsecond) && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(usec) * time.Microsecond / 2
	}
	return n
}

func (n *notifier) send(text string) {
	if n == nil || n.conn == nil {
		return
	}
	if _, err := n.conn.Write([]byte(text)); err != nil {
		n.log.Warn("tell the supervisor", "err", err)
	}
}

// ready says that the listeners are open, and from then on what state the fence is in, with a sign of life.
func (n *notifier) ready(l *ledger.Ledger) {
	if n.conn == nil {
		close(n.done)
		return
	}
	n.send("READY=1\nSTATUS=fence " + l.Status().State)
	go func() {
		defer close(n.done)
		every, life := n.every, "WATCHDOG=1\n"
		if every == 0 {
			every, life = time.Minute, ""
		}
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				n.send(life + "STATUS=fence " + l.Status().State) // Status takes the ledger's lock: a ledger that hangs gives no sign
			case <-n.ended:
				return
			}
		}
	}()
}

// stopping says that the end has begun, and ends the signs of life.
func (n *notifier) stopping() {
	if n == nil {
		return
	}
	close(n.ended)
	<-n.done
	n.send("STOPPING=1\nSTATUS=finishing requests")
	if n.conn != nil {
		_ = n.conn.Close() // datagrams: nothing is left to send
	}
}
