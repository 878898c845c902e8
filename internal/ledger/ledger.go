// Package ledger is the one door to the data. A change goes through Update: store commit, every
// mirror durable, claims read, durable head moved and published, return (DESIGN.md section 3). A
// read goes through View and sees nothing beyond the durable head.
//
// Invariants: L1-L3, L6, L8, L12, F1-F8 and the rules R1-R12 of the checked models, as far as one
// process needs them. Its files: heads (head file, see docs/formats/heads.md) and incidents/ in the
// data directory; all else belongs to store, blob and mirror.
//
// The life of a write: update.go (queue, commit), ship.go (mirrors, claims, acknowledgement).
// The life of a process: keeper.go (start, held, closed), prove.go (claim, read, compare), heal.go
// (store from mirror), refill.go (mirror from store).
package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/limit"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// The nouns of the store that protocols see.
type (
	Resource   = store.Resource
	Collection = store.Collection
	Delta      = store.Delta
	Touch      = store.Touch
)

// MirrorConfig names one mirror: a directory, best on another disk or machine than the store.
type MirrorConfig struct {
	Name string // for people and logs
	Path string
}

// Config says where a ledger lives.
type Config struct {
	Dir           string            // the data directory: store/, blobs/, heads, incidents/
	Server        holdfast.ServerID // as init made it
	Mirrors       []MirrorConfig    // the live ones of them have a change before it is acknowledged
	Policy        Policy            // what is done while a mirror is away; empty = Strict
	Copies        int               // mirrors that must have a change (K); 0 = all
	Witness       string            // directory of the head witness in a third place; "" = none
	SegmentSize   int64             // bytes of a mirror's segment; 0 = the mirror's default
	MirrorTimeout time.Duration     // how long a step may wait for a mirror or the witness before that counts as away; 0 = 5 s, negative = for ever (the simulator)
	MinFree       int64             // bytes that store and mirrors keep free; below, writes get ErrFull; 0 = 32 MiB
	Log           *slog.Logger
	ScrubRate     int64            // bytes a second that a scrub reads at least; 0: as fast as it can
	FS            durable.FS       // under store, blobs, mirrors and head files; nil = durable.Disk
	Now           func() time.Time // nil = time.Now; for people and reports, never for order

	Notify  func(Event)                           // hears of what people must know; must not block; nil = nobody does
	Observe func(step string, took time.Duration) // measures each durable step and each acknowledgement; nil = nobody does

	// Visit: a command looks in while no server runs. It does not take the mirrors from a process that works on
	// another copy of the data directory and lives, or may live (visit.go); a server, which serves, does.
	Visit bool

	// Look: a command that only reads. Nothing is claimed and nothing healed; Update is refused (look.go). It goes
	// with Visit.
	Look bool

	alive func(*mirror.Claim) bool // nil = look at the process table; only tests set it
	host  string                   // "" = the machine's; only tests set it

	vfs    string  // SQLite's name for FS; only the simulator sets it
	hooks  hooks   // only the simulator and tests set any
	bounds *bounds // set by open

	elapsed func() time.Duration // monotonic, since the start; nil = the machine's; only tests set it

	// Unfenced answers a sync token that proves a loss as other servers do: unknown, start over. Nothing
	// else differs. Only internal/demo sets it, on its own temporary server over files of last night, to
	// show what phones do then; no configuration leads here.
	Unfenced bool
}

const defaultMinFree = 32 << 20

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MinFree == 0 {
		c.MinFree = defaultMinFree
	}
	if c.MirrorTimeout == 0 {
		c.MirrorTimeout = defaultMirrorTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.FS == nil {
		c.FS = durable.Disk
	}
	return c
}

