package dav

import (
	"fmt"

	"holdfast"
	"holdfast/internal/ledger"
)

// passed remembers which members of a collection a long answer has left behind, and in what state of
// the account. Such an answer is made of several views, in order of name: a member that is renamed
// from behind the place reached to before it would be in none of them, and a client that compares
// would delete it. What changed behind the answer's back is therefore told at its end. A member may
// so be told twice, the newer version last; one that is gone meanwhile stays told, as in an answer
// that was sent a moment before.
type passed []passedPage

type passedPage struct {
	last string       // names up to this one
	at   holdfast.Seq // as of this state
}

// add notes the end of a view.
func (p *passed) add(last string, v *ledger.View) {
	*p = append(*p, passedPage{last, v.Head().Head.Seq})
}

// changed calls fn with each member that is new or changed since its place was passed. v is the view
// that held the last page.
func (p passed) changed(v *ledger.View, coll holdfast.CollectionID, fn func(r *ledger.Resource) error) error {
	if len(p) == 0 {
		return nil
	}
	for since := p[0].at; ; {
		deltas, reached, err := v.Changed(coll, since, syncPage)
		if err != nil {
			return fmt.Errorf("changes during a listing: %w", err)
		}
		for i := range deltas {
			d := &deltas[i]
			if at, ok := p.left(d.Name); !ok || d.Deleted || d.Seq <= at {
				continue
			}
			if err := fn(&d.Resource); err != nil {
				return err
			}
		}
		if reached.Seq >= v.Head().Head.Seq {
			return nil
		}
		since = reached.Seq
	}
}

// left returns the state in which a name was passed; false: the last view has it.
func (p passed) left(name string) (holdfast.Seq, bool) {
	for _, page := range p {
		if name <= page.last {
			return page.at, true
		}
	}
	return 0, false
}
