package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast"
)

// mirrorVerb is a change of the mirrors as a command does it. It may be done again after it failed.
type mirrorVerb struct {
	name string
	do   func(r *rig) error
	done string // the mirror that counts afterwards
}

var mirrorVerbs = []mirrorVerb{
	{"add", func(r *rig) error { return r.tryAdd("new") }, "new"},
	{"replace living", func(r *rig) error { return r.tryReplace("m1", false) }, "m1"},
	{"replace dead", func(r *rig) error {
		if err := os.RemoveAll(filepath.Join(r.root(), "mirror1")); err != nil {
			return err
		}
		return r.tryReplace("m1", true)
	}, "m1"},
	{"replace dead while held", func(r *rig) error {
		if err := os.RemoveAll(filepath.Join(r.root(), "mirror1")); err != nil {
			return err
		}
		if r.path("m1") == filepath.Join(r.root(), "mirror1") {
			if r.put("held", "x") == nil {
				return errors.New("acknowledged without a mirror")
			}
			r.until("the fence is held or closed", func(s Status) bool { return s.State != "open" })
		}
		return r.tryReplace("m1", true)
	}, "m1"},
	{"remove", func(r *rig) error { return r.tryRemove("m1") }, "m2"},
	{"policy", func(r *rig) error {
		r.cfg.Policy, r.cfg.Copies = Degraded, 1
		return r.SetPolicy(Degraded, 1)
	}, "m1"},
}

func (r *rig) root() string { return filepath.Dir(r.cfg.Dir) }

// tryAdd is what the command does, in its order: marker, settings, ledger.
func (r *rig) tryAdd(name string) error {
	c := MirrorConfig{name, filepath.Join(r.root(), "added-"+name)}
	if !slices.Contains(r.cfg.Mirrors, c) {
		if _, err := r.CreateMirror(context.Background(), c); err != nil {
			return err
		}
		r.cfg.Mirrors = append(slices.Clone(r.cfg.Mirrors), c)
	}
	if err := r.AddMirror(c); !errors.Is(err, holdfast.ErrExists) {
		return err
	}
	return nil
}

func (r *rig) tryReplace(name string, giveUp bool) error {
	c := MirrorConfig{name, filepath.Join(r.root(), "instead-"+name)}
	i := slices.IndexFunc(r.cfg.Mirrors, func(m MirrorConfig) bool { return m.Name == name })
	if r.cfg.Mirrors[i] == c {
		return nil
	}
	id, err := r.CreateMirror(context.Background(), c)
	if err != nil {
		return err
	}
	return r.ReplaceMirror(c, id, giveUp, func() error {
		r.cfg.Mirrors = slices.Clone(r.cfg.Mirrors)
		r.cfg.Mirrors[i] = c
		return nil
	})
}

func (r *rig) tryRemove(name string) error {
	if err := r.RemoveMirror(name); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	r.cfg.Mirrors = slices.DeleteFunc(slices.Clone(r.cfg.Mirrors), func(m MirrorConfig) bool { return m.Name == name })
	return nil
}

// planter makes the n-th step that is done fail, or calls back there.
type planter struct {
	mu    sync.Mutex
	on    bool
	steps []string
	at    int // 0: none
	then  func() error
}

func (p *planter) fault(step string) error {
	p.mu.Lock()
	if !p.on || step == "before append" || step == "after append" || step == "before look" || step == "after look" || step == "before commit" || step == "after commit" {
		p.mu.Unlock()
		return nil
	}
	p.steps = append(p.steps, step)
	hit := len(p.steps) == p.at
	p.mu.Unlock()
	if hit {
		return p.then()
	}
	return nil
}

func faultRig(t *testing.T, p *planter) *rig {
	r := newRig(t, withMirrors(2, Strict, 0))
	for i := range 20 {
		r.mustPut(fmt.Sprint("c", i), fmt.Sprint(i))
	}
	r.Ledger.fault = p.fault
	p.on = true
	return r
}

