package clients

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// khal runs khal on the phone's calendar.
func (p *phone) khal(stdin string, args ...string) string {
	p.t.Helper()
	p.write("khal.conf", fmt.Sprintf(`[calendars]
[[calendar]]
path = %s
[locale]
timeformat = %%H:%%M
dateformat = %%Y-%%m-%%d
longdateformat = %%Y-%%m-%%d
datetimeformat = %%Y-%%m-%%d %%H:%%M
longdatetimeformat = %%Y-%%m-%%d %%H:%%M
local_timezone = UTC
default_timezone = UTC
[default]
default_calendar = calendar
[sqlite]
path = %s
`, p.path("cal/calendar"), p.path("khal.db")))
	return p.run(stdin, append([]string{"khal", "--config", p.path("khal.conf")}, args...)...)
}

// khard runs khard on the phone's address book.
func (p *phone) khard(stdin string, args ...string) string {
	p.t.Helper()
	p.write("khard.conf", fmt.Sprintf("[addressbooks]\n[[contacts]]\npath = %s\n[general]\neditor = true\nmerge_editor = true\n",
		p.path("card/contacts")))
	return p.run(stdin, append([]string{"khard", "--config", p.path("khard.conf")}, args...)...)
}

// todo runs todoman on the phone's task lists.
func (p *phone) todo(args ...string) string {
	p.t.Helper()
	p.write("todoman.py", fmt.Sprintf("path = %q\ndate_format = \"%%Y-%%m-%%d\"\ntime_format = \"%%H:%%M\"\ndefault_list = \"tasks\"\ncache_path = %q\n",
		p.path("cal", "*"), p.path("todoman.db")))
	return p.run("", append([]string{"todoman", "--config", p.path("todoman.py")}, args...)...)
}

// taskID returns the number by which todoman knows a task here.
func (p *phone) taskID(summary string) string {
	p.t.Helper()
	for _, line := range strings.Split(p.todo("--porcelain", "list"), "},") {
		if strings.Contains(line, summary) {
			_, rest, _ := strings.Cut(line, `"id": `)
			id, _, _ := strings.Cut(rest, ",")
			return strings.TrimSpace(id)
		}
	}
	p.t.Fatalf("todoman does not list %q", summary)
	return ""
}

// disagree: both phones have edited one thing. The first sync wins, the second phone is told and keeps its own, and wins
// when it is told so.
func disagree(t *testing.T, a, b *phone) {
	t.Helper()
	a.sync()
	if out, code := b.try("", b.vdirsyncer("sync")...); code == 0 {
		t.Fatalf("a conflict went by unnoticed:\n%s", out)
	}
	b.configure("a wins")
	b.sync()
	a.sync()
	b.configure("")
}

// TestKhalEdits: khal on two devices: an edit, a conflict, a delete.
func TestKhalEdits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	rename := func(p *phone, from, to string) { p.khal("s\n"+to+"\nq\n", "edit", from) }
	sees := func(p *phone, want, not string) {
		t.Helper()
		if out := p.khal("", "list", "2026-12-01", "1d"); want != "" && !strings.Contains(out, want) || not != "" && strings.Contains(out, not) {
			t.Errorf("khal list: %q, want %q and not %q", out, want, not)
		}
	}
	a.khal("", "new", "-a", "calendar", "2026-12-01", "10:00", "11:00", "Dentist")
	a.khal("", "new", "-a", "calendar", "2026-12-02", "10:00", "11:00", "Stays") // vdirsyncer sends no deletion that empties
	a.sync()
	b.sync()
	rename(b, "Dentist", "Doctor")
	b.sync()
	a.sync()
	sees(a, "Doctor", "Dentist")
	rename(a, "Doctor", "Surgeon")
	rename(b, "Doctor", "Healer")
	disagree(t, a, b)
	sees(a, "Healer", "Surgeon")
	sees(b, "Healer", "Surgeon")
	a.khal("D\ny\n", "edit", "Healer")
	a.sync()
	b.sync()
	sees(b, "", "Healer")
}

