package holdfast_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// layers is the table of ARCHITECTURE.md: a package imports only packages of lower layers. A package that
// is not in it fails the build: put it where it belongs.
var layers = map[string]int{
	".": 0, "internal/durable": 0, "internal/durable/simdisk": 0,

	"internal/bucket": 1, "internal/bucket/buckettest": 1, "frame": 1, "internal/contentline": 1, "internal/vcard": 1,
	"internal/ical": 1, "internal/config": 1, "internal/dial": 1, "internal/lock": 1, "internal/limit": 1,

	"internal/store": 2, "internal/store/simvfs": 2, "internal/blob": 2, "internal/mirror": 2, "internal/witness": 2, "internal/fence": 2, "internal/kind": 2, "internal/bucket/dir": 2,

	"internal/upload": 2,

	"internal/ledger": 3,
	"internal/auth":   4, "internal/push": 4, "internal/push/pushtest": 4, "internal/alert": 4,
	"internal/dav": 5, "internal/web": 5, "internal/restore": 5,
	"internal/upgrade": 6, "internal/setup": 6,
	"internal/server": 7, "internal/demo": 7, "internal/bench": 7, "internal/doctor": 7,
	"cmd/holdfast": 8,

	"tests": 8, // drives the built binary; imports no package of ours
}

// sideways lists the imports inside one layer, importer to imported. Nothing else may.
var sideways = map[string][]string{
	"internal/durable":           {"."},
	"internal/durable/simdisk":   {".", "internal/durable"},
	"internal/bucket/buckettest": {"internal/bucket"},
	"internal/vcard":             {"internal/contentline"},
	"internal/ical":              {"internal/contentline"},
	"internal/store":             {"internal/kind"},
	"internal/demo":              {"internal/server"},
	"internal/doctor":            {"internal/server"},
	"internal/bench":             {"internal/server"},
}

// A door is an import that only some packages may have.
type door struct {
	path    string // import path; a slash at the end stands for everything below
	only    []string
	because string
}

var doors = []door{
	{"holdfast/internal/store", []string{"internal/ledger", "internal/server"}, "use ledger.Update and ledger.View: nothing else reads or writes the store"},
	{"holdfast/internal/blob", []string{"internal/ledger", "internal/server"}, "use ledger.PutBlob and View.OpenBody"},
	{"database/sql", []string{"internal/store"}, "SQL lives in internal/store alone"},
	{"database/sql/", []string{"internal/store"}, "SQL lives in internal/store alone"},
	{"modernc.org/sqlite", []string{"internal/store", "internal/store/simvfs"}, "SQLite lives in internal/store alone"},
	{"modernc.org/sqlite/", []string{"internal/store", "internal/store/simvfs"}, "SQLite lives in internal/store alone"},
	{"modernc.org/libc", []string{"internal/store", "internal/store/simvfs"}, "SQLite lives in internal/store alone"},
	{"github.com/alecthomas/kong", []string{"cmd/holdfast"}, "flags are parsed in cmd/holdfast"},
	{"github.com/caddyserver/certmagic", []string{"internal/server"}, "certificates are the server's"},
	{"github.com/prometheus/", []string{"internal/server"}, "metrics are gathered in internal/server"},
	{"go.uber.org/zap", []string{"internal/server"}, "only certmagic logs through zap; log with log/slog"},
	{"rsc.io/qr", []string{"internal/setup"}, "QR codes are drawn in internal/setup"},
	{"github.com/teambition/rrule-go", []string{"internal/ical"}, "recurrence is bounded in internal/ical alone"},
	{"golang.org/x/crypto/", []string{"internal/auth"}, "passwords are internal/auth's"},
	{"golang.org/x/time/", []string{"internal/auth", "internal/server", "internal/dav"}, "rates are limited at the listener and the login"},
	{"golang.org/x/sys/", []string{"internal/durable", "internal/bucket/dir", "internal/server", "cmd/holdfast", "tests"}, "system calls for files belong into internal/durable"},
	{"golang.org/x/text/", []string{"internal/contentline", "internal/vcard", "internal/ical", "internal/dav"}, "collation belongs to the parsers"},
	{"golang.org/x/term", []string{"cmd/holdfast"}, "only commands have a terminal"},
}

