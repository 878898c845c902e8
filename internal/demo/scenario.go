package demo

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// Scenario is a disaster that can be shown.
type Scenario struct {
	Name    string
	Summary string // what happens, one line for people
	Others  string // what a server without a fence makes of it
	Rows    []int  // of the design's table of faults, those that it plays

	night    bool       // last night's copy of all files is needed
	quiet    bool       // nobody writes while it happens
	ordered  bool       // a device orders it: the server is right to obey
	full     [kinds]int // how many things of each kind there are when it is shown alone; zero: as usual
	returns  string     // for the verdict: how the server comes back
	accepts  bool       // an operator accepts that the server lost something
	prepare  []act      // with the server filled and at rest
	disaster []act      // in this order, while people write
	unfenced []act      // the same for a server without a fence; none: there is nothing to show
	expect   []check    // beside: nothing is lost, and no answer was false
}

// act is something that happens. An error means that the show cannot go on.
type act func(*show) error

// check returns what should not be, in words; nothing if all is as it should be.
type check func(*show) string

// table holds the scenarios in the order in which they are shown.
var table = []Scenario{
	{
		Name:     "store-removed",
		Summary:  "the store is deleted (rm -rf) under a running server while three devices write: the core database of 2009 is gone",
		Others:   "goes on with last night's backup and lets phones delete what is newer",
		Rows:     []int{10, 26},
		returns:  "healed",
		disaster: []act{(*show).removeStore},
		unfenced: []act{(*show).switchOff, (*show).removeStore, (*show).putBackup, (*show).switchOn},
		expect:   []check{(*show).healedByItself},
	},
	{
		Name:     "old-disk",
		Summary:  "the server is switched off, last night's disk is put in place of the store's, and it is switched on again",
		Others:   "knows nothing newer than last night, and says so to every phone",
		Rows:     []int{11, 17, 26},
		night:    true,
		returns:  "healed",
		disaster: []act{(*show).switchOff, (*show).putOldStore, (*show).switchOn},
		unfenced: []act{(*show).switchOff, (*show).putBackup, (*show).switchOn},
		expect:   []check{(*show).healedByItself},
	},
	{
		Name:     "zeroed",
		Summary:  "a storage upgrade overwrites the store with zeros while three devices write",
		Others:   "goes on with last night's backup and lets phones delete what is newer",
		Rows:     []int{9, 26},
		returns:  "healed",
		disaster: []act{(*show).zeroStore},
		unfenced: []act{(*show).switchOff, (*show).zeroStore, (*show).putBackup, (*show).switchOn},
		expect:   []check{(*show).healedByItself},
	},
	{
		Name:     "torn-mirror",
		Summary:  "the back-up is damaged: the mirror loses its tail while the server is off, and garbage is written over its end while it runs; a scrub finds that",
		Others:   "it has no second copy that could be damaged",
		Rows:     []int{3, 5},
		returns:  "open again",
		disaster: []act{(*show).switchOff, (*show).cutMirror, (*show).switchOn, (*show).spoilMirror, (*show).scrub},
		expect:   []check{(*show).damageReported, (*show).mirrorIsWhole},
	},
	{
		Name:     "unmounted-mirror",
		Summary:  "the mirror's disk is unmounted under load, an empty directory stays in its place; later it is mounted again",
		Others:   "it has no second copy that could be away, so it says \"stored\" with one",
		Rows:     []int{14},
		returns:  "writes again",
		disaster: []act{(*show).unmountMirror, (*show).waitRefused, (*show).mountMirror},
		expect:   []check{(*show).readsWentOn, (*show).writesWaited, (*show).mirrorIsWhole},
	},
	{
		Name:     "two-servers",
		Summary:  "a second server is started from last night's copy on the same mirror while the first one runs on",
		Others:   "both say \"stored\", each to its own phones; what one of them has the other never sees",
		Rows:     []int{18},
		night:    true,
		returns:  "all on one server",
		disaster: []act{(*show).startSecond, (*show).bothRun, (*show).leaveFirst},
		unfenced: []act{(*show).startSecond, (*show).bothRun, (*show).leaveFirst},
		expect:   []check{(*show).oneAcknowledged},
	},
	{
		Name:     "ransom",
		Summary:  "one device overwrites 9 things of 10 with garbage and deletes the rest; the other devices obey; then it is undone",
		Others:   "it keeps no versions: what was overwritten is gone everywhere",
		Rows:     []int{20},
		quiet:    true,
		ordered:  true,
		full:     [kinds]int{8000, 1500, 460, 50},
		returns:  "undone",
		disaster: []act{(*show).ransom, (*show).phonesObey, (*show).undo},
		expect:   []check{(*show).warned},
	},
	{
		Name:     "both-rolled-back",
		Summary:  "core database and back-up are lost together, as in 2009: store and mirror are put back to last night's image; a phone knows more",
		Others:   "tells phones to delete what is newer (Radicale, Cyrus), or differs from them for ever (sabre/dav); unsent edits meet 412",
		Rows:     []int{11, 26},
		quiet:    true,
		accepts:  true,
		returns:  "open again",
		prepare:  []act{(*show).liveADay},
		disaster: []act{(*show).rollBack, (*show).closedForOne, (*show).acceptLoss, (*show).takeFromDrawer},
		unfenced: []act{(*show).rollBack, (*show).takeFromDrawer},
		expect:   []check{(*show).unsentStored, (*show).asOthers},
	},
}

// Scenarios lists what can be shown.
func Scenarios() []Scenario { return slices.Clone(table) }

// faults names the rows of the design's table of faults that are played here.
var faults = map[int]string{
	3:  "torn sectors",
	5:  "bit rot in the mirror",
	9:  "zeroed disk",
	10: "rm -rf while running",
	11: "old disk mounted",
	14: "mirror unreachable",
	17: "mirror ahead of store",
	18: "two servers, one mirror",
	20: "ransomware client",
	26: "device meets a server that lost data",
}

// OnlyFenced reports that a server without a fence has nothing to show here; Others says why.
func (sc *Scenario) OnlyFenced() bool { return len(sc.unfenced) == 0 }

// expected returns all that must be so in the end.
func (sc *Scenario) expected() []check {
	if sc.ordered {
		return sc.expect
	}
	return append([]check{(*show).answeredTruly}, sc.expect...)
}

// Faults returns the rows with their names: `10 rm -rf while running, 26 ...`.
func (sc *Scenario) Faults() string {
	var all []string
	for _, n := range sc.Rows {
		all = append(all, fmt.Sprintf("%d %s", n, faults[n]))
	}
	return strings.Join(all, ", ")
}

func find(name string) (Scenario, error) {
	if name == "" {
		return table[0], nil
	}
	known := make([]string, len(table))
	for i, sc := range table {
		if sc.Name == name {
			return sc, nil
		}
		known[i] = sc.Name
	}
	return Scenario{}, fmt.Errorf("scenario %q (there are %s and %s): %w", name, strings.Join(known, ", "), All, holdfast.ErrNotFound)
}
