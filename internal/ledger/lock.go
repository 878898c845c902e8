package ledger

// lock is a mutex for what is written to a disk while it is held: who waits for it may wait long. It is a
// channel so that a test in virtual time (testing/synctest) sees that somebody waits.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }
