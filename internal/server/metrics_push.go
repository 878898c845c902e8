package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/push"
)

// pushNumbers are the numbers of a Push that are told, asked for at each scrape.
var pushNumbers = []struct {
	name, help string
	gauge      bool
	of         func(s *push.Stats) int64
}{
	{"holdfast_streams", "Event streams that are open.", true, func(s *push.Stats) int64 { return s.Streams }},
	{"holdfast_stream_events_total", "Events told on streams.", false, func(s *push.Stats) int64 { return s.Events }},
}

func (m *metrics) watchPush(stats func() push.Stats) {
	for _, n := range pushNumbers {
		ask := func() float64 {
			s := stats()
			return float64(n.of(&s))
		}
		if n.gauge {
			m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: n.name, Help: n.help}, ask))
		} else {
			m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: n.name, Help: n.help}, ask))
		}
	}
}
