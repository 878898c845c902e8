package setup

import (
	"fmt"
	"strings"
)

// Text returns a guide for a terminal: what stands on a screen is between quotes, what is typed as it is.
func (g Guide) Text(f Facts) string {
	g = g.Filled(f)
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", g.Name, g.For)
	for i, s := range g.Steps {
		wrap(&b, fmt.Sprintf("  %d. ", i+1), plainText(s))
	}
	for _, s := range g.Shell {
		fmt.Fprintf(&b, "  $ %s\n", s)
	}
	for _, s := range g.Notes {
		wrap(&b, "  - ", plainText(s))
	}
	wrap(&b, "  ", g.Verdict())
	return b.String()
}

// Verdict says whether somebody has tried these steps.
func (g Guide) Verdict() string {
	if rest, not := strings.CutPrefix(g.Tried, "not "); not {
		return "Not " + rest + "."
	}
	return "Tried: " + g.Tried + "."
}

func plainText(text string) string {
	var b strings.Builder
	for _, s := range spans(text) {
		switch s.Kind {
		case '*':
			b.WriteString(`"` + s.Text + `"`)
		default:
			b.WriteString(s.Text)
		}
	}
	return b.String()
}

const lineWidth = 100

// wrap writes a paragraph behind a mark, broken at blanks; what has none is never broken.
func wrap(b *strings.Builder, mark, text string) {
	line := mark
	indent := strings.Repeat(" ", len(mark))
	for word := range strings.FieldsSeq(text) {
		switch {
		case strings.TrimLeft(line, " ") == "" || line == mark:
			line += word
		case len([]rune(line))+1+len([]rune(word)) > lineWidth:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}

// Markdown returns the table of README, for a server and an account that stand for all, without the notes.
func Markdown() string {
	f := Facts{Origin: "https://cloud.example.org", Name: "alice"}
	var b strings.Builder
	b.WriteString("| device or program | steps | tried |\n|---|---|---|\n")
	for _, g := range guides {
		g = g.Filled(f)
		var steps []string
		steps = append(steps, g.Steps...)
		for _, s := range g.Shell {
			steps = append(steps, "`"+s+"`")
		}
		fmt.Fprintf(&b, "| **%s**: %s | %s | %s |\n", g.Name, g.For, strings.Join(steps, " "), g.Tried)
	}
	return b.String()
}
