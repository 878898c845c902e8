package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/internal/doctor"
)

type doctorCommand struct {
	dataFlag
	jsonFlag
	Strict bool `help:"Exit with 1 for warnings too."`
}

// Help teaches.
func (doctorCommand) Help() string {
	return `Looks at the data directory, every mirror and its disk, the clock, the ports, the certificate, the proxy, limits,
supervisor and alerts, beside a running server or without one. It changes nothing and heals nothing.

Each line is ok, warning (it works, but would not survive something) or PROBLEM, with what to do below it.

Exit code 0: no problem; warnings are none (but see --strict). 1: a problem.

  holdfast doctor --data /srv/holdfast
  holdfast doctor --json --data /srv/holdfast`
}

// errProblems makes the exit code 1; the problems have been printed.
var errProblems = errors.New("something has to be done")

// Run examines.
func (c *doctorCommand) Run(s *streams) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	found := doctor.Examine(s.ctx, doctor.Options{Dir: dir, Version: version()})
	problems, warnings := count(found)
	if c.JSON {
		err = printJSON(s.out, found)
	} else {
		err = printFindings(s.out, found)
	}
	if err == nil && (problems > 0 || c.Strict && warnings > 0) {
		err = errProblems
	}
	return err
}

func count(found []doctor.Finding) (problems, warnings int) {
	for _, f := range found {
		switch f.Level {
		case doctor.Problem:
			problems++
		case doctor.Warning:
			warnings++
		}
	}
	return problems, warnings
}

// printFindings prints all, and what matters once more at the end, where it is read first.
func printFindings(w io.Writer, found []doctor.Finding) error {
	wide := 0
	for _, f := range found {
		wide = max(wide, len(f.Check))
	}
	for _, f := range found {
		level := string(f.Level)
		if f.Level == doctor.Problem {
			level = "PROBLEM"
		}
		fmt.Fprintf(w, "%-7s  %-*s  %s\n", level, wide, f.Check, f.Text)
		if f.Todo != "" {
			fmt.Fprintf(w, "%s  do: %s\n", strings.Repeat(" ", 9+wide), f.Todo)
		}
	}
	problems, warnings := count(found)
	if problems == 0 {
		_, err := fmt.Fprintf(w, "\nNo problem, %s.\n", plural(warnings, "warning", "warnings"))
		return err
	}
	fmt.Fprintf(w, "\n%s, %s. To do first:\n", plural(problems, "PROBLEM", "PROBLEMS"), plural(warnings, "warning", "warnings"))
	for _, f := range found {
		if f.Level == doctor.Problem {
			if _, err := fmt.Fprintf(w, "  %s: %s\n", f.Check, f.Text); err != nil {
				return err
			}
		}
	}
	return nil
}