// testModules may be imported by test files of any package.
var testModules = []string{"github.com/anishathalye/porcupine", "github.com/google/go-cmp/", "pgregory.net/rapid", "github.com/rogpeppe/go-internal/"}

// handsOff lists the functions of package os that change files. Only internal/durable calls them, because
// only it syncs the directory too.
var handsOff = []string{
	"Rename", "Create", "CreateTemp", "Remove", "RemoveAll", "WriteFile", "Mkdir", "MkdirAll", "MkdirTemp", "Link", "Symlink", "Truncate",
}

// handsOn lists the exceptions: the demonstration makes a directory of its own and destroys a store in it; the
// comparison lays out files of other servers.
var handsOn = map[string][]string{"internal/demo": {"MkdirTemp", "RemoveAll"}, "internal/bench": {"MkdirAll", "WriteFile"}}

// unfenced lists who may mention Unfenced, the switch that turns the fence off for the demonstration.
var unfenced = []string{"internal/ledger", "internal/server", "internal/demo", "cmd/holdfast"}

// TestLayers holds the layers and the closed doors over the whole tree.
func TestLayers(t *testing.T) {
	violations, packages, err := checkLayers(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if packages < 3 {
		t.Fatalf("found %d packages; the test runs in the wrong directory", packages)
	}
	for _, v := range violations {
		t.Error(v)
	}
}

// TestLayersCatch plants one violation of each kind; each must be found, and nothing else.
func TestLayersCatch(t *testing.T) {
	clean := map[string]string{
		"holdfast.go":                   `package holdfast; import "fmt"; var _ = fmt.Sprint`,
		"frame/frame.go":                `package frame; import "holdfast"; var _ = holdfast.ErrFull`,
		"internal/durable/disk.go":      `package durable; import "os"; var _ = os.Rename`,
		"internal/durable/lock_test.go": `package durable; import ("os"; "pgregory.net/rapid"); var _ = os.WriteFile; var _ = rapid.Check`,
		"internal/store/store.go":       `package store; import ("database/sql"; "holdfast/internal/kind"); var _ sql.DB; var _ kind.Index`,
		"internal/ledger/ledger.go":     `package ledger; import "holdfast/internal/store"; type Config struct{ Unfenced bool }; var _ store.Tx`,
		"internal/dav/testdata/x.go":    `package broken; import "database/sql"`,
		"tests/doc.go":                  `package clients`,
	}
	for name, planted := range map[string]struct{ file, source, want string }{
		"up":          {"internal/store/up.go", `package store; import "holdfast/internal/ledger"; var _ ledger.Tx`, "may not import internal/ledger"},
		"sideways":    {"internal/mirror/m.go", `package mirror; import "holdfast/internal/fence"; var _ fence.Verdict`, "may not import internal/fence"},
		"alias":       {"internal/dav/a.go", `package dav; import s "holdfast/internal/store"; var _ s.Tx`, "use ledger.Update"},
		"dot":         {"internal/dav/d.go", `package dav; import . "database/sql"; var _ DB`, "SQL lives in internal/store alone"},
		"blank":       {"internal/dav/b.go", `package dav; import _ "modernc.org/sqlite"`, "SQLite lives in internal/store alone"},
		"below":       {"internal/dav/c.go", `package dav; import "database/sql/driver"; var _ driver.Conn`, "SQL lives in internal/store alone"},
		"test goes":   {"internal/store/up_test.go", `package store; import "holdfast/internal/ledger"; var _ ledger.Tx`, "may not import internal/ledger"},
		"module":      {"internal/dav/m.go", `package dav; import "example.org/new"; var _ = new.X`, "docs/decisions"},
		"test module": {"internal/dav/r.go", `package dav; import "pgregory.net/rapid"; var _ = rapid.Check`, "only test files"},
		"frame":       {"frame/x.go", `package frame; import "holdfast/internal/durable"; var _ = durable.Disk`, "may not import internal/durable"},
		"root":        {"root.go", `package holdfast; import "golang.org/x/sys/unix"; var _ = unix.EIO`, "standard library"},
		"unknown":     {"internal/util/util.go", `package util`, "not in the table of layers"},
		"os":          {"internal/ledger/w.go", `package ledger; import o "os"; var _ = o.WriteFile("x", nil, 0)`, "only internal/durable"},
		"os value":    {"internal/ledger/v.go", `package ledger; import "os"; var f = os.RemoveAll`, "only internal/durable"},
		"os dot":      {"internal/ledger/o.go", `package ledger; import . "os"; var f = RemoveAll`, "import os by its name"},
		"open":        {"internal/ledger/c.go", `package ledger; import "os"; func f() { os.OpenFile("x", os.O_RDWR|os.O_CREATE, 0) }`, "only internal/durable"},
		"unfenced":    {"internal/auth/u.go", `package auth; var c struct{ Unfenced bool }`, "Unfenced"},
		"tests":       {"tests/x_test.go", `package clients; import "holdfast/internal/durable"; var _ = durable.Disk`, "from outside"},
		"cgo":         {"internal/mirror/c.go", `package mirror; import "C"`, "cgo"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for file, source := range clean {
				tree[file] = &fstest.MapFile{Data: []byte(source)}
			}
			if got, _, err := checkLayers(tree); err != nil || len(got) != 0 {
				t.Fatalf("the clean tree: got %q, %v, want nothing", got, err)
			}
			tree[planted.file] = &fstest.MapFile{Data: []byte(planted.source)}
			got, _, err := checkLayers(tree)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !strings.Contains(got[0], planted.want) || !strings.HasPrefix(got[0], planted.file+":") {
				t.Errorf("planted in %s %q: got %q, want one sentence with %q", planted.file, planted.source, got, planted.want)
			}
		})
	}
}