// Ledger is the open ledger of one data directory. All methods may be called at the same time.
type Ledger struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	instance string // names this data directory in claims
	blobs    *homeBlobs
	queue    *queue
	readers  *limit.Pool // of the store's connections, which accounts share
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the keeper has ended
	fatal    chan error
	fault    func(step string) error // tests: called before and after each durable step
	free     probes                  // of Status
	under    underway                // steps of the write path
	rebuilt  atomic.Int64            // when the store was last given up for damage, or that proved impossible; Unix seconds
	scrub    *scrubber
	jobs     chan *job     // for the committer, between two batches
	alarm    chan error    // what a reader or the watch saw: the store or a claim may be false
	overtake chan struct{} // has one item when an operator says that the other server is dead

	takeOver *takeOver // not nil: an operator's word that these mirrors may be claimed from another

	// The keeper's own.
	unused   holdfast.Term       // claimed in every mirror, no log of it begun
	begun    int                 // logs begun since the fence was open last
	suspect  error               // what the store gave was false: it is to be made anew from the mirrors
	failing  map[string]error    // mirrors that failed and have not been complete since; guarded by mu
	floor    uint64              // the highest term that a joining mirror had claimed in it
	joinWait map[string]joinWait // when mirrors that could not join are tried again; the session's, one at a time
	honest   map[string]bool     // by id: mirrors that are behind, and knew of changes that the store had lost

	headsMu lock // who holds it writes DIR/heads; taken before mu

	mu         sync.RWMutex // guards all below
	state      fence.State
	reason     fence.Reason
	since      time.Time
	changed    chan struct{} // closed and made anew whenever state changes
	db         *sharedStore  // nil while closed
	mirrors    []*mirror.Mirror
	buckets    []*dir.Dir
	positions  []uint64 // of each mirror's log when the durable heads last moved
	term       holdfast.Term
	paths      *paths
	heads      map[holdfast.AccountID]holdfast.AccountHead // durable heads
	shut       map[holdfast.AccountID]closure              // accounts whose own fence is closed, and why
	lost       map[holdfast.AccountID]holdfast.AccountHead // what a witness knows of them
	damaged    map[holdfast.AccountID]bool                 // accounts whose rows were damaged when the process before ended; until the first session
	doubted    map[string]bool                             // mirrors that gave what is false and were not refilled since
	tokens     []fence.Witness                             // sync tokens that proved a loss
	decisions  map[holdfast.AccountID]*decision            // an operator's, that the next proof carries out
	audiences  map[holdfast.AccountID]*audience            // who wants to hear of an account's durable head
	macKey     []byte
	info       []MirrorStatus
	heals      []HealStatus
	witnessAt  string         // directory of the head witness; "" = none
	third      *WitnessStatus // nil: none is configured
	foreign    int            // sync tokens refused for a wrong MAC or server
	foreigners map[foreignDevice]ForeignStatus
	conflicts  int                    // times that another server owned the mirrors
	refusals   int                    // times that the keeper stopped because of it
	awaiting   bool                   // it waits for an operator's word
	claimants  []Claimant             // who did, when it stopped last
	granted    map[holdfast.Term]bool // claims that an operator was shown and told this process to take
	headsDue   bool
	heard      map[string]bool // records of snapshots of which a person heard from this process

	mirrorsAt    []MirrorConfig // the configured mirrors
	rules        rules
	members      []member      // as in DIR/heads
	membersDoubt bool          // a write of DIR/heads failed: it may say something else
	session      *session      // that serves, or is about to; nil: none
	joinNow      chan struct{} // has one item when mirrors or rules changed
}

// Create makes the store, the mirrors and account 0 of a new server. Every place must be new or
// empty. An error leaves a directory that Open refuses; remove it and run init again.
func Create(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	if len(cfg.Mirrors) == 0 {
		return fmt.Errorf("create ledger without a mirror: %w", holdfast.ErrInvalid)
	}
	for _, m := range cfg.Mirrors {
		if err := createMirror(ctx, cfg, m); err != nil {
			return fmt.Errorf("create mirror %s: %w", m.Name, err)
		}
	}
	for _, d := range []string{"store", "blobs", "incidents"} {
		if err := durable.MkdirAll(cfg.FS, filepath.Join(cfg.Dir, d)); err != nil {
			return fmt.Errorf("create %s: %w", d, err)
		}
	}
	st, err := store.Create(ctx, storeConfig(cfg))
	if err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	if err := st.Close(); err != nil {
		return fmt.Errorf("close new store: %w", err)
	}
	if err := createHeadFile(cfg, nil); err != nil {
		return err
	}
	l, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	err = l.WaitOpen(ctx)
	if err == nil {
		err = l.createServer(ctx)
	}
	return errors.Join(err, l.Close(ctx))
}

