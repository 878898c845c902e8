package clients

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A syncevolver is a device whose files are kept in step by SyncEvolution: cards and events, one file each.
type syncevolver struct {
	*program
	s *server
}

func newSyncevolver(t *testing.T, s *server) *syncevolver {
	t.Helper()
	p := &syncevolver{newProgram(t), s}
	base := "http://" + s.addr + "/dav/alice/"
	p.command("--configure", "--template", "webdav", "syncURL="+base, "username=alice", "password="+s.passwords["alice"], "keyring=no",
		"addressbook/backend=CardDAV", "addressbook/database="+base+"contacts/",
		"calendar/backend=CalDAV", "calendar/database="+base+"calendar/", "target-config@hf", "addressbook", "calendar")
	p.command("--configure", "--template", "SyncEvolution_Client", "syncURL=local://@hf", "username=", "password=", "keyring=no",
		"addressbook/backend=file", "addressbook/database=file://"+p.path("cards"), "addressbook/databaseFormat=text/vcard",
		"calendar/backend=file", "calendar/database=file://"+p.path("events"), "calendar/databaseFormat=text/calendar", "hf@default", "addressbook", "calendar")
	p.command("--sync", "slow", "hf")
	return p
}

// command runs SyncEvolution without its daemon, without a desktop and its key ring.
func (p *syncevolver) command(args ...string) {
	p.t.Helper()
	p.run("", append([]string{"syncevolution", "--daemon=no", "--keyring=no"}, args...)...)
}

func (p *syncevolver) sync() { p.t.Helper(); p.command("hf") }

// only returns the one file of a folder.
func (p *syncevolver) only(folder string) string {
	p.t.Helper()
	files, err := filepath.Glob(p.path(folder, "*"))
	if err != nil || len(files) != 1 {
		p.t.Fatalf("%s: %q, %v; want one file", folder, files, err)
	}
	return filepath.Join(folder, filepath.Base(files[0]))
}

// edit replaces a text in the one file of a folder.
func (p *syncevolver) edit(folder, from, to string) {
	p.t.Helper()
	name := p.only(folder)
	before := string(p.read(name))
	if !strings.Contains(before, from) {
		p.t.Fatalf("%s has no %q: %q", name, from, before)
	}
	p.write(name, strings.ReplaceAll(before, from, to))
}

// TestSyncevolution: SyncEvolution on two devices: create, edit, conflict, delete.
func TestSyncevolution(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newSyncevolver(t, s), newSyncevolver(t, s)
	has := func(p *syncevolver, folder, want string) {
		t.Helper()
		if got := string(p.read(p.only(folder))); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", folder, got, want)
		}
	}
	a.write("cards/1", card("ada", "Ada", "first"))
	a.write("events/1", event("dentist", "Dentist", "20270301"))
	a.sync()
	b.sync()
	has(b, "cards", "FN:Ada\r\n")
	has(b, "events", "SUMMARY:Dentist\r\n")

	b.edit("events", "SUMMARY:Dentist", "SUMMARY:Doctor")
	b.sync()
	a.sync()
	has(a, "events", "SUMMARY:Doctor\r\n")

	a.edit("cards", "FN:Ada\r\n", "FN:Ada by a\r\n")
	b.edit("cards", "FN:Ada\r\n", "FN:Ada by b\r\n")
	for _, p := range []*syncevolver{a, b, a} { // it sees the conflict and lets the server's version win
		p.sync()
	}
	has(a, "cards", "FN:Ada by a\r\n")
	has(b, "cards", "FN:Ada by a\r\n")

	// What another program wrote comes too, and a deletion goes.
	s.client("alice").put(t, "/dav/alice/contacts/bob.vcf", card("bob", "Bob", "elsewhere"))
	a.run("", "rm", a.only("events"))
	a.sync()
	b.sync()
	for name, p := range map[string]*syncevolver{"a": a, "b": b} {
		events, _ := filepath.Glob(p.path("events", "*")) // the pattern is right
		cards, _ := filepath.Glob(p.path("cards", "*"))
		if len(events) != 0 || len(cards) != 2 {
			t.Errorf("%s has %d events and %d cards, want 0 and 2", name, len(events), len(cards))
		}
	}
	members, err := s.client("alice").list("/dav/alice/calendar/")
	if err != nil || len(members) != 0 {
		t.Errorf("on the server: %s, %v", fmt.Sprint(members), err)
	}
}