// TestKhardEdits: khard on two devices: an edit and a conflict; TestKhard has a delete.
func TestKhardEdits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	form := func(last string) string {
		return "First name: Zoe\nLast name: " + last + "\nEmail:\n  home: zoe@example.org\n"
	}
	rename := func(p *phone, last string) { p.khard("y\n", "edit", "-i", p.write("form.yaml", form(last)), "Zoe") }
	sees := func(p *phone, want string) {
		t.Helper()
		if out := p.khard("", "list", "--parsable"); !strings.Contains(out, want) || strings.Count(out, "Zoe") != 1 {
			t.Errorf("khard list: %q, want one %q", out, want)
		}
	}
	a.khard(form("Quinn"), "new", "-a", "contacts")
	a.sync()
	b.sync()
	rename(b, "Lind")
	b.sync()
	a.sync()
	sees(a, "Zoe Lind")
	rename(a, "Berg")
	rename(b, "Holm")
	disagree(t, a, b)
	sees(a, "Zoe Holm")
	sees(b, "Zoe Holm")
}

// TestTodomanEdits: todoman on two devices: an edit, a conflict, a delete.
func TestTodomanEdits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newPhone(t, s, ""), newPhone(t, s, "")
	place := func(p *phone, at string) { p.todo("edit", "--location", at, p.taskID("Buy milk")) }
	sees := func(p *phone, at string) {
		t.Helper()
		if got := p.content(p.find("cal/tasks", "Buy milk")); !strings.Contains(got, "LOCATION:"+at+"\r\n") {
			t.Errorf("the task is %q, want it at %s", got, at)
		}
	}
	a.todo("new", "--list", "tasks", "Buy milk")
	a.todo("new", "--list", "tasks", "Stays") // vdirsyncer sends no deletion that empties
	a.sync()
	b.sync()
	place(b, "market")
	b.sync()
	a.sync()
	sees(a, "market")
	place(a, "dairy")
	place(b, "corner")
	disagree(t, a, b)
	sees(a, "corner")
	sees(b, "corner")
	a.todo("delete", "--yes", a.taskID("Buy milk"))
	a.sync()
	b.sync()
	if out := b.todo("list"); strings.Contains(out, "Buy milk") {
		t.Errorf("deleted elsewhere, and still listed: %q", out)
	}
}

// A calcurse is a device whose program speaks CalDAV itself.
type calcurse struct{ *program }

// newCalcurse makes an empty device with calcurse.
func newCalcurse(t *testing.T, s *server) *calcurse {
	t.Helper()
	p := newProgram(t)
	p.write("calcurse/caldav/config", fmt.Sprintf(`[General]
Binary = calcurse
Hostname = %s
Path = /dav/alice/calendar/
AuthMethod = basic
HTTPS = No
InsecureSSL = No
DryRun = No
SyncFilter = cal
Verbose = Yes
[Auth]
Username = alice
Password = %s
`, s.addr, s.passwords["alice"]))
	p.write("calcurse/data/apts", "")
	p.write("calcurse/data/todo", "")
	p.write("calcurse/data/conf", "")
	return &calcurse{p}
}

// sync runs calcurse-caldav.
func (p *calcurse) sync(args ...string) {
	p.t.Helper()
	p.run("", append([]string{
		"/usr/bin/python3", "/usr/bin/calcurse-caldav", "--config", p.path("calcurse/caldav/config"),
		"--datadir", p.path("calcurse/data"), "--syncdb", p.path("calcurse/sync.db"), "--lockfile", p.path("calcurse/lock"),
	}, args...)...)
}

// day lists a day's appointments.
func (p *calcurse) day(day string) string {
	p.t.Helper()
	return p.run("", "calcurse", "--datadir", p.path("calcurse/data"), "-Q", "--from", day, "--days", "1")
}