// createServer makes account 0: the collections of the server's own records, and the key that signs sync tokens.
func (l *Ledger) createServer(ctx context.Context) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never returns an error
	_, err := l.Update(ctx, holdfast.Server, 0, func(tx *Tx) error {
		if tx.Head().Head.Seq != 0 {
			return fmt.Errorf("account 0: %w", holdfast.ErrExists)
		}
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindRecord})
		var keys holdfast.CollectionID
		for _, name := range []string{"accounts", "devices", snapshotsCollection, keysCollection} {
			keys = tx.NewCollection(holdfast.Root, name, holdfast.KindRecord, nil)
		}
		tx.Put(keys, tokenKeyName, "application/json", l.now().UnixMilli(), InlineBody(encodeTokenKey(key)))
		return nil
	})
	if err != nil {
		return fmt.Errorf("create account 0: %w", err)
	}
	return nil
}

// Open starts the ledger of an existing data directory and returns at once. The fence is closed
// until store and mirrors have been compared; until then View and Update return ErrFenced.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	return open(ctx, cfg.withDefaults(), nil)
}

func open(ctx context.Context, cfg Config, t *takeOver) (*Ledger, error) {
	if err := (rules{cfg.Policy, cfg.Copies}).check(len(cfg.Mirrors)); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	hf, err := readHeadFile(cfg)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	bl, err := openBlobs(cfg)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	cfg.bounds = newBounds(cfg)
	kctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Ledger{
		cfg: cfg, started: time.Now(), log: cfg.Log.With("pkg", "ledger"), instance: hf.Instance, blobs: bl,
		queue: newQueue(), readers: limit.NewPool(store.Readers, store.Readers-1, maxReading), cancel: cancel, ended: make(chan struct{}), fatal: make(chan error, 1), alarm: make(chan error, 1), jobs: make(chan *job),
		changed: make(chan struct{}), reason: fence.Reason{Code: fence.Starting}, since: cfg.Now(),
		heads: map[holdfast.AccountID]holdfast.AccountHead{}, shut: map[holdfast.AccountID]closure{},
		headsMu:   newLock(),
		audiences: map[holdfast.AccountID]*audience{}, doubted: map[string]bool{}, tokens: hf.tokenWitnesses(),
		takeOver: t, overtake: make(chan struct{}, 1), decisions: map[holdfast.AccountID]*decision{}, foreigners: map[foreignDevice]ForeignStatus{},
		failing: map[string]error{}, honest: map[string]bool{}, joinWait: map[string]joinWait{}, members: hf.Members, mirrorsAt: slices.Clone(cfg.Mirrors), rules: rules{cfg.Policy, cfg.Copies},
		joinNow: make(chan struct{}, 1), witnessAt: cfg.Witness, granted: map[holdfast.Term]bool{}, damaged: map[holdfast.AccountID]bool{},
	}
	l.fault = cfg.hooks.fault
	cfg.bounds.told = l.tellSlow
	for _, m := range cfg.Mirrors {
		l.infoOf(place{MirrorConfig: m})
	}
	for _, a := range hf.Damaged {
		l.damaged[a] = true
	}
	for _, name := range hf.Doubted {
		l.doubted[name] = true
	}
	l.scrub = newScrubber(l)
	go l.keep(kctx)
	return l, nil
}

// Close stops taking writes, finishes those under way, seals the logs and closes the store. Mirrors that have not
// done their part within Config.MirrorTimeout are left as they are; their logs are complete without it.
func (l *Ledger) Close(ctx context.Context) error {
	l.cancel()
	l.closeSoon()
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close ledger: %w", ctx.Err())
	}
}

// WaitOpen waits until the fence is open, or returns why it does not open: ctx's error, or the
// reason if only an operator can help.
func (l *Ledger) WaitOpen(ctx context.Context) error {
	for {
		l.mu.RLock()
		state, reason, changed := l.state, l.reason, l.changed
		l.mu.RUnlock()
		if state == fence.Open {
			return nil
		}
		select {
		case <-changed:
		case <-l.ended:
			return fmt.Errorf("fence closed: %s: %w", reason.Full(), holdfast.ErrFenced)
		case <-ctx.Done():
			return fmt.Errorf("fence %s: %s: %w", state, reason.Full(), ctx.Err())
		}
	}
}

