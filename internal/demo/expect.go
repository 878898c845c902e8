package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The checks that scenarios expect beside "nothing is lost". Each returns what is wrong.

// healedByItself: the server noticed, and wrote a report for people.
func (s *show) healedByItself() string {
	heals := s.host.ledger.Status().Heals
	if len(heals) == 0 {
		return "the server never noticed that its store was not what it should be"
	}
	h := heals[len(heals)-1]
	if _, err := os.Stat(filepath.Join(s.host.config.Dir, "incidents", h.Report)); err != nil {
		return fmt.Sprintf("the report of the heal is not there: %v", err)
	}
	s.say("server", "got %d changes back from the mirror; the report is in incidents/%s", h.Changes, h.Report)
	return ""
}

// answeredTruly: whatever the server said about the contact that was watched, it was not false.
func (s *show) answeredTruly() string {
	if _, _, falsely := s.watch.counts(); falsely > 0 {
		return fmt.Sprintf("%d answers about a contact were false", falsely)
	}
	return ""
}

// readsWentOn: reads were served while a copy was missing. One or two may be refused while it is found out.
func (s *show) readsWentOn() string {
	if s.away.waits > 2 || s.away.truly == 0 {
		return fmt.Sprintf("%d of %d reads were refused although the store was true", s.away.waits, s.away.waits+s.away.truly)
	}
	return ""
}

// writesWaited: nothing was acknowledged while a copy was missing, and every device was told to wait.
func (s *show) writesWaited() string {
	for _, d := range s.devices {
		if d.remote.refused.Load() == 0 {
			return fmt.Sprintf("%s was never told to wait although a copy was missing", d.name)
		}
	}
	if n := s.journal.count(func(a ack) bool { return a.began.After(s.away.from) && a.came.Before(s.away.to) }); n > 0 {
		return fmt.Sprintf("%d writes were acknowledged while a copy was missing", n)
	}
	return ""
}

// damageReported: both damages to the mirror were found and mended, the second one by a scrub, and are
// written down for people.
func (s *show) damageReported() string {
	dir := filepath.Join(s.host.config.Dir, "incidents")
	atStart, _ := filepath.Glob(filepath.Join(dir, "*Z-damage.md")) // the patterns are right ones
	byScrub, _ := filepath.Glob(filepath.Join(dir, "*-scrub-healed-*.md"))
	if len(atStart) == 0 || len(byScrub) == 0 {
		return fmt.Sprintf("the mirror was damaged twice, and there are %d reports of it", len(atStart)+len(byScrub))
	}
	if st := s.host.ledger.Status().Scrub; st.Unhealed > 0 {
		return fmt.Sprintf("%d damages are not mended", st.Unhealed)
	}
	s.say("server", "found both damages and wrote what was missing again from the store; reports are in incidents/")
	return ""
}

// mirrorIsWhole throws the store away on purpose: what comes back is from this mirror alone, and is
// compared with everything else in the end.
func (s *show) mirrorIsWhole() string {
	s.say("operator", "throws the store away, to see what the mirror alone is worth")
	if err := s.host.switchOff(); err != nil {
		return fmt.Sprintf("the server does not stop: %v", err)
	}
	err := wipe(s.host.storeDir())
	if err == nil {
		err = wipe(filepath.Join(s.host.config.Dir, "blobs"))
	}
	if err == nil {
		err = s.host.switchOn(s.ctx)
	}
	if err == nil {
		err = s.waitOpen()
	}
	if err != nil {
		return fmt.Sprintf("the mirror alone does not give the data back: %v", err)
	}
	heals := s.host.ledger.Status().Heals
	if len(heals) == 0 {
		return "the mirror alone gave nothing back"
	}
	s.say("server", "got all %d changes back from the mirror", heals[0].Changes)
	return ""
}

// oneAcknowledged: once the second server had acknowledged a write, the first one acknowledged none that
// was begun after it.
func (s *show) oneAcknowledged() string {
	old, now := hostOf(s.second), hostOf(s.host)
	first := s.journal.first(by(now))
	if first.host == "" {
		return "the second server acknowledged nothing"
	}
	late := s.journal.count(func(a ack) bool { return a.host == old && a.began.After(first.came) })
	s.say("demo", "after the second server's first \"stored\" the first one said it %d times", late)
	if late > 0 {
		return fmt.Sprintf("both servers acknowledged: the first one %d times after the second had", late)
	}
	return ""
}

// absence is the time during which the mirror was not there, and how reads were answered in it.
type absence struct {
	from, to     time.Time
	truly, waits int
}
