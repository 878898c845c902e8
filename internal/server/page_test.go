package server

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/ledger"
)

// TestPage: the page says in words what state the server is in, never more than everybody may know, and
// never that all is well when it is not.
func TestPage(t *testing.T) {
	mirror := func(state string) []ledger.MirrorStatus {
		return []ledger.MirrorStatus{{Name: "usb", Path: "/mnt/secret", State: state}}
	}
	for name, c := range map[string]struct {
		status ledger.Status
		want   string
	}{
		"open":   {ledger.Status{State: "open", Changes: 1, Mirrors: mirror("complete")}, "All is well"},
		"held":   {ledger.Status{State: "held", Reason: "/mnt/secret", Mirrors: mirror("open /mnt/secret")}, "writing has to wait"},
		"closed": {ledger.Status{State: "closed", Reason: "/mnt/secret", Mirrors: mirror("open /mnt/secret")}, "Please wait"},
		"one account": {ledger.Status{
			State: "open", Mirrors: mirror("complete"), Closed: []ledger.ClosedStatus{{Account: "00ab", Reason: "/mnt/secret"}},
		}, "Some accounts have to wait"},
	} {
		got := string(page(publicStatus(c.status, nil)))
		if !strings.Contains(got, c.want) || !strings.Contains(got, "<title>Holdfast: "+c.status.State) {
			t.Errorf("%s: no %q in the page:\n%s", name, c.want, got)
		}
		if well := strings.Contains(got, "All is well"); well != (name == "open") {
			t.Errorf("%s: all is well: %v", name, well)
		}
		for _, secret := range []string{"secret", "00ab", "ZgotmplZ"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: the page tells %s", name, secret)
			}
		}
	}
}

// TestPageContrast: every colour of text has the contrast of WCAG 2.2 AA (4.5 to 1) on its paper, in both schemes.
func TestPageContrast(t *testing.T) {
	text := string(page(publicStatus(ledger.Status{State: "open"}, nil)))
	schemes := regexp.MustCompile(`:root\{[^}]*--ink[^}]*\}`).FindAllString(text, -1)
	if len(schemes) != 2 {
		t.Fatalf("%d schemes of colours", len(schemes))
	}
	for _, scheme := range schemes {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z]+):#([0-9a-f]{3,6})`).FindAllStringSubmatch(scheme, -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, name := range []string{"ink", "soft", "open", "held", "closed"} {
			light, dark := max(colours[name], colours["paper"]), min(colours[name], colours["paper"])
			if ratio := (light + 0.05) / (dark + 0.05); ratio < 4.5 {
				t.Errorf("%s on paper: %.2f to 1", name, ratio)
			}
		}
	}
}

// luminance is that of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = hex[:1] + hex[:1] + hex[1:2] + hex[1:2] + hex[2:] + hex[2:]
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
		c := float64(n>>(8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// TestPageIsOneDocument: one main landmark, headings in order, sections that are named.
func TestPageIsOneDocument(t *testing.T) {
	text := string(page(publicStatus(ledger.Status{State: "closed", Mirrors: []ledger.MirrorStatus{{Name: "<b>", State: "x"}}}, []PublicEvent{{What: "a"}})))
	for what, n := range map[string]int{"<main>": 1, "<h1>": 1, "</section>": 4, "<section": 4, "&lt;b&gt;": 1, "<script": 0, `lang="en"`: 1, "<footer": 1} {
		if got := strings.Count(text, what); got != n {
			t.Errorf("%q stands %d times, want %d", what, got, n)
		}
	}
	for _, id := range regexp.MustCompile(`aria-labelledby="([a-z]+)"`).FindAllStringSubmatch(text, -1) {
		if strings.Count(text, `id="`+id[1]+`"`) != 1 {
			t.Errorf("no heading %s", id[1])
		}
	}
}
