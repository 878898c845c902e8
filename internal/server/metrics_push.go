package server

import (
	"time"

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
	{"holdfast_push_registrations", "Registrations for Web Push.", true, func(s *push.Stats) int64 { return s.Registrations }},
	{"holdfast_push_sent_total", "Messages that push services took.", false, func(s *push.Stats) int64 { return s.Sent }},
	{"holdfast_push_gone_total", "Messages to subscriptions that their push service does not know any more.", false, func(s *push.Stats) int64 { return s.Gone }},
	{"holdfast_push_failed_total", "Messages that did not arrive; most are tried again.", false, func(s *push.Stats) int64 { return s.Failed }},
	{"holdfast_push_oldest_seconds", "How long the change that waits longest has waited to be told by Web Push.", true, func(s *push.Stats) int64 { return int64(s.Oldest / time.Second) }},
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
