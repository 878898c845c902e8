package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// Claim says who took a term.
type Claim struct {
	Term    holdfast.Term
	Host    string
	PID     int
	Started time.Time
	Note    string
	Damaged bool // the claim cannot be read, or only its log is there: Random may be 0
	Sealed  bool // its log was ended in good order: nobody writes to it any more
}

// Words says for people who took the term, when and on which host, and whether an operator told it to.
func (c *Claim) Words() string {
	how := ""
	if _, told, ok := strings.Cut(c.Note, "; "); ok {
		how = " (" + told + ")"
	}
	return fmt.Sprintf("term %d was claimed by process %d on %s at %s%s", c.Term.Number, c.PID, c.Host, c.Started.UTC().Format("2006-01-02 15:04:05 UTC"), how)
}

const (
	claimPrefix = "term/"
	claimFormat = 1
	maxGap      = 1 << 12 // numbers that one claim fills up
)

// claimFile is the JSON object of a claim.
type claimFile struct {
	Format  int       `json:"format"`
	Term    string    `json:"term"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Note    string    `json:"note"`
}

func claimName(n uint64) string { return fmt.Sprintf("%s%016x", claimPrefix, n) }

// Terms returns the claims in ascending order. A log whose claim is gone counts as a claim too.
func (m *Mirror) Terms(ctx context.Context) ([]Claim, error) {
	found, err := m.claims(ctx)
	if err != nil {
		return nil, err
	}
	logs, _, err := m.logs(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range logs {
		c, ok := found[l.term.Number]
		if !ok {
			c = Claim{Term: l.term, Note: "the claim is missing, its log is there", Damaged: true}
		}
		c.Sealed = c.Term == l.term && l.segments[len(l.segments)-1].sealed
		found[l.term.Number] = c
	}
	terms := make([]Claim, 0, len(found))
	for _, c := range found {
		terms = append(terms, c)
	}
	slices.SortFunc(terms, func(a, b Claim) int {
		if a.Term.Number < b.Term.Number {
			return -1
		}
		return 1
	})
	return terms, nil
}

// claims reads the claim files, by number.
func (m *Mirror) claims(ctx context.Context) (map[uint64]Claim, error) {
	found := map[uint64]Claim{}
	for info, err := range m.cfg.Bucket.List(ctx, claimPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list claims: %w", err)
		}
		digits := strings.TrimPrefix(info.Name, claimPrefix)
		n, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || claimName(n) != info.Name || n == 0 {
			return nil, fmt.Errorf("%q is no claim: %w", info.Name, holdfast.ErrCorrupt)
		}
		if len(found) == maxSmallFiles {
			return nil, fmt.Errorf("more than %d claims: %w", maxSmallFiles, holdfast.ErrTooLarge)
		}
		c, err := m.readClaim(ctx, n)
		if errors.Is(err, holdfast.ErrCorrupt) || errors.Is(err, holdfast.ErrTooLarge) {
			c, err = Claim{Term: holdfast.Term{Number: n}, Note: err.Error(), Damaged: true}, nil
		}
		if err != nil {
			return nil, err
		}
		found[n] = c
	}
	return found, nil
}

func (m *Mirror) readClaim(ctx context.Context, n uint64) (Claim, error) {
	b, err := m.read(ctx, claimName(n), maxMarker)
	if err != nil {
		return Claim{}, fmt.Errorf("read claim %d: %w", n, err)
	}
	return parseClaim(b, n)
}

func parseClaim(b []byte, n uint64) (Claim, error) {
	var f claimFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Claim{}, fmt.Errorf("claim %d is not JSON (%w): %w", n, err, holdfast.ErrCorrupt)
	}
	t, err := holdfast.ParseTerm(f.Term)
	if err != nil || t.Number != n || f.Format != claimFormat {
		return Claim{}, fmt.Errorf("claim %d of format %d is for term %q: %w", n, f.Format, f.Term, holdfast.ErrCorrupt)
	}
	return Claim{Term: t, Host: f.Host, PID: f.PID, Started: f.Started, Note: f.Note}, nil
}

// Claim takes a term in this mirror, durably. Its number must be above every other; numbers between
// are taken too, so that each older claimant finds the next number taken. Nothing that was read
// before may be used after it. ErrFenced (and ErrExists): the number, or a higher one, is taken.
func (m *Mirror) Claim(ctx context.Context, t holdfast.Term, note string) error {
	terms, err := m.Terms(ctx)
	if err != nil {
		return fmt.Errorf("claim term %s: %w", t, err)
	}
	highest := uint64(0)
	if len(terms) > 0 {
		highest = terms[len(terms)-1].Term.Number
	}
	switch {
	case t.Number == 0 || t.Number > highest+maxGap:
		return fmt.Errorf("claim term %s after %d: %w", t, highest, holdfast.ErrInvalid)
	case t.Number <= highest:
		return fmt.Errorf("claim term %s: %d is taken: %w: %w", t, highest, holdfast.ErrExists, holdfast.ErrFenced)
	}
	for n := highest + 1; n < t.Number; n++ {
		if err := m.putClaim(ctx, holdfast.Term{Number: n, Random: t.Random}, fmt.Sprintf("%s; passed over by %s", note, t)); err != nil {
			return fmt.Errorf("claim term %s: %w", t, err)
		}
	}
	if err := m.putClaim(ctx, t, note); err != nil {
		return fmt.Errorf("claim term %s: %w", t, err)
	}
	info, err := m.cfg.Bucket.Stat(ctx, claimName(t.Number))
	if err != nil {
		return fmt.Errorf("claim term %s: look at it again: %w", t, err)
	}
	m.mu.Lock()
	m.claimed[t] = info
	m.mu.Unlock()
	m.log.Info("term claimed", "term", t.String(), "note", note)
	return nil
}

func (m *Mirror) putClaim(ctx context.Context, t holdfast.Term, note string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b, err := json.Marshal(claimFile{
		Format: claimFormat, Term: t.String(), Host: host, PID: os.Getpid(), Started: m.cfg.Now().UTC().Truncate(time.Millisecond), Note: note,
	})
	if err != nil {
		return fmt.Errorf("encode claim: %w", err)
	}
	m.step("claim %d next", t.Number)
	err = m.cfg.Bucket.Put(ctx, claimName(t.Number), bytes.NewReader(append(b, '\n')), true)
	if errors.Is(err, holdfast.ErrExists) {
		return fmt.Errorf("write claim %d: %w: %w", t.Number, err, holdfast.ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("write claim %d: %w", t.Number, err)
	}
	m.step("claim %d", t.Number)
	return nil
}

// CheckTerm proves that the term is still the last one claimed here: the next number is free, and
// our own claim is there. It costs two stats. ErrFenced: another process took over, or took this
// number; the error says who. ErrAbsent: the claim is gone, so this is not the mirror it was in.
func (m *Mirror) CheckTerm(ctx context.Context, t holdfast.Term) error {
	// In this order: if our own claim is there at the end, the mirror was there when we looked for the next.
	_, err := m.cfg.Bucket.Stat(ctx, claimName(t.Number+1))
	switch {
	case err == nil:
		return m.takenOver(ctx, t.Number+1)
	case !errors.Is(err, holdfast.ErrNotFound):
		return fmt.Errorf("look for claim %d: %w", t.Number+1, err)
	}
	info, err := m.cfg.Bucket.Stat(ctx, claimName(t.Number))
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("own claim %d is gone: %w", t.Number, holdfast.ErrAbsent)
	}
	if err != nil {
		return fmt.Errorf("look for own claim %d: %w", t.Number, err)
	}
	m.mu.Lock()
	own, ok := m.claimed[t]
	m.mu.Unlock()
	if ok && own.Size == info.Size && own.Modified.Equal(info.Modified) {
		return nil
	}
	c, err := m.readClaim(ctx, t.Number)
	if err != nil {
		return fmt.Errorf("look at own claim: %w", err)
	}
	if c.Term != t {
		return fmt.Errorf("term %d belongs to process %d on %s since %s: %w", t.Number, c.PID, c.Host, c.Started, holdfast.ErrFenced)
	}
	m.mu.Lock()
	m.claimed[t] = info
	m.mu.Unlock()
	return nil
}

func (m *Mirror) takenOver(ctx context.Context, n uint64) error {
	c, err := m.readClaim(ctx, n)
	if err != nil {
		return fmt.Errorf("term %d was claimed by another process (%w): %w", n, err, holdfast.ErrFenced)
	}
	return fmt.Errorf("%s: %w", c.Words(), holdfast.ErrFenced)
}
