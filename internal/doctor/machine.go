package doctor

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/server"
)

// askServer asks the server that runs on the directory, if one does.
func (p *patient) askServer(ctx context.Context) []Finding {
	conn, err := server.Running(ctx, p.Dir)
	if err != nil {
		return []Finding{bad("run it as the user of the server, or as root", "the running server cannot be asked: %v", reason(err))}
	}
	if conn == nil {
		return []Finding{warn("start it: docs/runbooks/systemd.md, or: holdfast serve --data "+config.ShellWord(p.Dir), "not running: devices are waiting for it")}
	}
	var st server.Status
	if err := conn.Call(ctx, "status", server.Nothing{}, &st); err != nil {
		_ = conn.Close() // it was of no use
		return []Finding{bad("look at its log; the supervisor restarts one that hangs", "the running server does not say how it is: %v", err)}
	}
	p.conn, p.status = conn, &st
	out := []Finding{ok("running, process %d, fence %s", st.PID, st.State)}
	for _, t := range st.Troubles() {
		out = append(out, bad(cmp.Or(st.Todo, "holdfast status --data "+config.ShellWord(p.Dir)+" says what to do"), "%s", t))
	}
	if st.Version != p.Version {
		out = append(out, warn("restart the server after an update", "the server is %s, this program is %s", st.Version, p.Version))
	}
	if info, err := os.Stat(filepath.Join(p.Dir, "holdfast.conf")); err == nil && st.Started != nil && info.ModTime().After(*st.Started) {
		out = append(out, warn("restart the server, so that it reads it", "holdfast.conf was changed after the server was started"))
	}
	return out
}

func (p *patient) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close() // only questions were asked
	}
}

// clockSlack is how much later than now a file may have been written: another machine's clock, rounding.
const clockSlack = 2 * time.Minute

// clock compares the clock with the newest file that the server wrote, and asks whether it is kept right.
func (p *patient) clock(context.Context) []Finding {
	now := p.Now()
	var newest time.Time
	var where string
	look := func(name string) {
		if info, err := durable.Disk.Stat(name); err == nil && info.Modified.After(newest) {
			newest, where = info.Modified, name
		}
	}
	look(filepath.Join(p.Dir, headsName))
	for _, m := range p.settings.Mirrors {
		look(filepath.Join(m.Path, headsName))
		look(filepath.Join(m.Path, "term")) // a directory: changed by the newest claim
	}
	var out []Finding
	if newest.After(now.Add(clockSlack)) {
		out = append(out, bad("set the clock right (timedatectl); the ledger goes by numbers and loses nothing, but certificates and reports go by the clock",
			"it is %s here, but %s was written on %s: the clock went back", stamp(now), where, stamp(newest)))
	}
	switch kept, known := clockKept(); {
	case known && !kept:
		out = append(out, warn("switch on time synchronisation: timedatectl set-ntp true", "the kernel says that nobody keeps the clock right"))
	case !known:
		out = append(out, ok("%s; whether somebody keeps it right cannot be told here", stamp(now)))
	default:
		out = append(out, ok("%s, kept right by the network", stamp(now)))
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// spareFiles is how many files the server has open besides connections.
const spareFiles = 512

// limits compares what the kernel gives with what the settings need.
func (p *patient) limits(context.Context) []Finding {
	need := uint64(p.settings.MaxConnections + spareFiles)
	have, of := uint64(0), "this shell"
	if p.status != nil {
		have, of = p.openFiles(p.status.PID), "the server"
	}
	if have == 0 {
		var r syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
			return []Finding{ok("not known here")}
		}
		have, of = uint64(r.Max), "this shell" // Go raises the soft limit to it
	}
	if have < need {
		return []Finding{warn("LimitNOFILE=65536 in the systemd unit, or ulimit -n; or a lower max_connections", "%s may open %d files, max_connections = %d needs %d", of, have, p.settings.MaxConnections, need)}
	}
	return []Finding{ok("%s may open %d files", of, have)}
}

// openFiles reads the limit of a process; 0: not known.
func (p *patient) openFiles(pid int) uint64 {
	f, err := os.Open(filepath.Join(p.root, "proc", strconv.Itoa(pid), "limits"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "Max open files")
		if fields := strings.Fields(rest); ok && len(fields) > 0 {
			if fields[0] == "unlimited" {
				return 1 << 40
			}
			n, _ := strconv.ParseUint(fields[0], 10, 64) // 0: not known
			return n
		}
	}
	return 0
}

// supervisor says whether somebody starts the server again after exit code 75.
func (p *patient) supervisor(context.Context) []Finding {
	const todo = "run it under systemd (docs/runbooks/systemd.md) or another supervisor that starts it again, at once after exit code 75"
	if p.status == nil {
		return []Finding{ok("is looked at while the server runs")}
	}
	b, err := os.ReadFile(filepath.Join(p.root, "proc", strconv.Itoa(p.status.PID), "environ"))
	if err != nil {
		return []Finding{ok("not known: this user may not look at process %d", p.status.PID)}
	}
	vars := strings.Split(string(b), "\x00")
	has := func(name string) bool {
		return slices.ContainsFunc(vars, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	_, inDocker := os.Stat(filepath.Join(p.root, ".dockerenv"))
	switch {
	case has("NOTIFY_SOCKET"):
		return []Finding{ok("systemd is told how the server is and starts it again")}
	case has("INVOCATION_ID"):
		return []Finding{warn("use contrib/holdfast.service: Type=notify and RestartForceExitStatus=75", "systemd runs the server, but is not told how it is")}
	case has("KUBERNETES_SERVICE_HOST"), has("container"), inDocker == nil:
		return []Finding{ok("a container's: make its restart policy always")}
	}
	return []Finding{warn(todo, "nobody seems to start the server again when it must end to be safe (exit code 75)")}
}

// alerts says whether anybody would hear of a trouble.
func (p *patient) alerts(context.Context) []Finding {
	var out []Finding
	var ways []string
	if p.settings.AlertWebhook != "" {
		ways = append(ways, "a webhook")
	}
	if n := len(p.settings.AlertMailTo); n > 0 {
		ways = append(ways, fmt.Sprintf("mail to %d", n))
	}
	if len(ways) == 0 {
		out = append(out, warn("set alert_webhook or alert_mail_server in holdfast.conf, then: holdfast alert test --data "+config.ShellWord(p.Dir), "nobody is told when the fence closes"))
	} else {
		out = append(out, ok("%s, after %s (try: holdfast alert test --data %s)", strings.Join(ways, " and "), p.settings.AlertAfter, config.ShellWord(p.Dir)))
	}
	if p.settings.HeartbeatURL == "" {
		out = append(out, warn("set heartbeat_url in holdfast.conf to a watcher elsewhere: docs/monitoring.md", "nobody notices when this machine is dead: there is no heartbeat"))
	} else {
		out = append(out, ok("a heartbeat every %s", p.settings.HeartbeatEvery))
	}
	return out
}
