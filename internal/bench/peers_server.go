package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/ledger"
)

// A peer is one of the servers that are measured side by side.
type peer struct {
	name             string
	user, password   string
	contacts, events string // paths of its two collections
	addr             string
	pid              int
	cmd              *exec.Cmd
	log              string // file with what it says
	book             *book
	left             map[string]string // why a row, or all of them (""), is left out
}

// leftOut returns why a row is left out; empty: it is not.
func (p *peer) leftOut(row string) string {
	if why := p.left[""]; why != "" {
		return why
	}
	return p.left[row]
}

// build names a build of this program: the one that runs, or another to compare with.
type build struct{ name, file string }

// startHoldfast loads a server with cards and events through its ledger and starts it.
func startHoldfast(ctx context.Context, dir string, b build, cards int, profile string) (*peer, error) {
	u := &user{name: "user", loaded: cards}
	l, err := createServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	err = fillHoldfast(ctx, l, u)
	if err = errors.Join(err, l.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	s, err := startBuild(ctx, b.file, dir, profile, u)
	if err != nil {
		return nil, err
	}
	home := "/dav/" + u.name + "/"
	return &peer{
		name: b.name, user: u.name, password: u.password, contacts: home + "contacts/", events: home + "calendar/",
		addr: s.addr, pid: s.pid, cmd: s.cmd, book: newBook(cards), left: map[string]string{},
	}, nil
}

func fillHoldfast(ctx context.Context, l *ledger.Ledger, u *user) error {
	a := auth.New(auth.Config{Ledger: l, Log: logger()})
	acct, err := a.AddAccount(ctx, u.name, rand.Text())
	if err != nil {
		return err
	}
	u.id = acct.ID
	if _, u.password, err = a.AddDevice(ctx, u.name, "bench"); err != nil {
		return err
	}
	// One change each, as devices send them: a body inside a change of thousands is dearer to read.
	put := func(coll, ext, contentType string, count int, object func(int) (string, []byte)) error {
		var next atomic.Int64
		errs := make([]error, 64)
		var g sync.WaitGroup
		for w := range errs {
			g.Go(func() {
				for i := int(next.Add(1)) - 1; i < count && errs[w] == nil; i = int(next.Add(1)) - 1 {
					name, body := object(i)
					_, errs[w] = l.Update(ctx, u.id, 0, func(tx *ledger.Tx) error {
						c, err := tx.Child(holdfast.Root, coll)
						if err == nil {
							tx.Put(c.ID, name+ext, contentType, time.Now().UnixMilli(), ledger.InlineBody(body))
						}
						return err
					})
				}
			})
		}
		g.Wait()
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("fill %s: %w", coll, err)
		}
		return nil
	}
	err = put("contacts", ".vcf", "text/vcard; charset=utf-8", u.loaded, func(i int) (string, []byte) { return loadedName(i), card(loadedName(i), 0) })
	if err != nil {
		return err
	}
	return put("calendar", ".ics", "text/calendar; charset=utf-8", eventCount, func(i int) (string, []byte) { return eventName(i), event(i) })
}

// startNull starts the least server there can be: the generator's own limit.
func startNull(ctx context.Context, cards int) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "-null", strconv.Itoa(cards))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("connect to process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start process: %w", err)
	}
	p := &peer{name: nullName, contacts: nullContacts, events: nullEvents, cmd: cmd, pid: cmd.Process.Pid, book: newBook(cards), left: map[string]string{}}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("read address: %w", err)
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// writeObjects writes cards or events as files, as both peers keep them.
func writeObjects(dir string, cards, events int) error {
	for i := range cards {
		if err := os.WriteFile(filepath.Join(dir, loadedName(i)+".vcf"), card(loadedName(i), 0), 0o644); err != nil {
			return fmt.Errorf("write card: %w", err)
		}
	}
	for i := range events {
		if err := os.WriteFile(filepath.Join(dir, eventName(i)+".ics"), event(i), 0o644); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	return nil
}

// startRadicale starts Radicale with its files laid out as its documentation says, without a login, which is
// its default and the fastest; its defaults otherwise, but for more connections than eight.
func startRadicale(ctx context.Context, dir string, cards int) (*peer, error) {
	for coll, tag := range map[string]string{"contacts": "VADDRESSBOOK", "calendar": "VCALENDAR"} {
		at := filepath.Join(dir, "collection-root", "user", coll)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, fmt.Errorf("make collection: %w", err)
		}
		if err := os.WriteFile(filepath.Join(at, ".Radicale.props"), []byte(`{"tag": "`+tag+`"}`), 0o644); err != nil {
			return nil, fmt.Errorf("make collection: %w", err)
		}
		n, m := cards, 0
		if tag == "VCALENDAR" {
			n, m = 0, eventCount
		}
		if err := writeObjects(at, n, m); err != nil {
			return nil, err
		}
	}
	p := &peer{name: "Radicale", user: "user", password: "x", contacts: "/user/contacts/", events: "/user/calendar/", book: newBook(cards), left: map[string]string{}}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return p, p.launch(ctx, dir, addr, "radicale", "--config", "", "--server-hosts", addr, "--storage-filesystem-folder", dir,
		"--server-max-connections", "256", "--server-timeout", "600", "--auth-type", "none", "--logging-level", "error")
}

// startXandikos lets Xandikos make its two collections, puts the files into their repositories with git, and
// starts it again. It has no login.
func startXandikos(ctx context.Context, dir string, cards int) (*peer, error) {
	p := &peer{name: "Xandikos", user: "user", password: "x", contacts: "/user/contacts/addressbook/", events: "/user/calendars/calendar/", book: newBook(cards), left: map[string]string{}}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	command := []string{"xandikos", "--directory", dir, "--listen-address", host, "--port", port, "--defaults"}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := p.launch(ctx, dir, addr, command...); err != nil {
		return nil, err
	}
	p.stop()
	for path, counts := range map[string][2]int{p.contacts: {cards, 0}, p.events: {0, eventCount}} {
		at := filepath.Join(dir, filepath.FromSlash(path))
		if err := writeObjects(at, counts[0], counts[1]); err != nil {
			return nil, err
		}
		for _, args := range [][]string{{"add", "."}, {"-c", "user.name=bench", "-c", "user.email=bench@example.org", "commit", "-q", "-m", "load"}} {
			if out, err := exec.CommandContext(ctx, "git", append([]string{"-C", at}, args...)...).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("git %s: %w: %s", args[0], err, out)
			}
		}
	}
	return p, p.launch(ctx, dir, addr, command...)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// launch starts a peer's program and waits until it takes connections.
func (p *peer) launch(ctx context.Context, dir, addr string, command ...string) error {
	p.addr, p.log = addr, dir+".log"
	if err := os.WriteFile(p.log, nil, 0o644); err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	file, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = io.Discard, file
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.pid = cmd, cmd.Process.Pid
	for began := time.Now(); time.Since(began) < 30*time.Second && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return conn.Close()
		}
	}
	p.stop()
	said, _ := os.ReadFile(p.log) // only to show it
	return fmt.Errorf("%s takes no connection at %s; it said: %s", p.name, addr, said[max(0, len(said)-2000):])
}

// stop ends the server.
func (p *peer) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // how it ends is not measured
	timer.Stop()
	p.cmd = nil
}
