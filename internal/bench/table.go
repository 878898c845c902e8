package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table collects rows and prints them once.
type table struct {
	out   io.Writer
	size  size
	order []string
	rows  map[string][]sample
	facts []string // lines below
}

func newTable(out io.Writer, s size) *table {
	return &table{out: out, size: s, rows: make(map[string][]sample)}
}

func (t *table) add(row string, s sample) {
	if len(t.rows[row]) == 0 {
		t.order = append(t.order, row)
	}
	t.rows[row] = append(t.rows[row], s)
}

func (t *table) started(s *process, w *world) {
	t.facts = append(t.facts,
		fmt.Sprintf("start with %s resources: %.2f s from process start to the first true answer", count(w.total), s.started.Seconds()),
		fmt.Sprintf("memory (RSS) with %s resources: %d MB at that moment", count(w.total), s.atStart>>20))
}

func (t *table) memory(end int64) {
	t.facts[len(t.facts)-1] += fmt.Sprintf(", %d MB after all rounds", end>>20)
}

// print writes the table: medians of the rounds.
func (t *table) print() {
	fmt.Fprintf(t.out, "\n%s; server and generator share the cores; median of %d rounds of %s\n\n", machine(), t.size.rounds, t.size.round)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tanswers/s\tp50\tp99\tmachine's limit\tof it\tserver CPU per 1,000\tforeign CPU\twrong\tof\t")
	for _, name := range t.order {
		fmt.Fprintln(w, row(name, t.rows[name]))
	}
	_ = w.Flush() // to a terminal or a pipe; nothing to do about an error
	fmt.Fprintln(t.out)
	for _, f := range t.facts {
		fmt.Fprintln(t.out, f)
	}
}

func row(name string, rounds []sample) string {
	all, wrong := gather(rounds)
	perSecond := rate(rounds)
	limit := median(rounds, func(s sample) float64 { return s.limit })
	cpu := cpuPer1000(rounds)
	cells := []string{
		name, count(int(perSecond)), ms(quantile(all, 0.5)), ms(quantile(all, 0.99)), "-", "-", "-",
		fmt.Sprintf("%.0f %%", median(rounds, func(s sample) float64 { return s.foreign })),
		count(wrong), count(len(all)),
	}
	if limit > 0 {
		cells[4], cells[5] = count(int(limit))+"/s", fmt.Sprintf("%.0f %%", 100*perSecond/limit)
	}
	if cpu > 0 {
		cells[6] = fmt.Sprintf("%.0f ms", cpu)
	}
	return strings.Join(cells, "\t") + "\t"
}

// gather returns all times of the rounds, sorted, and how many answers were wrong.
func gather(rounds []sample) (all []time.Duration, wrong int) {
	for _, s := range rounds {
		all = append(all, s.each...)
		wrong += s.wrong
	}
	slices.Sort(all)
	return all, wrong
}

// rate is answers a second.
func rate(rounds []sample) float64 {
	return median(rounds, func(s sample) float64 { return float64(len(s.each)) / s.took.Seconds() })
}

// cpuPer1000 is milliseconds of the server's CPU for 1,000 answers.
func cpuPer1000(rounds []sample) float64 {
	return median(rounds, func(s sample) float64 { return 1000 * s.cpu.Seconds() * 1000 / float64(len(s.each)) })
}

func median(rounds []sample, of func(sample) float64) float64 {
	v := make([]float64, len(rounds))
	for i, s := range rounds {
		v[i] = of(s)
	}
	slices.Sort(v)
	n := len(v)
	if n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[n/2]
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// count writes a number with commas.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