// TestCalcurseEdits: calcurse-caldav on two devices: an edit, which it sends as a deletion and a new event, a conflict,
// where each device keeps its own beside the other's, and a delete.
func TestCalcurseEdits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newCalcurse(t, s), newCalcurse(t, s)
	const on = "12/01/2026"
	rename := func(p *calcurse, from, to string) {
		p.write("calcurse/data/apts", strings.ReplaceAll(string(p.read("calcurse/data/apts")), from, to))
	}
	a.run("", "calcurse", "--datadir", a.path("calcurse/data"), "-i", a.write("e.ics", event("calcurse", "Dentist", "20261201")))
	a.sync("--init", "keep-local")
	b.sync("--init", "keep-remote")
	rename(b, "Dentist", "Doctor")
	b.sync()
	a.sync()
	if out := a.day(on); !strings.Contains(out, "Doctor") || strings.Contains(out, "Dentist") {
		t.Errorf("after an edit elsewhere: %q", out)
	}
	rename(a, "Doctor", "Surgeon")
	rename(b, "Doctor", "Healer")
	a.sync()
	b.sync()
	a.sync()
	for name, p := range map[string]*calcurse{"a": a, "b": b} {
		if out := p.day(on); !strings.Contains(out, "Surgeon") || !strings.Contains(out, "Healer") || strings.Contains(out, "Doctor") {
			t.Errorf("after a conflict %s has %q, want both edits", name, out)
		}
	}
	lines := strings.SplitAfter(string(a.read("calcurse/data/apts")), "\n")
	a.write("calcurse/data/apts", strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "Healer") }), ""))
	a.sync()
	b.sync()
	if out := b.day(on); strings.Contains(out, "Healer") || !strings.Contains(out, "Surgeon") {
		t.Errorf("after a delete elsewhere: %q", out)
	}
}

// read returns a file of the home directory.
func (p *program) read(name string) []byte {
	p.t.Helper()
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// TestRcloneConflict: two devices changed one file. Told not to overwrite what changed, rclone refuses; otherwise the last
// one wins, and no other file is touched.
func TestRcloneConflict(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newRclone(t, s), newRclone(t, s)
	a.write("tree/letter.txt", "first")
	a.write("tree/other.txt", "other")
	a.rclone("copy", a.path("tree"), "hf:tree")
	b.rclone("copy", "hf:tree", b.path("tree"))
	a.write("tree/letter.txt", "a has changed it")
	b.write("tree/letter.txt", "b too, otherwise")
	a.rclone("copy", a.path("tree"), "hf:tree")
	if out, code := b.try("", "rclone", "--config", b.path("rclone.conf"), "--retries", "1", "copy", "--ignore-times", "--immutable", b.path("tree"), "hf:tree"); code == 0 {
		t.Errorf("a conflict went by unnoticed:\n%s", out)
	}
	c := s.client("alice")
	c.get(t, "/dav/alice/Files/tree/letter.txt", "a has changed it")
	b.rclone("copy", "--ignore-times", b.path("tree"), "hf:tree")
	c.get(t, "/dav/alice/Files/tree/letter.txt", "b too, otherwise")
	c.get(t, "/dav/alice/Files/tree/other.txt", "other")
	b.rclone("deletefile", "hf:tree/letter.txt")
	a.rclone("sync", "hf:tree", a.path("tree"))
	if got := readTree(t, a.path("tree")); len(got) != 1 || string(got["other.txt"]) != "other" {
		t.Errorf("after a delete elsewhere: %q", got)
	}
}

// An rcloned is a device with rclone and the remote hf.
type rcloned struct{ *program }

func newRclone(t *testing.T, s *server) *rcloned {
	t.Helper()
	p := newProgram(t)
	hidden := strings.TrimSpace(p.run("", "rclone", "obscure", s.passwords["alice"]))
	p.write("rclone.conf", fmt.Sprintf("[hf]\ntype = webdav\nvendor = other\nurl = http://%s/dav/alice/Files\nuser = alice\npass = %s\n", s.addr, hidden))
	return &rcloned{p}
}

func (p *rcloned) rclone(args ...string) {
	p.t.Helper()
	p.run("", append([]string{"rclone", "--config", p.path("rclone.conf"), "--retries", "1"}, args...)...)
}
