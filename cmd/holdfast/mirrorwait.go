package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

// How often a command looks how far a mirror is, and how long a reason why it cannot join may stand.
const (
	lookEvery  = 200 * time.Millisecond
	sayEvery   = 2 * time.Second
	joinNoMore = 30 * time.Second
)

// changeMirrors asks for a new mirror and waits until it counts.
func (d dataFlag) changeMirrors(s *streams, name, operation string, in server.MirrorRequest) error {
	conn, err := d.connect(s, false)
	if err != nil {
		return err
	}
	var a server.MirrorAnswer
	err = conn.Call(s.ctx, operation, in, &a)
	if err == nil {
		for _, w := range a.Warnings {
			fmt.Fprintln(s.err, "WARNING:", w)
		}
		fmt.Fprintf(s.out, "Mirror %s is in holdfast.conf and gets everything that the store has.\n", name)
		err = awaitMirror(s, conn, name, in.Path)
	}
	return errors.Join(err, conn.Close())
}

// awaitMirror shows how a mirror is filled until it counts.
func awaitMirror(s *streams, conn *server.Conn, name, path string) error {
	var said string
	var saidAt time.Time
	stuck := time.Now()
	for t := time.NewTicker(lookEvery); ; {
		var st server.Status
		err := conn.Call(s.ctx, "status", server.Nothing{}, &st)
		if err == nil {
			m := mirrorNamed(&st.Status, name)
			switch {
			case m == nil || m.Path != path:
				return fmt.Errorf("mirror %s was changed meanwhile", name)
			case m.Counts:
				_, err := fmt.Fprintf(s.out, "Mirror %s counts: it has every change, and what was copied was read back.\n", name)
				return err
			}
			now := m.State
			if st.Reason != "" {
				now += "; fence " + st.State + ": " + st.Reason
			}
			if now != said && time.Since(saidAt) > sayEvery {
				fmt.Fprintln(s.err, now)
				said, saidAt = now, time.Now()
			}
			if strings.HasPrefix(m.State, "joining") {
				stuck = time.Now()
			}
			if time.Since(stuck) > joinNoMore {
				return fmt.Errorf("mirror %s does not count yet: %s. It is tried again; holdfast status shows it", name, now)
			}
		}
		select {
		case <-t.C:
		case <-s.ctx.Done():
			err = s.ctx.Err()
		}
		if errors.Is(err, context.Canceled) {
			goesOn := "the server goes on with it"
			if !conn.Beside() {
				goesOn = "it goes on when the server is started"
			}
			return fmt.Errorf("mirror %s does not count yet; %s, and holdfast status shows how far it is", name, goesOn)
		}
		if err != nil {
			return err
		}
	}
}

func mirrorNamed(st *ledger.Status, name string) *ledger.MirrorStatus {
	for i := range st.Mirrors {
		if st.Mirrors[i].Name == name {
			return &st.Mirrors[i]
		}
	}
	return nil
}
