package ledger

import "holdfast"

// Bounds of one account in a batch that others are in too. A batch costs its syncs whatever is in it, so a small one
// is not made smaller.
const (
	leastRequests = 16
	leastBytes    = 1 << 20
)

// maxReading bounds the views of one account that wait for a connection to the store. Who calls View bounds requests.
const maxReading = 1 << 16

// fairly splits those who wait into the next batch, of at most n, and the rest, each in the order in which they came.
// While several accounts wait none has more than half of the batch, leastRequests apart; when not all fit, every
// account has the same part of it.
func fairly(waiting []*request, n int) (taken, rest []*request) {
	if alone(waiting) {
		n = min(n, len(waiting))
		return waiting[:n:n], waiting[n:]
	}
	room := map[holdfast.AccountID]int{}
	for _, r := range waiting {
		room[r.account]++
	}
	even := max(n/len(room), 1)
	for a, own := range room {
		most := max(len(waiting)-own, leastRequests)
		if len(waiting) > n {
			most = min(most, even)
		}
		room[a] = min(own, most)
	}
	taken = make([]*request, 0, min(n, len(waiting)))
	for _, r := range waiting {
		if room[r.account] > 0 && len(taken) < n {
			room[r.account]--
			taken = append(taken, r)
		} else {
			rest = append(rest, r)
		}
	}
	return taken, rest
}

// alone reports whether all requests are of one account.
func alone(reqs []*request) bool {
	for _, r := range reqs {
		if r.account != reqs[0].account {
			return false
		}
	}
	return true
}

// portions counts the bytes that each account brings into a batch; nil in a batch of one account, which may fill it.
type portions map[holdfast.AccountID]int

func newPortions(reqs []*request) portions {
	if alone(reqs) {
		return nil
	}
	return portions{}
}

// spent reports whether r is for a later batch: its account has brought enough into this one.
func (p portions) spent(r *request) bool { return p != nil && p[r.account] >= leastBytes }

func (p portions) spend(r *request, bytes int) {
	if p != nil {
		p[r.account] += bytes
	}
}
