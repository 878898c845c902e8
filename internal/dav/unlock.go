package dav

import (
	"fmt"
	"net/http"
	"strings"

	"holdfast/internal/ledger"
)

// unlock ends a lock (RFC 4918, 9.11). Any device of the account may end any lock of it: that is the way out when
// the one that took it is gone. Nothing is written, so it also works while the server is held.
func unlock(q *request) error {
	token, ok := strings.CutPrefix(strings.TrimSpace(q.Header.Get("Lock-Token")), "<")
	token, ok2 := strings.CutSuffix(token, ">")
	if !ok || !ok2 || token == "" {
		return badRequest("Lock-Token: <token> expected") // RFC 4918, 10.5
	}
	err := q.view(func(v *ledger.View) error {
		t, err := resolve(v, q.path)
		if err != nil {
			return err
		}
		table := q.h.cfg.Locks
		l, ok := table.Find(q.who.Account, token)
		if !ok {
			// One of a process before: taken back, and so ended for good.
			l, ok = q.stateOf(v).(*lists).adopt(t, token)
		}
		switch {
		case ok && l.Covers(q.path.segs):
			table.Release(q.who.Account, token)
			return nil
		case t.place == placeNothing:
			return errNotFound
		}
		return refuse(http.StatusConflict, davName("lock-token-matches-request-uri"), "no such lock here") // RFC 4918, 9.11.1
	})
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return q.done(http.StatusNoContent)
}
