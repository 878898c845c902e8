package ledger

// happen is what the world does to the servers between two turns.
func (s *sim) happen() {
	if s.rng.IntN(60) > 0 {
		return
	}
	switch b := s.boxes[s.rng.IntN(len(s.boxes))]; s.rng.IntN(4) {
	case 0:
		s.log("box %d: kill", b.no)
		s.kill(b)
		s.start(b)
	}
	for _, b := range s.boxes {
		if b.proc.dead.Load() {
			s.start(b)
		}
	}
}
