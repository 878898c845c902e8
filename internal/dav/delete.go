package dav

import (
	"fmt"
	"net/http"

	"holdfast/internal/ledger"
)

// del removes a resource, or a collection with all below it (RFC 4918, 9.6).
func del(q *request) error {
	cond, err := parseConditions(q.Header)
	if err != nil {
		return err
	}
	depth, err := q.depth("infinity")
	if err != nil {
		return err
	}
	var gone []string
	err = q.update(func(tx *ledger.Tx) error {
		t, err := find(tx, q.path)
		if err != nil {
			return err // RFC 9110, 13.2.1: what would fail without the precondition fails as it would
		}
		if err := removable(t); err != nil {
			return err
		}
		if t.place == placeCollection && depth != "infinity" {
			return badRequest("a collection is deleted with Depth infinity") // RFC 4918, 9.6.1
		}
		if err := cond.check(t.state(), q.stateOf(tx)); err != nil {
			return err
		}
		if err := q.permit(cond, t, contents|naming|tree); err != nil {
			return err
		}
		gone = q.lockedAt(t.segs, true)
		remove(tx, t)
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	q.h.cfg.Locks.Release(q.who.Account, gone...) // RFC 4918, 9.6
	return q.done(http.StatusNoContent)
}

// removable refuses to delete or move what belongs to the server.
func removable(t *target) error {
	if t.isVirtual() || t.isHome() {
		return forbidden("the home and the principal stay")
	}
	return nil
}

func remove(tx *ledger.Tx, t *target) {
	if t.place == placeCollection {
		tx.DeleteCollection(t.coll.ID)
	} else {
		tx.Delete(t.coll.ID, t.name())
	}
}