// Fatal yields one error when this process must end with exit code 75: an fsync failed or a write's
// outcome is unknown, so only a new process can prove from the medium what is true.
func (l *Ledger) Fatal() <-chan error { return l.fatal }

// step runs one durable step of the write path. Tests make it fail before, or after it was done.
func (l *Ledger) step(name string, do func() error) error {
	defer l.observe(name, time.Now())
	defer l.under.begin(name)()
	return l.faulty(name, do)
}

// faulty runs one durable step that is not of the write path.
func (l *Ledger) faulty(name string, do func() error) error {
	if l.fault == nil {
		return do()
	}
	if err := l.fault("before " + name); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return l.fault("after " + name)
}

func (l *Ledger) now() time.Time { return l.cfg.Now() }

// setState moves the fence and tells who waits for it.
func (l *Ledger) setState(s fence.State, why fence.Reason) {
	if !l.moveState(s, why) || why.Code == fence.Stopping || why.Code == fence.Deciding {
		return
	}
	l.emit(Event{Kind: EventFence, State: s.String(), Bad: s != fence.Open, Text: strings.TrimSuffix("fence "+s.String()+": "+why.Full(), ": "), Todo: why.Todo()})
}

// whyOf finds the reason in an error of the keeper's.
func whyOf(err error) fence.Reason {
	var inMirror *mirrorError
	var unhealed *unhealedError
	switch {
	case errors.As(err, &unhealed):
		return fence.Reason{Code: fence.Unequal, Detail: err.Error()}
	case errors.Is(err, errDecision):
		return fence.Reason{Code: fence.Deciding}
	case errors.Is(err, errAgain):
		return fence.Reason{Code: fence.Changing}
	case errors.As(err, &inMirror) && inMirror.name == "" && !errors.Is(err, holdfast.ErrFatal) && !errors.Is(err, holdfast.ErrFull):
		return fence.Reason{Code: fence.WitnessAway, Detail: err.Error()}
	case errors.As(err, &inMirror):
		r := fence.Why(err, cmp.Or(inMirror.name, "(the head witness)"))
		switch {
		case errors.Is(err, errClaimDamaged):
			r.Code = fence.ClaimDamaged
		case errors.Is(err, errTakenOver):
			r.Code = fence.TakenOver
		}
		return r
	}
	return fence.Why(err, "")
}

// moveState reports whether state or reason are new.
func (l *Ledger) moveState(s fence.State, reason fence.Reason) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == s && l.reason == reason {
		return false
	}
	l.state, l.reason, l.since = s, reason, l.now()
	close(l.changed)
	l.changed = make(chan struct{})
	l.wakeAll()
	switch {
	case s == fence.Open:
		l.log.Info("fence", "state", s.String())
	case reason.Code == fence.Stopping || reason.Code == fence.Deciding: // as it was told to
		l.log.Info("fence", "state", s.String(), "code", string(reason.Code), "reason", reason.String())
	default:
		l.log.Warn("fence", "state", s.String(), "code", string(reason.Code), "reason", reason.String(), "detail", reason.Detail)
	}
	return true
}

// raise tells the keeper that store or claim may be false; reads and writes stop at once.
func (l *Ledger) raise(err error) {
	l.mu.Lock()
	if l.state != fence.Closed {
		l.state, l.reason, l.since = fence.Closed, fence.Reason{Code: fence.Checking, Detail: err.Error()}, l.now()
		close(l.changed)
		l.changed = make(chan struct{})
		l.wakeAll()
	}
	l.mu.Unlock()
	l.tell(err)
}

// tell has the keeper prove again because of err.
func (l *Ledger) tell(err error) {
	select {
	case l.alarm <- err:
	default: // one is enough
	}
}

func storeConfig(cfg Config) store.Config {
	c := store.Config{Path: filepath.Join(cfg.Dir, "store"), Server: cfg.Server, Log: cfg.Log, FS: cfg.FS, VFS: cfg.vfs}
	if cfg.hooks.store != nil {
		cfg.hooks.store(&c)
	}
	return c
}
