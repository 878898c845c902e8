// Package doctor looks at a data directory, its mirrors and the machine around them, and says what is
// well, what may become a trouble, and what is one.
//
// Invariant: it changes nothing. It asks a running server for its status; without one it does not open
// the ledger, so that it takes no term and heals nothing. Every check has a time limit: a disk or a
// network that hangs is a finding.
package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/server"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is what one check found.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Todo  string `json:"todo,omitempty"` // what to do about it
}

// Options say what to look at.
type Options struct {
	Dir     string // absolute
	Version string // of this program

	Patience time.Duration    // for one check; 0 = 10 s
	Now      func() time.Time // nil = time.Now
	root     string           // tests: where /proc and /sys lie; empty = /
}

// patient is one look at a server's surroundings.
type patient struct {
	Options
	there    bool           // the data directory is one
	settings *config.Config // nil: cannot be read
	conn     *server.Conn   // nil: no server runs
	status   *server.Status // of the running server; nil: not known
	mounts   []mount
}

// check is one that runs beside the others.
type check struct {
	name string
	run  func(ctx context.Context) []Finding
}

// Examine runs every check and returns the findings in the order of reading. It takes a few times
// Options.Patience at most.
func Examine(ctx context.Context, o Options) []Finding {
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.root == "" {
		o.root = "/"
	}
	p := &patient{Options: o}
	p.mounts = readMounts(filepath.Join(o.root, "proc/self/mountinfo"))
	all, late := p.each(ctx, []check{{"data", p.data}})
	if late || !p.there {
		return all
	}
	found, late := p.each(ctx, []check{{"settings", p.readSettings}, {"server", p.askServer}})
	all = append(all, found...)
	if late { // what was left behind may still set p's fields
		return all
	}
	defer p.hangUp()
	if p.settings == nil {
		return all
	}
	return append(all, p.around(ctx)...)
}

// around looks at all that the settings name, and at the machine.
func (p *patient) around(ctx context.Context) []Finding {
	var mirrors []check
	for _, m := range p.settings.Mirrors {
		mirrors = append(mirrors, check{"mirror " + m.Name, func(context.Context) []Finding { return p.mirror(m) }})
	}
	if p.settings.Witness != "" {
		mirrors = append(mirrors, check{"witness", p.witness})
	}
	mirrors = append(mirrors, check{"disks", p.disks})
	all, _ := p.each(ctx, mirrors)
	found, _ := p.each(ctx, []check{
		{"clock", p.clock},
		{"listen", p.listen},
		{"certificate", p.certificate},
		{"public url", p.publicURL},
		{"limits", p.limits},
		{"supervisor", p.supervisor},
		{"alerts", p.alerts},
		{"incidents", p.incidents},
	})
	return append(all, found...)
}

// each runs checks beside each other. One that takes too long is left behind; late says that one was.
func (p *patient) each(ctx context.Context, checks []check) (all []Finding, late bool) {
	found, slow := make([][]Finding, len(checks)), make([]bool, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			cctx, cancel := context.WithTimeout(ctx, p.Patience)
			defer cancel()
			done := make(chan []Finding, 1)
			go func() { done <- c.run(cctx) }()
			end := time.NewTimer(p.Patience + p.Patience/4)
			defer end.Stop()
			select {
			case found[i] = <-done:
			case <-end.C:
				slow[i] = true
				found[i] = []Finding{{Level: Problem, Text: fmt.Sprintf("no answer within %s: a disk or a network hangs", p.Patience), Todo: "look at the kernel's log (dmesg), at network mounts and at the name server"}}
			}
			for j := range found[i] {
				found[i][j].Check = c.name
			}
		})
	}
	wg.Wait()
	for _, f := range found {
		all = append(all, f...)
	}
	return all, slices.Contains(slow, true)
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(todo, format string, args ...any) Finding {
	return Finding{Level: Warning, Text: fmt.Sprintf(format, args...), Todo: todo}
}

func bad(todo, format string, args ...any) Finding {
	return Finding{Level: Problem, Text: fmt.Sprintf(format, args...), Todo: todo}
}
