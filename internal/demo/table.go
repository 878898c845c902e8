package demo

import (
	"fmt"
	"io"
)

// print says how one of all scenarios ended.
func (r *Result) print(w io.Writer) {
	if w == nil {
		return
	}
	switch {
	case r.Skipped:
		fmt.Fprintf(w, "          not shown without a fence: %s\n", r.Scenario.Others)
	case r.Err != nil:
		fmt.Fprintf(w, "          %v\n", r.Err)
	default:
		r.Verdict.Print(w)
	}
	fmt.Fprintln(w)
}

// Print writes what is wrong, one line each, and the verdict as the last line.
func (v *Verdict) Print(w io.Writer) {
	for _, p := range v.Problems {
		fmt.Fprintln(w, "  wrong:  "+p)
	}
	fmt.Fprintln(w, v)
}

// Good reports that the scenario was shown, or is one that shows nothing, and that nothing was lost.
func (r *Result) Good() bool { return r.Skipped || r.Err == nil && r.Verdict.Good() }

// word is the result in one word.
func (r *Result) word() string {
	switch {
	case r.Skipped:
		return "-"
	case r.Err != nil:
		return "FAILED"
	case r.Good():
		return "well"
	}
	return "LOST"
}

// PrintTable writes one line for each scenario.
func PrintTable(w io.Writer, all []Result) {
	fmt.Fprintf(w, "%-17s %-7s %12s %8s %8s %8s %8s\n", "scenario", "", "acknowledged", "present", "altered", "deleted", "refused")
	for i := range all {
		r := &all[i]
		v := r.Verdict
		if v == nil {
			fmt.Fprintf(w, "%-17s %s\n", r.Scenario.Name, r.word())
			continue
		}
		fmt.Fprintf(w, "%-17s %-7s %12d %8d %8d %8d %8d  %s", r.Scenario.Name, r.word(), v.Acknowledged, v.Present, v.Altered, v.Deleted, v.Refused, v.back())
		if v.OnDevices > 0 {
			fmt.Fprintf(w, ", %d more on devices", v.OnDevices)
		}
		fmt.Fprintln(w)
	}
}
