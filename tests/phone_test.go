package clients

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A phone is a device of alice's: plain files in a home directory, kept in step by vdirsyncer. It finds
// its collections as phones do, from the server's address and /.well-known (RFC 6764).
type phone struct {
	*program
	s *server
}

// newPhone makes an empty phone and lets it find the collections. conflict is vdirsyncer's
// conflict_resolution: "" reports a conflict, "a wins" keeps the phone's version.
func newPhone(t *testing.T, s *server, conflict string) *phone {
	t.Helper()
	p := &phone{newProgram(t), s}
	p.configure(conflict)
	for _, dir := range []string{"card/contacts", "cal/calendar", "cal/tasks"} {
		if err := os.MkdirAll(p.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.run("", p.vdirsyncer("discover")...)
	return p
}

func (p *phone) configure(conflict string) {
	p.t.Helper()
	if conflict != "" {
		conflict = "conflict_resolution = " + fmt.Sprintf("%q", conflict)
	}
	config := fmt.Sprintf("[general]\nstatus_path = %q\n", p.path("status")+"/")
	for _, kind := range []struct{ name, protocol, ext, collections string }{
		{"card", "carddav", ".vcf", `["contacts"]`},
		{"cal", "caldav", ".ics", `["calendar", "tasks"]`},
	} {
		config += fmt.Sprintf(`
[pair %[1]s]
a = "%[1]s_phone"
b = "%[1]s_server"
collections = %[4]s
metadata = [%[9]s]
%[5]s

[storage %[1]s_phone]
type = "filesystem"
path = %[6]q
fileext = "%[3]s"

[storage %[1]s_server]
type = "%[2]s"
url = "http://%[7]s/"
username = "alice"
password = %[8]q
`, kind.name, kind.protocol, kind.ext, kind.collections, conflict, p.path(kind.name)+"/", p.s.addr, p.s.passwords["alice"],
			map[string]string{"card": `"displayname"`, "cal": `"displayname", "color"`}[kind.name])
	}
	p.write("vdirsyncer.conf", config)
}

func (p *phone) vdirsyncer(args ...string) []string {
	return append([]string{"vdirsyncer", "--verbosity", "WARNING", "--config", p.path("vdirsyncer.conf")}, args...)
}

// sync brings phone and server in step.
func (p *phone) sync() {
	p.t.Helper()
	p.run("", p.vdirsyncer("sync")...)
}

// content returns a file's content as the phone has it, "" if it is not there.
func (p *phone) content(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(p.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(b)
}

// find returns the one file of a folder whose content has the text.
func (p *phone) find(folder, text string) string {
	p.t.Helper()
	files, err := filepath.Glob(p.path(folder, "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.Contains(string(b), text) {
			found = append(found, filepath.Join(folder, filepath.Base(file)))
		}
	}
	if len(found) != 1 {
		p.t.Fatalf("%s: %d of %d files contain %q, want 1", folder, len(found), len(files), text)
	}
	return found[0]
}

// count returns how many files of a folder end in ext.
func (p *phone) count(folder, ext string) int {
	p.t.Helper()
	files, err := filepath.Glob(p.path(folder, "*"+ext))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(files)
}

// The unusual parts that real phones write and some servers lose (docs/clients.md).
const appleCard = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:apple-1\r\nN:Appleseed;Jo;;;\r\nFN:Jo Appleseed\r\n" +
	"item1.TEL;type=pref:+1 555 0100\r\nitem1.X-ABLabel:_$!<HomePage>!$_\r\n" +
	"BDAY;X-APPLE-OMIT-YEAR=1604:1604-02-29\r\nX-APPLE-SUBLOCALITY:\\,odd\r\n" +
	"NOTE:a long line that is folded in the middle of a word by the program that wr\r\n ote it\\nand has two lines\r\n" +
	"PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJC\r\n QgKDBQNDAsLDBkSEw8UHRof\r\n" +
	"END:VCARD\r\n"

// TestVdirsyncerTwoPhones: what one phone writes, changes and deletes, the other has, byte for byte.
func TestVdirsyncerTwoPhones(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")

	made := map[string]string{
		"card/contacts/apple.vcf":      appleCard,
		"card/contacts/räksmörgås.vcf": card("swedish", "Åsa Öberg", "smörgås 🥪"),
		"cal/calendar/meeting.ics":     event("meeting", "Meeting", "20261201"),
		"cal/tasks/milk.ics":           task("milk", "Buy milk"),
	}
	for i := range 30 {
		made[fmt.Sprintf("card/contacts/many-%d.vcf", i)] = card(fmt.Sprintf("many-%d", i), "One of Many", fmt.Sprint(i))
	}
	for name, body := range made {
		a.write(name, body)
	}
	a.sync()
	b.sync()
	for name, body := range made {
		folder := filepath.Dir(name)
		uid := body[strings.Index(body, "UID:"):]
		uid = uid[:strings.Index(uid, "\r\n")+2]
		if got := b.content(b.find(folder, uid)); got != body {
			t.Errorf("%s on the other phone: got %q, want %q", name, got, body)
		}
	}
	if got, want := b.count("card/contacts", ".vcf"), 32; got != want {
		t.Errorf("the other phone has %d cards, want %d", got, want)
	}

	// A change and a delete travel back.
	changed := card("swedish", "Åsa Öberg-Lind", "married")
	b.write(b.find("card/contacts", "UID:swedish\r\n"), changed)
	if err := os.Remove(b.path(b.find("cal/calendar", "UID:meeting"))); err != nil {
		t.Fatal(err)
	}
	b.write("cal/calendar/other.ics", event("other", "Other", "20261202"))
	b.sync()
	a.sync()
	if got := a.content("card/contacts/räksmörgås.vcf"); got != changed {
		t.Errorf("the edit of the other phone: got %q, want %q", got, changed)
	}
	if got := a.content("cal/calendar/meeting.ics"); got != "" {
		t.Errorf("the deleted event is still there: %q", got)
	}
	a.find("cal/calendar", "UID:other\r\n")
	if got := a.content("cal/tasks/milk.ics"); got != made["cal/tasks/milk.ics"] {
		t.Errorf("the untouched task: got %q, want %q", got, made["cal/tasks/milk.ics"])
	}

	// A third phone, new or reset, gets everything back.
	fresh := newPhone(t, s, "")
	fresh.sync()
	if got, want := fresh.count("card/contacts", ".vcf"), 32; got != want {
		t.Errorf("a new phone has %d cards, want %d", got, want)
	}
	if got := fresh.content(fresh.find("card/contacts", "UID:apple-1\r\n")); got != appleCard {
		t.Errorf("a new phone has the card %q, want %q", got, appleCard)
	}
}

// TestVdirsyncerConflict: two phones edit one card. Nobody's edit is lost: the second phone is told, keeps
// its own, and wins only when told so.
func TestVdirsyncerConflict(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	a.write("card/contacts/x.vcf", card("x", "X", "first"))
	a.sync()
	b.sync()
	file := b.find("card/contacts", "UID:x\r\n")
	of := map[string]string{"a": card("x", "X", "edited on a"), "b": card("x", "X", "edited on b")}
	a.write("card/contacts/x.vcf", of["a"])
	a.sync()
	b.write(file, of["b"])
	if out, code := b.try("", b.vdirsyncer("sync")...); code == 0 {
		t.Fatalf("a conflict went by unnoticed:\n%s", out)
	}
	if got := b.content(file); got != of["b"] {
		t.Errorf("the second phone's edit became %q, want %q", got, of["b"])
	}
	a.sync()
	if got := a.content("card/contacts/x.vcf"); got != of["a"] {
		t.Errorf("the first phone's edit became %q, want %q", got, of["a"])
	}
	b.configure("a wins")
	b.sync()
	a.sync()
	if got := a.content("card/contacts/x.vcf"); got != of["b"] {
		t.Errorf("after the choice the first phone has %q, want %q", got, of["b"])
	}
}

// TestVdirsyncerMetadata: the name and colour of a calendar travel too.
func TestVdirsyncerMetadata(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	a.run("", a.vdirsyncer("metasync")...) // the server's own name first: two names would be a conflict
	a.write("cal/calendar/displayname", "Family & friends")
	a.write("cal/calendar/color", "#c0ffee")
	a.run("", a.vdirsyncer("metasync")...)
	b.run("", b.vdirsyncer("metasync")...)
	for name, want := range map[string]string{"displayname": "Family & friends", "color": "#c0ffee"} {
		if got := strings.ToLower(b.content("cal/calendar/" + name)); got != strings.ToLower(want) {
			t.Errorf("%s on the other phone: got %q, want %q", name, got, want)
		}
	}
}

// TestKhal: an event made with khal on one device is listed by khal on the other.
func TestKhal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	a.khal("", "new", "-a", "calendar", "2026-12-01", "10:00", "11:00", "Dentist Müller")
	a.khal("", "new", "-a", "calendar", "--repeat", "weekly", "--until", "2027-01-31", "2026-12-02", "18:00", "19:00", "Choir")
	a.sync()
	b.sync()
	if out := b.khal("", "list", "2026-12-01", "1d"); !strings.Contains(out, "10:00-11:00 Dentist Müller") {
		t.Errorf("khal list on the other device: %q", out)
	}
	if out := b.khal("", "list", "2026-12-16", "1d"); !strings.Contains(out, "Choir") {
		t.Errorf("the third week of a weekly event is missing on the other device: %q", out)
	}
	b.khal("", "import", "--batch", b.write("invite.ics", event("invite", "Invited", "20261203")))
	b.sync()
	a.sync()
	if out := a.khal("", "list", "2026-12-03", "1d"); !strings.Contains(out, "Invited") {
		t.Errorf("khal list after an import on the other device: %q", out)
	}
}

// TestKhard: a contact made with khard on one device is shown and changed by khard on the other.
func TestKhard(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	a.khard("First name: Zoë\nLast name: Quinn\nEmail:\n  home: zoe@example.org\nPhone:\n  cell: \"+49 30 5550100\"\n",
		"new", "-a", "contacts")
	a.sync()
	b.sync()
	if out := b.khard("", "email", "--parsable", "Quinn"); !strings.Contains(out, "zoe@example.org") {
		t.Errorf("khard email on the other device: %q", out)
	}
	if out := b.khard("", "phone", "--parsable", "Quinn"); !strings.Contains(out, "+49 30 5550100") {
		t.Errorf("khard phone on the other device: %q", out)
	}
	b.khard("", "remove", "--force", "Quinn")
	b.khard("First name: Other\nLast name: Person\n", "new", "-a", "contacts")
	b.sync()
	a.sync()
	if out := a.khard("", "list", "--parsable"); strings.Contains(out, "Quinn") || !strings.Contains(out, "Other Person") {
		t.Errorf("khard list after a remove and a new one on the other device: %q", out)
	}
}

// TestTodoman: a to-do made on one device is done on the other, and the first sees it.
func TestTodoman(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	a.todo("new", "--list", "tasks", "Buy milk")
	a.todo("new", "--list", "tasks", "--due", "2026-12-24", "Wrap presents")
	a.sync()
	b.sync()
	if out := b.todo("list"); !strings.Contains(out, "Buy milk") || !strings.Contains(out, "Wrap presents") {
		t.Fatalf("todoman list on the other device: %q", out)
	}
	b.todo("done", b.taskID("Buy milk"))
	b.sync()
	a.sync()
	if out := a.todo("list"); strings.Contains(out, "Buy milk") || !strings.Contains(out, "Wrap presents") {
		t.Errorf("todoman list after one was done on the other device: %q", out)
	}
	if got := a.content(a.find("cal/tasks", "Buy milk")); !strings.Contains(got, "STATUS:COMPLETED") {
		t.Errorf("the task that was done on the other device: %q", got)
	}
}

// TestCalcurse: calcurse-caldav on two devices, straight against the server.
func TestCalcurse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newCalcurse(t, s), newCalcurse(t, s)
	a.run("", "calcurse", "--datadir", a.path("calcurse/data"), "-i", a.write("e.ics", event("calcurse", "From calcurse", "20261201")))
	a.sync("--init", "keep-local")
	b.sync("--init", "keep-remote")
	if out := b.day("12/01/2026"); !strings.Contains(out, "From calcurse") {
		t.Fatalf("calcurse on the other device: %q", out)
	}
	s.client("alice").put(t, "/dav/alice/calendar/web.ics", event("web", "From elsewhere", "20261202"))
	a.sync()
	if out := a.day("12/02/2026"); !strings.Contains(out, "From elsewhere") {
		t.Errorf("calcurse after a change elsewhere: %q", out)
	}
}
