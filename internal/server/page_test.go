package server

import (
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
