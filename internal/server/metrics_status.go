package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// number is one metric that is read off a status.
type number struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *ledger.Status) float64
}

func gauge(name, help string, of func(s *ledger.Status) float64) number {
	return number{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, of}
}

func total(name, help string, of func(s *ledger.Status) float64) number {
	return number{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, of}
}

// statusNumbers is the place for a new number without labels: a line here, a row in docs/monitoring.md.
// Negative means not known and is left out.
var statusNumbers = []number{
	gauge("holdfast_fence_state", "0 open, 1 held (reads only), 2 closed (nothing is served).", func(s *ledger.Status) float64 { return fenceNumber(s.State) }),
	gauge("holdfast_fence_since_timestamp_seconds", "Unix time since when the fence is in this state.", func(s *ledger.Status) float64 { return float64(s.Since.UnixMilli()) / 1000 }),
	gauge("holdfast_accounts", "Accounts, with the server's own.", func(s *ledger.Status) float64 { return float64(s.Accounts) }),
	gauge("holdfast_accounts_closed", "Accounts whose own fence is closed.", func(s *ledger.Status) float64 { return float64(len(s.Closed)) }),
	gauge("holdfast_copies", "Copies that have every acknowledged change now: the store, unless the fence is closed, and complete mirrors.", copies),
	gauge("holdfast_copies_required", "Copies that are to have every change: the store and as many mirrors as the policy wants.", required),
	gauge("holdfast_degraded", "1: writes are acknowledged with fewer copies than configured (policy degraded).", func(s *ledger.Status) float64 { return truth(s.Degraded) }),
	gauge("holdfast_term", "Number of this process's claim of the mirrors; it grows with each start and each outage.", func(s *ledger.Status) float64 { return float64(s.Term) }),
	gauge("holdfast_step_under_way_seconds", "How long the step of the write path under way has taken so far; 0: none is.", func(s *ledger.Status) float64 { return s.StepTook.Seconds() }),
	total("holdfast_term_conflicts_total", "Times since the start that another server was found to own the mirrors.", func(s *ledger.Status) float64 { return float64(s.Conflicts) }),
	total("holdfast_heals_total", "Times since the start that the store was healed from a mirror.", func(s *ledger.Status) float64 { return float64(len(s.Heals)) }),
	total("holdfast_foreign_tokens_total", "Sync tokens refused since the start for a wrong signature or server.", func(s *ledger.Status) float64 { return float64(s.Foreign) }),
	gauge("holdfast_witness_complete", "1: the head witness in the third place is whole; absent without one.", func(s *ledger.Status) float64 {
		if s.Witness == nil {
			return -1
		}
		return truth(s.Witness.State == "complete")
	}),
}

// required is what the policy wants, or all mirrors while that is not known.
func required(s *ledger.Status) float64 {
	if s.Copies > 0 {
		return float64(1 + s.Copies)
	}
	return float64(1 + len(s.Mirrors))
}

// copies counts what is whole at this moment.
func copies(s *ledger.Status) float64 {
	n := 0.0
	if s.State != fence.Closed.String() {
		n++
	}
	for i := range s.Mirrors {
		if s.Mirrors[i].Complete() {
			n++
		}
	}
	return n
}

// copyNumber is one metric of each mirror.
type copyNumber struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *ledger.Status, m *ledger.MirrorStatus) float64
}

func ofCopy(name, help string, of func(s *ledger.Status, m *ledger.MirrorStatus) float64) copyNumber {
	return copyNumber{prometheus.NewDesc(name, help, []string{"copy"}, nil), prometheus.GaugeValue, of}
}

