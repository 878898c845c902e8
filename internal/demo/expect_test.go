package demo

import (
	"bytes"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Each thing that a scenario expects is missed once: a check that cannot fail says nothing.
func TestExpectationsCanFail(t *testing.T) {
	t.Parallel()
	nothing := []act{func(*show) error { return nil }}
	refuse := func(status int) act {
		return func(s *show) error {
			next := *s.host.front.next.Load()
			s.host.front.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(status)
			}))
			s.pause(300 * time.Millisecond)
			s.host.front.serve(next)
			return nil
		}
	}
	unmounted := []act{(*show).unmountMirror, refuse(http.StatusServiceUnavailable), refuse(http.StatusServiceUnavailable), (*show).mountMirror}
	cases := []struct {
		name, want string
		sc         Scenario
		plant      map[moment]func(*show)
	}{
		{"no heal", "never noticed", Scenario{disaster: nothing, expect: []check{(*show).healedByItself}}, nil},
		{"no report", "report of the heal is not there", Scenario{disaster: []act{(*show).removeStore}, expect: []check{(*show).healedByItself}}, map[moment]func(*show){
			beforeVerdict: func(s *show) { _ = wipe(filepath.Join(s.host.config.Dir, "incidents")) },
		}},
		{"no damage", "there are 0 reports", Scenario{disaster: nothing, expect: []check{(*show).damageReported}}, nil},
		{"mirror empty", "mirror alone does not give the data back", Scenario{disaster: nothing, expect: []check{(*show).mirrorIsWhole}}, map[moment]func(*show){
			beforeVerdict: func(s *show) { _ = wipe(s.host.mirrorDir()) },
		}},
		{"false answers", "about a contact were false", Scenario{disaster: []act{refuse(http.StatusNotFound)}}, nil},
		{"reads refused", "reads were refused", Scenario{disaster: unmounted, expect: []check{(*show).readsWentOn}}, nil},
		{"no writes refused", "never told to wait", Scenario{disaster: nothing, expect: []check{(*show).writesWaited}}, nil},
		{"written with one copy", "acknowledged while a copy was missing", Scenario{disaster: unmounted, expect: []check{(*show).writesWaited}}, map[moment]func(*show){
			beforeVerdict: func(s *show) {
				middle := s.away.from.Add(s.away.to.Sub(s.away.from) / 2)
				s.journal.acked = append(s.journal.acked, ack{hostOf(s.host), middle, middle})
			},
		}},
		{"two acknowledge", "both servers acknowledged", Scenario{night: true, disaster: table[5].disaster, expect: []check{(*show).oneAcknowledged}}, map[moment]func(*show){
			beforeVerdict: func(s *show) { s.journal.acknowledgedBy(hostOf(s.second), time.Now()) },
		}},
		{"served on", "and it served on", Scenario{quiet: true, disaster: []act{(*show).closedForOne}}, nil},
		{"unsent edit lost", "1 unsent edits are not on the server", table[7], map[moment]func(*show){
			beforeVerdict: func(s *show) { s.forgetUnsent() },
		}},
		{"no warning", "0 snapshots of before and 0 alerts", Scenario{quiet: true, disaster: nothing, expect: []check{(*show).warned}}, nil},
		{"never back", "", Scenario{disaster: []act{(*show).switchOff}}, nil},
	}
	if testing.Short() {
		cases = cases[:len(cases)-1] // it waits for the limit
	}
	verdicts, errs := make([]*Verdict, len(cases)), make([]error, len(cases))
	out := make([]bytes.Buffer, len(cases))
	var g sync.WaitGroup
	for i, tc := range cases {
		tc.sc.returns = "back"
		cfg := Config{
			Out: &out[i], Keep: t.TempDir(), Log: slog.New(slog.DiscardHandler), plant: tc.plant,
			sizes: [kinds]int{20, 10, 10, 10}, beat: 10 * time.Millisecond, pace: 4 * usualPace,
		}
		switch tc.name {
		case "never back":
			cfg.limit = 20 * time.Second
		case "mirror empty":
			cfg.patience = time.Second
		}
		g.Go(func() { verdicts[i], errs[i] = run(t.Context(), tc.sc, cfg) })
	}
	g.Wait()
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			if v := verdicts[i]; v.Good() || !strings.Contains(strings.Join(v.Problems, "; "), tc.want) {
				t.Errorf("verdict %s, problems %q; want one that says %q\n%s", v, v.Problems, tc.want, out[i].String())
			}
		})
	}
}

// forgetUnsent removes from the server one edit that was unsent when the loss happened.
func (s *show) forgetUnsent() {
	for path := range s.day.unsent {
		if _, differs := s.day.kept[path]; !differs {
			_, err := s.reader.do(s.ctx, http.MethodDelete, path, nil, nil)
			if err != nil {
				s.problem("plant: %v", err)
			}
			return
		}
	}
}
