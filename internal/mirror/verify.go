package mirror

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/frame"
)

// VerifyLog reads the log of one term from the medium: every frame, chain, commit, footer and link, every
// operation against its commitment. blob is called for each body over 64 KiB that a change of it names; its
// error ends the reading. The log may be open; what is appended meanwhile is not seen. It returns the heads
// that the log ends with. ErrCorrupt: something is missing or damaged. ErrNotFound: there is no such log.
func (m *Mirror) VerifyLog(ctx context.Context, t holdfast.Term, blob func(holdfast.AccountID, frame.Blob) error) (map[holdfast.AccountID]holdfast.AccountHead, error) {
	logs, strange, err := m.logs(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify log %s in mirror %s: %w", t, m.cfg.Name, err)
	}
	for i := range logs {
		if logs[i].term != t {
			continue
		}
		c := &checker{m: m, Report: &Report{}, blob: blob}
		if err := c.log(ctx, &logs[i], nil); err != nil {
			return nil, fmt.Errorf("verify log %s in mirror %s: %w", t, m.cfg.Name, err)
		}
		if len(strange) > 0 {
			c.add(strange...)
		}
		if c.Bad() {
			return nil, fmt.Errorf("verify log %s in mirror %s: %s: %w", t, m.cfg.Name, firstBad(c.Damage), holdfast.ErrCorrupt)
		}
		return c.last, nil
	}
	return nil, fmt.Errorf("verify log %s in mirror %s: %w", t, m.cfg.Name, holdfast.ErrNotFound)
}

func firstBad(damage []Damage) string {
	for _, d := range damage {
		if d.Kind != Torn {
			return d.String()
		}
	}
	return "more damage than is listed"
}

// VerifyBlob reads a body from the medium to its end. ErrCorrupt: it is another, or shorter. ErrNotFound.
func (m *Mirror) VerifyBlob(ctx context.Context, account holdfast.AccountID, b frame.Blob) error {
	return m.verifyBlob(ctx, account, b)
}

// ClaimFar is Claim for a mirror that has missed any number of terms, or is new.
func (m *Mirror) ClaimFar(ctx context.Context, t holdfast.Term, note string) error {
	terms, err := m.Terms(ctx)
	if err != nil {
		return fmt.Errorf("claim term %s: %w", t, err)
	}
	highest := uint64(0)
	if len(terms) > 0 {
		highest = terms[len(terms)-1].Term.Number
	}
	for highest+maxGap < t.Number {
		highest += maxGap
		if err := m.Claim(ctx, holdfast.Term{Number: highest, Random: t.Random}, note); err != nil {
			return err
		}
	}
	if err := m.CheckTerm(ctx, t); err == nil {
		return nil // claimed before in the same term
	} else if !errors.Is(err, holdfast.ErrAbsent) && !errors.Is(err, holdfast.ErrFenced) {
		return err
	}
	return m.Claim(ctx, t, note)
}