// checkLayers returns a sentence for each violation below root, and how many packages it saw.
func checkLayers(root fs.FS) (violations []string, packages int, err error) {
	c := &checker{fset: token.NewFileSet(), seen: map[string]bool{}}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || base == "vendor" || name != "." && base[0] == '.' {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(c.fset, name, source, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		c.file(name, file)
		return nil
	})
	return c.found, len(c.seen), err
}

// A checker collects what it finds.
type checker struct {
	fset  *token.FileSet
	seen  map[string]bool // packages
	found []string
}

func (c *checker) say(at ast.Node, format string, args ...any) {
	p := c.fset.Position(at.Pos())
	c.found = append(c.found, fmt.Sprintf("%s:%d: ", p.Filename, p.Line)+fmt.Sprintf(format, args...))
}

// file checks one file.
func (c *checker) file(name string, file *ast.File) {
	pkg, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	first := !c.seen[pkg]
	c.seen[pkg] = true
	if _, known := layers[pkg]; !known {
		if first {
			c.say(file, "package %s is not in the table of layers; put it into the table of layers_test.go and of ARCHITECTURE.md", pkg)
		}
		return
	}
	osName := ""
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.say(spec, "import path %s cannot be read", spec.Path.Value)
			continue
		}
		c.importOf(pkg, test, spec, imported)
		if imported == "os" {
			osName = "os"
			if spec.Name != nil {
				osName = spec.Name.Name
			}
			if osName == "." && !test {
				c.say(spec, "import os by its name, so that its use can be seen")
			}
		}
	}
	if !test {
		c.uses(pkg, osName, file)
	}
}

// importOf checks one import.
func (c *checker) importOf(pkg string, test bool, spec *ast.ImportSpec, imported string) {
	if imported == "C" {
		c.say(spec, "package %s uses cgo; the binary is static and pure Go", pkg)
		return
	}
	own, isOwn := ours(imported)
	if pkg == "tests" && isOwn {
		c.say(spec, "package tests drives the binary from outside and imports no package of ours; drop %s", own)
		return
	}
	if d := doorOf(imported); d != nil && !isStandalone(pkg) {
		// A door is closed to test files too, but a package's own tests stand behind it.
		if !slices.Contains(d.only, pkg) && own != pkg {
			c.say(spec, "package %s may not import %s: %s (only %s may)", pkg, imported, d.because, strings.Join(d.only, ", "))
			return
		}
		if !isOwn {
			return
		}
	}
	if isOwn {
		c.ownImport(pkg, test, spec, own)
		return
	}
	c.foreignImport(pkg, test, spec, imported)
}

