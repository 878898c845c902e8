package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/mirror"
)

// mirrorCommand reads and changes mirrors. Ls, cat and check need no server and no data directory: a mirror
// alone is enough, and reading changes nothing, so they work beside a running server too.
type mirrorCommand struct {
	Ls    mirrorLs    `cmd:"" help:"List what a mirror holds: accounts, logs, claims."`
	Cat   mirrorCat   `cmd:"" help:"Print changes of an account for a person to read."`
	Check mirrorCheck `cmd:"" help:"Read a whole mirror and verify every byte that counts."`

	Add     mirrorAdd     `cmd:"" help:"Give the server one more mirror, while it serves."`
	Replace mirrorReplace `cmd:"" help:"Put a new directory in the place of a mirror that is lost, or too small."`
	Remove  mirrorRemove  `cmd:"" help:"Take a mirror out; its directory stays as it is."`
	Policy  mirrorPolicy  `cmd:"" help:"Show or change what the server does while a mirror is away."`
}

// placeArg names the mirror.
type placeArg struct {
	Mirror string `arg:"" placeholder:"MIRROR" help:"Directory of the mirror."`
}

// open opens the mirror, whoever it belongs to.
func (p placeArg) open(s *streams) (*mirror.Mirror, func() error, error) {
	b, err := dir.Open(durable.Disk, p.Mirror, dir.WithSpare(dir.Off))
	if err != nil {
		return nil, nil, fmt.Errorf("%w\nIs its disk mounted?", err)
	}
	server, err := mirror.Whose(s.ctx, b)
	if err == nil {
		var m *mirror.Mirror
		if m, err = mirror.Open(s.ctx, mirror.Config{Server: server, Bucket: b, Name: p.Mirror}); err == nil {
			return m, b.Close, nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("%s is not a mirror that can be read: %w", p.Mirror, err), b.Close())
}

type mirrorLs struct {
	placeArg
	jsonFlag
}

// Help teaches.
func (mirrorLs) Help() string {
	return `Shows each account's newest change, each log (one for each start of a server) and who claimed the mirror last.
It reads the ends of the logs only; "mirror check" reads all.

  holdfast mirror ls /mnt/usb/holdfast-mirror`
}

// mirrorListing is what ls prints as JSON.
type mirrorListing struct {
	ID       string          `json:"id"`
	Accounts []mirrorAccount `json:"accounts"`
	Logs     []mirrorLog     `json:"logs"`
	Claims   []mirror.Claim  `json:"claims"`
	Damage   []string        `json:"damage,omitempty"`
}

type mirrorAccount struct {
	Account holdfast.AccountID `json:"account"`
	Epoch   holdfast.Epoch     `json:"epoch"`
	Seq     holdfast.Seq       `json:"seq"`
	Hash    string             `json:"hash"`
}

type mirrorLog struct {
	Term     string `json:"term"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	Sealed   bool   `json:"sealed"`
}

// Run lists the mirror.
func (c *mirrorLs) Run(s *streams) error {
	m, done, err := c.open(s)
	if err != nil {
		return err
	}
	l, err := listMirror(s, m)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, l)
	}
	return printMirror(s.out, l)
}

func listMirror(s *streams, m *mirror.Mirror) (*mirrorListing, error) {
	rec, err := m.Recover(s.ctx)
	if err != nil {
		return nil, err
	}
	l := &mirrorListing{ID: m.ID(), Accounts: []mirrorAccount{}, Logs: []mirrorLog{}}
	if l.Claims, err = m.Terms(s.ctx); err != nil {
		return nil, err
	}
	for _, a := range slices.Sorted(maps.Keys(rec.Heads)) {
		h := rec.Heads[a]
		l.Accounts = append(l.Accounts, mirrorAccount{a, h.Epoch, h.Head.Seq, h.Head.Hash.String()})
	}
	for _, g := range rec.Logs {
		l.Logs = append(l.Logs, mirrorLog{g.Term.String(), g.Segments, g.Bytes, g.Sealed})
	}
	for _, d := range rec.Damage {
		l.Damage = append(l.Damage, d.String())
	}
	return l, nil
}

func printMirror(w io.Writer, l *mirrorListing) error {
	fmt.Fprintf(w, "Mirror %s\n\n", l.ID)
	if len(l.Accounts) == 0 {
		fmt.Fprintln(w, "No account has a change in it yet.")
		return nil
	}
	rows := [][]string{{"ACCOUNT", "NEWEST CHANGE", "EPOCH", "HASH"}}
	for _, a := range l.Accounts {
		name := fmt.Sprint(uint64(a.Account))
		if a.Account == holdfast.Server {
			name = "0 (the server itself)"
		}
		rows = append(rows, []string{name, fmt.Sprint(uint64(a.Seq)), fmt.Sprint(a.Epoch), a.Hash[:16]})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = [][]string{{"LOG", "SEGMENTS", "SIZE", "END"}}
	for _, g := range l.Logs {
		end := "open"
		if g.Sealed {
			end = "sealed"
		}
		rows = append(rows, []string{g.Term, fmt.Sprint(g.Segments), size(g.Bytes), end})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if n := len(l.Claims); n > 0 {
		c := l.Claims[n-1]
		fmt.Fprintf(w, "\nClaimed last by process %d on %s, %s (term %d).\n", c.PID, c.Host, day(c.Started), c.Term.Number)
	}
	for _, d := range l.Damage {
		fmt.Fprintln(w, "Damage:", d)
	}
	return nil
}

type mirrorCat struct {
	placeArg
	Account uint64 `arg:"" help:"Number of the account; 0 is the server itself."`
	From    string `arg:"" optional:"" help:"First change, decimal or 16 hex digits; without it the first of all."`
	To      string `arg:"" optional:"" help:"Last change; without it only FROM, or all if FROM is missing too."`
}

// Help teaches.
func (mirrorCat) Help() string {
	return `Prints changes as a person reads them: when, from which device, what was done, and the body if it is text.
This is what is there when everything else is gone.

  holdfast mirror cat /mnt/usb/holdfast-mirror 1           all changes of account 1
  holdfast mirror cat /mnt/usb/holdfast-mirror 1 17        change 17
  holdfast mirror cat /mnt/usb/holdfast-mirror 1 17 20     changes 17 to 20`
}

// errDone ends a replay that has printed enough.
var errDone = errors.New("done")

// Run prints the changes.
func (c *mirrorCat) Run(s *streams) error {
	from, to, err := c.span()
	if err != nil {
		return err
	}
	m, done, err := c.open(s)
	if err != nil {
		return err
	}
	printed := 0
	// Other accounts begin at their end, so that they are passed over; this one from its first change,
	// because each change is verified against the one before.
	rec, err := m.Recover(s.ctx)
	if err != nil {
		return errors.Join(err, done())
	}
	have := func(a holdfast.AccountID) holdfast.AccountHead {
		if uint64(a) == c.Account {
			return holdfast.AccountHead{}
		}
		return rec.Heads[a]
	}
	err = m.Replay(s.ctx, have, func(r *mirror.Record) error {
		switch {
		case uint64(r.Account) != c.Account || r.Seq < from:
			return nil
		case r.Seq > to:
			return errDone
		}
		printed++
		return printChange(s.out, r)
	})
	if errors.Is(err, errDone) {
		err = nil
	}
	if err = errors.Join(err, done()); err == nil && printed == 0 {
		return fmt.Errorf("account %d has no such change in this mirror (list them with: holdfast mirror ls %s): %w", c.Account, c.Mirror, holdfast.ErrNotFound)
	}
	return err
}

// span returns the first and last seq that are asked for.
func (c *mirrorCat) span() (from, to holdfast.Seq, err error) {
	if c.From == "" {
		return 1, 1<<64 - 1, nil
	}
	if from, err = parseSeq(c.From); err != nil {
		return 0, 0, err
	}
	if c.To == "" {
		return from, from, nil
	}
	to, err = parseSeq(c.To)
	if err == nil && to < from {
		err = fmt.Errorf("change %s comes before %s: %w", c.To, c.From, errUsage)
	}
	return from, to, err
}

// parseSeq reads a seq as people write it, or as 16 hex digits as files have it.
func parseSeq(s string) (holdfast.Seq, error) {
	base := 10
	if len(s) == 16 {
		base = 16
	}
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not the number of a change: %w", s, errUsage)
	}
	return holdfast.Seq(n), nil
}

func printChange(w io.Writer, r *mirror.Record) error {
	c, err := frame.ParseChange(r.Payload)
	if err != nil {
		return err
	}
	who := "the server"
	if c.Device != 0 {
		who = fmt.Sprintf("device %d", c.Device)
	}
	fmt.Fprintf(w, "change %d of account %d, %s, by %s, term %d, hash %s\n",
		c.Seq, c.Account, time.UnixMilli(c.Time).UTC().Format("2006-01-02 15:04:05.000 UTC"), who, c.Term.Number, r.Hash.String()[:16])
	for i := range c.Ops {
		printOp(w, c.Account, &c.Ops[i])
	}
	_, err = fmt.Fprintln(w)
	return err
}

func printOp(w io.Writer, account holdfast.AccountID, o *frame.Op) {
	if o.Erased {
		fmt.Fprintln(w, "  erased for good; only its commitment is left")
		return
	}
	switch o.Type {
	case frame.OpPut:
		fmt.Fprintf(w, "  put %q into collection %d, %s, ETag %s\n", o.Name, o.Collection, size(o.BodySize()), holdfast.ETag(o.BodyHash))
		printBody(w, account, o)
	case frame.OpDelete:
		fmt.Fprintf(w, "  delete %q from collection %d\n", o.Name, o.Collection)
	case frame.OpPutCollection:
		if o.Collection == holdfast.Root {
			fmt.Fprintf(w, "  collection %d is the account's home, kind %s\n", o.Collection, o.Kind)
		} else {
			fmt.Fprintf(w, "  collection %d is %q in collection %d, kind %s\n", o.Collection, o.Name, o.Parent, o.Kind)
		}
	case frame.OpDeleteCollection:
		fmt.Fprintf(w, "  delete collection %d and all in it\n", o.Collection)
	case frame.OpSetProperties:
		fmt.Fprintf(w, "  properties of %q in collection %d\n", o.Name, o.Collection)
	case frame.OpAcceptLoss:
		fmt.Fprintln(w, "  an operator accepted a loss: a new epoch begins")
	}
	for _, p := range o.Props {
		fmt.Fprintf(w, "    %s = %q\n", p.Name, p.Value)
	}
}

// printBody prints a body if a terminal can show it. Passwords and keys of the server are not shown.
func printBody(w io.Writer, account holdfast.AccountID, o *frame.Op) {
	switch {
	case account == holdfast.Server:
		var r struct {
			ID   uint64 `json:"id"`
			Name string `json:"name"`
		}
		if json.Unmarshal(o.Body, &r) == nil && r.Name != "" {
			fmt.Fprintf(w, "    number %d, name %q; the rest of the record is not shown\n", r.ID, r.Name)
		} else {
			fmt.Fprintln(w, "    a record of the server, not shown")
		}
		return
	case o.Blob != nil:
		fmt.Fprintf(w, "    body in blob %s\n", o.Blob.Hash)
		return
	case !utf8.Valid(o.Body) || strings.ContainsRune(string(o.Body), 0):
		fmt.Fprintf(w, "    %d bytes that are not text\n", len(o.Body))
		return
	}
	for line := range strings.Lines(string(o.Body)) {
		line = strings.TrimRight(line, "\r\n")
		fmt.Fprintf(w, "    | %s\n", strings.Map(printable, line))
	}
}

// printable keeps a terminal from obeying what a body says.
func printable(r rune) rune {
	if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return '?'
	}
	return r
}

type mirrorCheck struct {
	placeArg
	jsonFlag
}

// Help teaches.
func (mirrorCheck) Help() string {
	return `Reads the whole mirror from its disk: every checksum, both chains, every commit frame, every commitment, every large
body. It changes nothing and may run beside a server. Exit code 0: everything that was acknowledged is there and whole. That
is so too where an old segment is damaged and the server has put what it had into a newer one; it is listed as "Refilled".
1: something is damaged, and the list says what.

  holdfast mirror check /mnt/usb/holdfast-mirror`
}

// errDamaged makes the exit code of check 1; the damage has been printed.
var errDamaged = errors.New("the mirror is damaged; docs/runbooks/mirror.md says how it is made anew from the store")

// Run checks the mirror.
func (c *mirrorCheck) Run(s *streams) error {
	m, done, err := c.open(s)
	if err != nil {
		return err
	}
	last := time.Now()
	r, err := m.Check(s.ctx, func(n, total int64) {
		if now := time.Now(); now.Sub(last) > 2*time.Second {
			last = now
			fmt.Fprintf(s.err, "checked %s of %s\n", size(n), size(total))
		}
	})
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(s.out, r)
	} else {
		printReport(s.out, r)
	}
	if err == nil && r.Bad() {
		err = errDamaged
	}
	return err
}

func printReport(w io.Writer, r *mirror.Report) {
	fmt.Fprintf(w, "Read     %s: %s, %s\n", size(r.Bytes), plural(r.Logs, "log", "logs"), plural(r.Segments, "segment", "segments"))
	chains, hashes := ", every chain verified", ", every hash verified"
	if r.Bad() {
		chains, hashes = " read, damage is listed below", " read, damage is listed below"
	}
	fmt.Fprintf(w, "Changes  %d of %s%s\n", r.Changes, plural(len(r.Heads), "account", "accounts"), chains)
	fmt.Fprintf(w, "Bodies   %s%s\n", plural(r.Blobs, "large body", "large bodies"), hashes)
	if r.Orphans > 0 {
		fmt.Fprintf(w, "Branch   %s that were never acknowledged and that a later server did not continue; to see them: holdfast fence branches --logs\n", plural(r.Orphans, "change", "changes"))
	}
	for _, d := range r.Damage {
		if d.Kind == mirror.Torn {
			fmt.Fprintf(w, "Harmless %s\n", d)
		} else {
			fmt.Fprintf(w, "DAMAGE   %s\n", d)
		}
	}
	if r.More > 0 {
		fmt.Fprintf(w, "DAMAGE   %d more of the kind\n", r.More)
	}
	for _, d := range r.Refilled {
		fmt.Fprintf(w, "Refilled %s\n", d)
	}
	if len(r.Refilled) > 0 {
		fmt.Fprintln(w, "         what these had is in newer segments too, and was read there; look at that disk. docs/runbooks/scrub.md")
	}
	if !r.Bad() {
		fmt.Fprintln(w, "Well     everything that was acknowledged is here and whole")
	}
}
