package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
)

// headsEvery is how often the head files follow the durable heads. They are lower bounds: what they
// name was durable, and there may be more.
const headsEvery = 2 * time.Second

// headFile is DIR/heads (docs/formats/heads.md): a witness beside store and mirrors.
type headFile struct {
	Format   string               `json:"format"`
	Server   string               `json:"server"`
	Instance string               `json:"instance"` // names this data directory in the mirrors' claims
	Term     string               `json:"term,omitempty"`
	Written  time.Time            `json:"written"`
	Heads    []headFileEntry      `json:"heads"`
	Tokens   []headFileEntry      `json:"tokens,omitempty"`  // sync tokens that proved a loss
	Doubted  []string             `json:"doubted,omitempty"` // mirrors that gave what is false, and were not refilled yet
	Damaged  []holdfast.AccountID `json:"damaged,omitempty"` // accounts whose rows in the store are damaged and not repaired yet
	Members  []member             `json:"members,omitempty"` // the mirrors that count; none: not yet known, all that are configured
	Sum      string               `json:"sum"`               // see encode
}

type headFileEntry struct {
	Account holdfast.AccountID `json:"account"`
	Epoch   holdfast.Epoch     `json:"epoch"`
	Seq     holdfast.Seq       `json:"seq"`
	Hash    string             `json:"hash"`             // of a token: its first 16 digits
	Found   uint64             `json:"found,omitempty"`  // of a token: number of the term in which it came
	Device  holdfast.DeviceID  `json:"device,omitempty"` // of a token: which showed it
}

const headFormat = "holdfast heads 1"

// encode returns the file. Its sum is the SHA-256 of the same document, without spaces and with an empty sum: a bit that
// flips in a head must not prove a loss that never was.
func (f headFile) encode() ([]byte, error) {
	sum, err := f.sum()
	if err != nil {
		return nil, err
	}
	f.Sum = sum
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode head file: %w", err)
	}
	return append(b, '\n'), nil
}

func (f headFile) sum() (string, error) {
	f.Sum = ""
	b, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encode head file: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

const maxHeadFile = 1 << 28 // bytes; an account takes about 140

func headPath(cfg Config) string { return filepath.Join(cfg.Dir, "heads") }

// createHeadFile makes the marker of a new data directory: a new instance, and the heads that it begins with as a witness.
func createHeadFile(cfg Config, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	f := headFile{Format: headFormat, Server: cfg.Server.String(), Instance: instanceID(), Written: cfg.Now().UTC(), Heads: []headFileEntry{}}
	for _, a := range slices.Sorted(maps.Keys(heads)) {
		h := heads[a]
		f.Heads = append(f.Heads, headFileEntry{Account: a, Epoch: h.Epoch, Seq: h.Head.Seq, Hash: h.Head.Hash.String()})
	}
	b, err := f.encode()
	if err != nil {
		return err
	}
	if err := durable.Create(cfg.FS, headPath(cfg), b, durable.FilePerm); err != nil {
		return fmt.Errorf("create head file: %w", err)
	}
	return nil
}

// readHeadFile reads DIR/heads. Missing is not empty: without it nobody knows whether the copies are old.
func readHeadFile(cfg Config) (*headFile, error) {
	b, err := durable.ReadFile(cfg.FS, headPath(cfg), maxHeadFile)
	if err != nil {
		if errors.Is(err, holdfast.ErrNotFound) {
			err = holdfast.ErrAbsent
		}
		return nil, fmt.Errorf("read head file %s: %w", headPath(cfg), err)
	}
	var f headFile
	if err := json.Unmarshal(b, &f); err != nil || f.Format != headFormat || f.Instance == "" {
		return nil, fmt.Errorf("head file %s is not readable: %w", headPath(cfg), holdfast.ErrCorrupt)
	}
	if sum, err := f.sum(); err != nil || sum != f.Sum {
		return nil, fmt.Errorf("head file %s is damaged, its checksum is another one; docs/runbooks/scrub.md says what to do: %w", headPath(cfg), holdfast.ErrCorrupt)
	}
	if f.Server != cfg.Server.String() {
		return nil, fmt.Errorf("head file %s is of server %s, the configuration of %s: %w", headPath(cfg), f.Server, cfg.Server, holdfast.ErrAbsent)
	}
	for _, e := range slices.Concat(f.Heads, f.Tokens) {
		if b, err := hex.DecodeString(e.Hash); err != nil || len(b) == 0 {
			return nil, fmt.Errorf("head file %s: hash %q of account %s: %w", headPath(cfg), e.Hash, e.Account, holdfast.ErrCorrupt)
		}
	}
	if err := checkMembers(f.Members); err != nil {
		return nil, fmt.Errorf("head file %s: %w", headPath(cfg), err)
	}
	return &f, nil
}

func (f *headFile) witnesses() []fence.Witness { return entriesToWitnesses(f.Heads, "the head file") }

func (f *headFile) tokenWitnesses() []fence.Witness {
	ws := entriesToWitnesses(f.Tokens, "")
	for i := range ws {
		ws[i].Device = f.Tokens[i].Device
		ws[i].Source = tokenOf(ws[i].Device)
	}
	return ws
}

func entriesToWitnesses(entries []headFileEntry, source string) []fence.Witness {
	var ws []fence.Witness
	for _, e := range entries {
		prefix, _ := hex.DecodeString(e.Hash) // checked by readHeadFile
		ws = append(ws, fence.Witness{Account: e.Account, Epoch: e.Epoch, Seq: e.Seq, Prefix: prefix, Source: source, Found: e.Found})
	}
	return ws
}

func (l *Ledger) tokenWitnesses() []fence.Witness {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.tokens)
}

