package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// jsonFlag is in every command that lists or shows something.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON for programs."`
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// table prints rows in columns; the first row is the heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		for i, c := range r {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, c)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// day names the time zone: logs and incident reports are in UTC, the operator's clock may not be.
func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04 MST") }

// size writes bytes for people, in the unit that leaves one to four digits; -1 is not known.
func size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	const unit = 1024
	f, i := float64(n), 0
	names := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for f >= unit && i < len(names)-1 {
		f /= unit
		i++
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, names[i])
	}
	return fmt.Sprintf("%.1f %s", f, names[i])
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