// The store has these too.
var (
	headSeq  = ofCopy("holdfast_head_seq", "Sum of the accounts' newest acknowledged changes in a copy, as it was seen last.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return float64(m.Changes) })
	freeRoom = ofCopy("holdfast_free_bytes", "Room on a copy's disk; absent while it does not answer.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return float64(m.FreeBytes) })
)

// copyNumbers is the place for a new number with the label copy. Negative is left out.
var copyNumbers = []copyNumber{
	headSeq,
	freeRoom,
	ofCopy("holdfast_copy_complete", "1: the mirror has everything that was acknowledged, and answers.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return truth(m.Complete()) }),
	ofCopy("holdfast_copy_answers", "0: the file system of the mirror hangs.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return truth(m.Silent == 0) }),
	ofCopy("holdfast_copy_lag_seq", "Acknowledged changes that the mirror lacks, as far as is known.", func(s *ledger.Status, m *ledger.MirrorStatus) float64 {
		return float64(s.Changes - min(s.Changes, m.Changes))
	}),
	ofCopy("holdfast_copy_lag_seconds", "Since when the mirror is not complete; 0 while it is.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 {
		if m.Missing == nil {
			return m.Silent.Seconds()
		}
		return max(0, time.Since(*m.Missing).Seconds())
	}),
	{prometheus.NewDesc("holdfast_copy_slow_total", "Times since the start that the mirror did not answer within mirror_timeout.", []string{"copy"}, nil), prometheus.CounterValue, func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return float64(m.Slow) }},
	ofCopy("holdfast_copy_same_disk", "1: the mirror shares the store's disk and is no independent copy.", func(_ *ledger.Status, m *ledger.MirrorStatus) float64 { return truth(m.SameDevice) }),
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var (
	fenceIs   = prometheus.NewDesc("holdfast_fence", "1 for the state that the fence is in, 0 for the others.", []string{"state"}, nil)
	fenceWhy  = prometheus.NewDesc("holdfast_fence_reason", "1 for the reason why the fence is not open; absent while it is.", []string{"code"}, nil)
	incidents = prometheus.NewDesc("holdfast_incidents", "Reports in DIR/incidents; absent when they cannot be listed.", nil, nil)
)

// statusCollector asks the ledger for its status once for each scrape. ledger.Status waits for a disk
// that hangs for a moment at most, so a scrape does too.
type statusCollector struct {
	status    func() ledger.Status
	incidents func() (int, error)
}

// Describe names every metric.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- fenceIs
	ch <- fenceWhy
	ch <- incidents
	for _, n := range statusNumbers {
		ch <- n.desc
	}
	for _, n := range copyNumbers {
		ch <- n.desc
	}
}

// Collect sends every metric that is known.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	for _, state := range []fence.State{fence.Open, fence.Held, fence.Closed} {
		ch <- prometheus.MustNewConstMetric(fenceIs, prometheus.GaugeValue, truth(state.String() == s.State), state.String())
	}
	if s.Code != "" { // of package fence's list
		ch <- prometheus.MustNewConstMetric(fenceWhy, prometheus.GaugeValue, 1, s.Code)
	}
	for _, n := range statusNumbers {
		if v := n.of(&s); v >= 0 {
			ch <- prometheus.MustNewConstMetric(n.desc, n.kind, v)
		}
	}
	if n, err := c.incidents(); err == nil {
		ch <- prometheus.MustNewConstMetric(incidents, prometheus.GaugeValue, float64(n))
	}
	ch <- prometheus.MustNewConstMetric(headSeq.desc, prometheus.GaugeValue, float64(s.Changes), store)
	if s.FreeBytes >= 0 {
		ch <- prometheus.MustNewConstMetric(freeRoom.desc, prometheus.GaugeValue, float64(s.FreeBytes), store)
	}
	for i := range s.Mirrors {
		m := &s.Mirrors[i]
		for _, n := range copyNumbers {
			if v := n.of(&s, m); v >= 0 {
				ch <- prometheus.MustNewConstMetric(n.desc, n.kind, v, copyLabel(m.Name))
			}
		}
	}
}

const store = "store" // the copy that is no mirror

// copyLabel is a mirror's name; one that is called like the store gets another.
func copyLabel(name string) string {
	if name == store {
		return "mirror store"
	}
	return name
}
