package server

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// metrics is everything that /metrics tells, in a registry of its own. docs/monitoring.md lists the names; a
// test holds the two together. No label has a value that a client chooses: kinds, methods and classes of
// statuses come from lists, copies from the settings.
//
// Three ways lead in: a part that has a number in ledger.Status adds it to statusNumbers or copyNumbers
// (metrics_status.go); what happens now and then is an event (event); what takes time is a step (observe).
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	steps      *prometheus.HistogramVec // by step
	acks       prometheus.Histogram
	events     *prometheus.CounterVec // by kind, bad
	requests   *prometheus.CounterVec // by method, code
	durations  *prometheus.HistogramVec
	inFlight   prometheus.Gauge
	alerts     *prometheus.CounterVec // by way, result
	heartbeats *prometheus.CounterVec // by result

	mu    sync.Mutex
	known map[string]bool // steps
}

const maxSteps = 24 // names of steps; more are counted as "other"

// fsyncBuckets go from a fast SSD's flush to a disk that wakes up.
var fsyncBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// requestBuckets go from a small answer to a large upload.
var requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}

func newMetrics(version string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), known: map[string]bool{}}
	m.steps = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "holdfast_step_seconds", Help: "Duration of each durable step of the write path; append holds the mirrors' fsync.", Buckets: fsyncBuckets,
	}, []string{"step"})
	m.acks = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "holdfast_ack_wait_seconds", Help: "From a write's arrival at the ledger to its acknowledgement, or to its refusal.", Buckets: fsyncBuckets,
	})
	m.events = counters("holdfast_events_total", "What the ledger reported, by kind; bad: somebody must look.", "kind", "bad")
	m.requests = counters("holdfast_http_requests_total", "Answered requests by method and class of status.", "method", "code")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "holdfast_http_request_seconds", Help: "Duration of a request with its bodies, by method.", Buckets: requestBuckets,
	}, []string{"method"})
	m.inFlight = prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_http_requests_in_flight", Help: "Requests being answered now."})
	m.alerts = counters("holdfast_alerts_total", "Alerts by way (webhook, mail) and result (sent, failed: will be tried again, lost).", "way", "result")
	m.heartbeats = counters("holdfast_heartbeats_total", "Signs of life to the outside watcher by result (sent, failed, withheld: something is wrong here).", "result")
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_build_info", Help: "Always 1; the labels say what runs."}, []string{"version", "go"})
	build.WithLabelValues(version, runtime.Version()).Set(1)

	for _, step := range []string{"commit", "append", "look", "witness"} {
		m.known[step] = true
		m.steps.WithLabelValues(step)
	}
	for _, k := range eventKinds {
		m.events.WithLabelValues(string(k), "true")
		m.events.WithLabelValues(string(k), "false")
	}
	m.registry.MustRegister(m.steps, m.acks, m.events, m.requests, m.durations, m.inFlight, m.alerts, m.heartbeats, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: false})
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// watch adds the numbers of a ledger, asked for at each scrape.
func (m *metrics) watch(d *Dir) {
	m.registry.MustRegister(&statusCollector{status: d.Ledger.Status, incidents: d.incidents})
}

var eventKinds = []ledger.EventKind{ledger.EventFence, ledger.EventAccount, ledger.EventHealed, ledger.EventMirror, ledger.EventDamage, ledger.EventMassChange}

// event counts one; it never blocks.
func (m *metrics) event(e ledger.Event) {
	kind := "other"
	for _, k := range eventKinds {
		if e.Kind == k {
			kind = string(k)
		}
	}
	m.events.WithLabelValues(kind, strconv.FormatBool(e.Bad)).Inc()
}

// observe measures one step; it never blocks.
func (m *metrics) observe(step string, took time.Duration) {
	if step == "ack" {
		m.acks.Observe(took.Seconds())
		return
	}
	m.mu.Lock()
	switch {
	case m.known[step]:
	case len(m.known) < maxSteps:
		m.known[step] = true
	default:
		step = "other"
	}
	m.mu.Unlock()
	m.steps.WithLabelValues(step).Observe(took.Seconds())
}

// methods are those that have a number of their own.
var methods = map[string]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "OPTIONS": true, "PROPFIND": true, "PROPPATCH": true, "REPORT": true,
	"MKCOL": true, "MKCALENDAR": true, "COPY": true, "MOVE": true, "LOCK": true, "UNLOCK": true, "ACL": true,
}

// request counts an answered request. A nil metrics counts nothing.
func (m *metrics) request(method string, status int, took time.Duration) {
	if m == nil {
		return
	}
	if !methods[method] {
		method = "other"
	}
	m.requests.WithLabelValues(method, strconv.Itoa(status/100)+"xx").Inc()
	m.durations.WithLabelValues(method).Observe(took.Seconds())
}

// enter counts a request under way until leave is called.
func (m *metrics) enter() (leave func()) {
	if m == nil {
		return func() {}
	}
	m.inFlight.Inc()
	return m.inFlight.Dec
}

// fenceNumber is the value of holdfast_fence_state.
func fenceNumber(state string) float64 {
	switch state {
	case fence.Open.String():
		return 0
	case fence.Held.String():
		return 1
	}
	return 2
}