// doorOf returns the door an import goes through, or nil.
func doorOf(imported string) *door {
	for i, d := range doors {
		if imported == d.path || strings.HasSuffix(d.path, "/") && strings.HasPrefix(imported, d.path) {
			return &doors[i]
		}
	}
	return nil
}

// isStandalone reports whether a package has the standard library and the root package only.
func isStandalone(pkg string) bool { return pkg == "." || pkg == "frame" }

// ownImport checks the import of one of our packages. A test file may also import from its own layer.
func (c *checker) ownImport(pkg string, test bool, spec *ast.ImportSpec, own string) {
	to, known := layers[own]
	switch {
	case own == pkg && test:
		return // an external test of the package
	case !known:
		c.say(spec, "package %s is not in the table of layers; put it into the table of layers_test.go and of ARCHITECTURE.md", own)
	case pkg == "frame" && own != "." && !test:
		c.say(spec, "package frame may not import %s: anybody reads a mirror with frame, the root package and the standard library", own)
	case to < layers[pkg], slices.Contains(sideways[pkg], own), test && to == layers[pkg]:
		return
	default:
		c.say(spec, "package %s (layer %d) may not import %s (layer %d): imports go down only; move the code down, or let the higher package pass what is needed",
			pkg, layers[pkg], own, to)
	}
}

// foreignImport checks the import of a package that no door speaks of.
func (c *checker) foreignImport(pkg string, test bool, spec *ast.ImportSpec, imported string) {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return // the standard library
	}
	for _, m := range testModules {
		if imported == m || strings.HasPrefix(imported, m) {
			if !test {
				c.say(spec, "package %s may not import %s: only test files may", pkg, imported)
			}
			return
		}
	}
	if isStandalone(pkg) {
		c.say(spec, "package %s may import the standard library and the root package only, not %s", pkg, imported)
		return
	}
	c.say(spec, "package %s imports %s, which no door of layers_test.go lets in; a new module needs a line there and one in docs/decisions", pkg, imported)
}

// uses looks for functions that change files and for the switch that turns the fence off.
func (c *checker) uses(pkg, osName string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if n.Name == "Unfenced" && !slices.Contains(unfenced, pkg) {
				c.say(n, "package %s mentions Unfenced; only the demonstration turns the fence off (%s)", pkg, strings.Join(unfenced, ", "))
			}
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && osName != "" && id.Name == osName && pkg != "internal/durable" &&
				slices.Contains(handsOff, n.Sel.Name) && !slices.Contains(handsOn[pkg], n.Sel.Name) {
				c.say(n, "package %s uses os.%s; only internal/durable creates, renames and removes files, use its functions", pkg, n.Sel.Name)
			}
		case *ast.CallExpr:
			if isNamed(n.Fun, osName, "OpenFile") && pkg != "internal/durable" && mentions(n, osName, "O_CREATE") {
				c.say(n, "package %s creates a file with OpenFile; only internal/durable creates files, use its functions", pkg)
			}
		}
		return true
	})
}

// isNamed reports whether an expression is pkg.name.
func isNamed(e ast.Node, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == pkg
}

// mentions reports whether a call's arguments name a constant of package os.
func mentions(call *ast.CallExpr, osName, constant string) bool {
	found := false
	for _, arg := range call.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			found = found || isNamed(n, osName, constant)
			return true
		})
	}
	return found
}

// ours returns the directory of one of our packages.
func ours(imported string) (string, bool) {
	if imported == "holdfast" {
		return ".", true
	}
	rest, ok := strings.CutPrefix(imported, "holdfast/")
	return cmp.Or(rest, imported), ok
}