// The fault table of each verb: every durable step of it fails before it was done, or after, or the process
// is killed there. The verb can be said again, ends well, and nothing that was acknowledged is lost in
// store or mirrors.
func TestMirrorVerbFaults(t *testing.T) {
	t.Parallel()
	for _, v := range mirrorVerbs {
		dry := &planter{}
		r := faultRig(t, dry)
		must(t, v.do(r))
		r.counts(v.done)
		dry.mu.Lock()
		n := len(dry.steps)
		t.Logf("%s: %v", v.name, dry.steps)
		dry.mu.Unlock()
		r.close(r.Ledger)
		if n == 0 && v.name != "policy" {
			t.Errorf("%s has no step", v.name)
		}
		every := 1
		if testing.Short() {
			every = 3
		}
		for at := 1; at <= n; at += every {
			for _, cause := range []error{errPlanted, holdfast.ErrFatal, errPowerOff} {
				t.Run(fmt.Sprintf("%s/%d/%v", v.name, at, cause), func(t *testing.T) {
					t.Parallel()
					if cause == errPowerOff {
						killedVerb(t, v, at)
					} else {
						failedVerb(t, v, at, cause)
					}
				})
			}
		}
	}
}

var errPowerOff = errors.New("killed")

func failedVerb(t *testing.T, v mirrorVerb, at int, cause error) {
	p := &planter{at: at, then: func() error { return cause }}
	r := faultRig(t, p)
	if err := v.do(r); err != nil && !errors.Is(err, cause) {
		t.Fatalf("%s: %v", v.name, err)
	}
	if errors.Is(cause, holdfast.ErrFatal) { // whoever it hits, the next process ends it
		r.close(r.Ledger)
		r.Ledger = nil
		l, err := Open(context.Background(), r.cfg)
		must(t, err)
		r.Ledger = l
		t.Cleanup(func() { r.close(l) })
		if !strings.HasPrefix(v.name, "replace dead") {
			r.waitOpen()
		}
	}
	if err := v.do(r); err != nil {
		t.Fatalf("%s again: %v", v.name, err)
	}
	r.counts(v.done)
	r.putAgain("after", "x")
	r.verify()
	r.alone(v.done)
}

// killedVerb copies what the disks have at that step, while writes go on, and starts from the copy.
func killedVerb(t *testing.T, v mirrorVerb, at int) {
	image := filepath.Join(t.TempDir(), "image")
	p := &planter{at: at}
	r := faultRig(t, p)
	var acked map[string]string
	var cfg Config
	taken := make(chan struct{})
	p.then = func() error {
		r.mu.Lock()
		acked, cfg = maps.Clone(r.acked), r.cfg
		r.mu.Unlock()
		must(t, os.CopyFS(image, os.DirFS(r.root())))
		close(taken)
		return nil
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = r.put(fmt.Sprint("w", i%9), fmt.Sprintf("%08d", i))
			}
		}
	})
	must(t, v.do(r))
	r.counts(v.done)
	close(stop)
	writer.Wait()
	r.close(r.Ledger)
	select {
	case <-taken:
	default:
		return // under load it went another way, with fewer steps
	}
	after := &rig{t: t, cfg: moved(t, cfg, r.root(), image), cards: r.cards, acked: map[string]string{}}
	l, err := Open(context.Background(), after.cfg)
	must(t, err)
	after.Ledger = l
	t.Cleanup(func() { after.close(l) })
	if !strings.HasPrefix(v.name, "replace dead") {
		after.waitOpen()
	}
	must(t, v.do(after))
	after.counts(v.done)
	for name, want := range acked { // a newer value of the same writer is right: it was on its way
		if got, err := after.get(name); err != nil || got < want {
			t.Errorf("%s: got %q, %v; want %q or newer", name, got, err, want)
		}
	}
	after.putAgain("after", "x")
	after.alone(v.done)
}

// moved is a configuration whose directories were copied from root to image.
func moved(t *testing.T, cfg Config, root, image string) Config {
	cfg.Dir = filepath.Join(image, filepath.Base(cfg.Dir))
	cfg.Mirrors = slices.Clone(cfg.Mirrors)
	for i, m := range cfg.Mirrors {
		cfg.Mirrors[i].Path = filepath.Join(image, filepath.Base(m.Path))
	}
	must(t, editHeads(cfg.Dir, func(f *headFile) {
		for i := range f.Members {
			f.Members[i].Path = strings.Replace(f.Members[i].Path, root+"/", image+"/", 1)
		}
	}))
	return cfg
}
