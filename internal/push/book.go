package push

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// book is what is registered, as of a head of account 0. It follows the records (keepBook): whoever changes
// them, here or by a heal, does it in the ledger alone.
type book struct {
	mu       sync.Mutex
	since    holdfast.Seq
	epoch    holdfast.Epoch
	read     bool // since the start
	subjects map[holdfast.AccountID]*subject
	regs     int
}

func (b *book) count(a holdfast.AccountID) int {
	s := b.subject(a)
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.regs)
}

func (b *book) subject(a holdfast.AccountID) *subject {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subjects[a]
}

func (b *book) all() []*subject {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*subject, 0, len(b.subjects))
	for _, s := range b.subjects {
		out = append(out, s)
	}
	return out
}

// readPage is how many changed records are read at once.
const readPage = 500

// keepBook brings the book to the newest records.
func (p *Push) keepBook() error {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	for more := true; more; {
		err := p.cfg.Ledger.View(p.ctx, holdfast.Server, func(v *ledger.View) (err error) {
			more, err = p.readRecords(v)
			return err
		})
		if err != nil {
			return fmt.Errorf("read registrations: %w", err)
		}
	}
	return nil
}

func (p *Push) readRecords(v *ledger.View) (more bool, err error) {
	b := &p.book
	head := v.Head()
	if head.Epoch != b.epoch || head.Head.Seq < b.since { // an accepted loss: what is known may never have been
		for _, s := range b.subjects {
			s.stop()
		}
		b.subjects, b.regs, b.since, b.epoch = map[holdfast.AccountID]*subject{}, 0, 0, head.Epoch
	}
	c, err := v.Child(holdfast.Root, registrationsCollection)
	if errors.Is(err, holdfast.ErrNotFound) {
		b.since, b.read = head.Head.Seq, true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	deltas, reached, err := v.Changed(c.ID, b.since, readPage)
	if err != nil {
		return false, err
	}
	for i := range deltas {
		d := &deltas[i]
		if d.Deleted {
			p.drop(d.Name)
			continue
		}
		r, err := readRegistration(v, &d.Resource)
		if err != nil {
			return false, err
		}
		if err := p.enlist(r); err != nil {
			p.log.Warn("registration left out", "account", r.Account.String(), "err", err)
		}
	}
	b.since = reached.Seq
	if reached.Seq >= head.Head.Seq {
		b.read = true
		return false, nil
	}
	return true, nil
}

// drop forgets the registration of a record; the caller holds the book.
func (p *Push) drop(name string) {
	account, id, _ := strings.Cut(name, "-")
	a, err := strconv.ParseUint(account, 16, 64)
	s := p.book.subjects[holdfast.AccountID(a)]
	if err != nil || s == nil {
		return
	}
	s.mu.Lock()
	_, had := s.regs[id]
	delete(s.regs, id)
	empty := len(s.regs) == 0
	s.mu.Unlock()
	if had {
		p.book.regs--
	}
	if empty {
		delete(p.book.subjects, s.account)
		s.stop()
	}
}

// enlist takes a registration in; the caller holds the book.
func (p *Push) enlist(r registration) error {
	k, err := parseKeys(r.Public, r.Secret)
	if err != nil {
		return err
	}
	standing, err := hex.DecodeString(r.Standing)
	if err != nil || len(standing) != len(holdfast.Hash{}) {
		return fmt.Errorf("standing: %w", holdfast.ErrCorrupt)
	}
	b := &p.book
	s := b.subjects[r.Account]
	if s == nil {
		s = p.newSubject(r.Account)
		b.subjects[r.Account] = s
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.regs[r.ID]
	if g == nil {
		g = &enlisted{told: r.Since}
		if !b.read { // what was told before the start is not known
			h, _ := p.cfg.Ledger.AccountHead(r.Account)
			g.told = max(h.Head.Seq, r.Since)
		}
		s.regs[r.ID] = g
		b.regs++
	}
	g.registration, g.keys, g.standing, g.denied = r, k, holdfast.Hash(standing), false
	s.wake()
	return nil
}

// recheckBook removes the registrations of those who must not come in any more, and those that have ended.
func (p *Push) recheckBook(ctx context.Context, now time.Time) error {
	var names []string
	for _, s := range p.book.all() {
		gone, err := s.bad(ctx, now)
		if err != nil {
			return err
		}
		names = append(names, gone...)
	}
	for some := range slices.Chunk(names, readPage) {
		if _, err := p.remove(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// bad returns the records that are to be removed; nothing is sent for them from now on.
func (s *subject) bad(ctx context.Context, now time.Time) (names []string, err error) {
	s.mu.Lock()
	var regs []*enlisted
	var ids []Who
	for _, g := range s.regs {
		regs = append(regs, g)
		ids = append(ids, Who{g.Account, g.Name, g.Device})
	}
	s.mu.Unlock()
	standing, err := s.p.cfg.Standing(ctx, ids)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range regs {
		if standing[i] != g.standing || now.After(g.Expires) {
			g.denied = true
			names = append(names, recordName(g.Account, g.ID))
		}
	}
	return names, nil
}
