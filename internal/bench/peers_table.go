package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// peersTable collects the rows of one size and prints them.
type peersTable struct {
	out     io.Writer
	cards   int
	order   []string
	samples map[string]map[string][]sample // by row and server
	limits  map[string]float64             // by row: two synced copies, on this machine
}

func (t *peersTable) begin(row string) {
	t.order = append(t.order, row)
	t.samples[row] = map[string][]sample{}
}

func (t *peersTable) add(row, server string, s sample) {
	t.samples[row][server] = append(t.samples[row][server], s)
}

// print writes one line for each row and server: medians of the rounds. "x best" compares with the best of
// the other servers.
func (t *peersTable) print(peers []*peer) {
	fmt.Fprintf(t.out, "\naddress book of %s\n\n", count(t.cards))
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tserver\tanswers/s\tx best\tp50\tp99\tCPU per 1,000\tforeign CPU\twrong\tof\t")
	for _, name := range t.order {
		best := 0.0
		for _, p := range peers {
			if s := t.samples[name][p.name]; len(s) > 0 && p.name != nullName && p.name != holdfastName && p.name != "other" {
				best = max(best, rate(s))
			}
		}
		label := name
		for _, p := range peers {
			fmt.Fprintln(w, label+"\t"+t.line(p, name, best))
			label = ""
		}
		if l := t.limits[name]; l > 0 {
			fmt.Fprintf(w, "\tdisk: two copies\t%s\t\t\t\t\t\t\t\n", count(int(l)))
		}
	}
	_ = w.Flush() // to a terminal or a pipe; nothing to do about an error
	fmt.Fprintln(t.out)
	for _, p := range peers {
		now, peak := memory(p.pid)
		fmt.Fprintf(t.out, "memory (RSS) of %s: %d MB, at most %d MB\n", p.name, now>>20, peak>>20)
	}
}

func (t *peersTable) line(p *peer, row string, best float64) string {
	rounds := t.samples[row][p.name]
	if len(rounds) == 0 {
		return p.name + "\t-\t\t\t\t\t\t\tleft out: " + p.leftOut(row)
	}
	x := "-"
	if best > 0 && p.name != nullName {
		x = fmt.Sprintf("%.1f", rate(rounds)/best)
	}
	all, wrong := gather(rounds)
	return strings.Join([]string{
		p.name, decimal(rate(rounds)), x, ms(quantile(all, 0.5)), ms(quantile(all, 0.99)),
		decimal(cpuPer1000(rounds)) + " ms",
		fmt.Sprintf("%.0f %%", median(rounds, func(s sample) float64 { return s.foreign })),
		count(wrong), count(len(all)),
	}, "\t") + "\t"
}

// decimal shows a number below 100 with one place after the point.
func decimal(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return count(int(v))
}