// keepHeads writes the head files while heads move.
func (l *Ledger) keepHeads(ctx context.Context) {
	t := time.NewTicker(headsEvery)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if ctx.Err() != nil { // both at once
			return
		}
		if l.gate("heads"); ctx.Err() != nil {
			return
		}
		err := l.writeHeads(ctx)
		if err == nil {
			said = ""
		} else if err.Error() != said { // once, not every two seconds of an outage
			said = err.Error()
			l.log.Warn("write head files", "err", err)
		}
	}
}

// writeHeads writes the durable heads to DIR/heads and to every mirror, if they moved. An account
// whose fence is closed keeps the higher witness that closed it.
func (l *Ledger) writeHeads(ctx context.Context) error {
	l.headsMu.Lock()
	defer l.headsMu.Unlock()
	l.mu.Lock()
	if !l.headsDue || l.db == nil && len(l.tokens) == 0 {
		l.mu.Unlock()
		return nil
	}
	heads := make(map[holdfast.AccountID]holdfast.AccountHead, len(l.heads))
	f := headFile{Format: headFormat, Server: l.cfg.Server.String(), Instance: l.instance, Term: l.term.String(), Written: l.now().UTC(), Heads: []headFileEntry{}, Members: l.members}
	if l.membersDoubt { // the next proof writes them
		l.mu.Unlock()
		return nil
	}
	for a, h := range l.heads {
		if _, closed := l.shut[a]; !closed {
			heads[a] = h
		}
	}
	maps.Copy(heads, l.lost)
	for a, h := range heads {
		f.Heads = append(f.Heads, headFileEntry{Account: a, Epoch: h.Epoch, Seq: h.Head.Seq, Hash: h.Head.Hash.String()})
	}
	for _, w := range l.tokens {
		f.Tokens = append(f.Tokens, headFileEntry{w.Account, w.Epoch, w.Seq, hex.EncodeToString(w.Prefix), w.Found, w.Device})
	}
	f.Doubted, f.Damaged = slices.Sorted(maps.Keys(l.doubted)), l.damagedRows()
	l.headsDue = false
	shut := len(l.shut) > 0
	mirrors, positions := l.mirrors, slices.Clone(l.positions)
	l.mu.Unlock()
	err := l.blobs.home.Check() // nothing is written to what lies beneath an unmounted data directory
	if err == nil {
		err = l.replaceHeadFile(&f, shut)
	}
	for i, m := range mirrors {
		if merr := m.WriteHeads(ctx, heads, positions[i]); merr != nil {
			err = errors.Join(err, &mirrorError{m.Name(), merr})
		}
	}
	if err != nil {
		l.mu.Lock()
		l.headsDue = true
		l.mu.Unlock()
	}
	return err
}

// keepDoubt writes at once that a mirror gave what is false: after a crash it is still to be read whole.
func (l *Ledger) keepDoubt(name string) error {
	l.headsMu.Lock()
	defer l.headsMu.Unlock()
	l.mu.Lock()
	known := l.doubted[name]
	l.doubted[name], l.headsDue = true, true
	doubted := slices.Sorted(maps.Keys(l.doubted))
	l.mu.Unlock()
	if known {
		return nil
	}
	f, err := readHeadFile(l.cfg)
	if err != nil {
		return err
	}
	f.Doubted = doubted
	return l.replaceHeadFile(f, false)
}

// damagedRows returns the accounts whose rows are damaged, by number; the caller holds the lock.
func (l *Ledger) damagedRows() []holdfast.AccountID {
	all := maps.Clone(l.damaged)
	for a, c := range l.shut {
		if c.ofRows() {
			all[a] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// keepDamaged writes at once that the rows of an account are damaged: the next process keeps it closed until they were
// proven or repaired, for no proof reads them.
func (l *Ledger) keepDamaged(a holdfast.AccountID) error {
	l.headsMu.Lock()
	defer l.headsMu.Unlock()
	f, err := readHeadFile(l.cfg)
	if err != nil || slices.Contains(f.Damaged, a) {
		return err
	}
	l.mu.RLock()
	f.Damaged = l.damagedRows()
	l.mu.RUnlock()
	if err := l.blobs.home.Check(); err != nil {
		return err
	}
	return l.replaceHeadFile(f, false)
}

// replaceHeadFile writes DIR/heads. Of accounts that are closed it keeps what the file knew before.
func (l *Ledger) replaceHeadFile(f *headFile, shut bool) error {
	if shut {
		old, err := readHeadFile(l.cfg)
		if err != nil {
			return err
		}
		for _, e := range old.Heads {
			if !slices.ContainsFunc(f.Heads, func(n headFileEntry) bool { return n.Account == e.Account }) {
				f.Heads = append(f.Heads, e)
			}
		}
	}
	slices.SortFunc(f.Heads, func(a, b headFileEntry) int { return int(min(max(int64(a.Account)-int64(b.Account), -1), 1)) })
	b, err := f.encode()
	if err != nil {
		return err
	}
	if err := durable.Replace(l.cfg.FS, headPath(l.cfg), b, 0o600); err != nil {
		return fmt.Errorf("write head file: %w", err)
	}
	return nil
}
