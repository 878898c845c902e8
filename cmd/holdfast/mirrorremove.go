package main

import (
	"errors"
	"fmt"

	"holdfast/internal/server"
)

type mirrorRemove struct {
	dataFlag
	Name string `arg:"" help:"The mirror to take out."`
}

// Help teaches.
func (mirrorRemove) Help() string {
	return `Takes a mirror out of holdfast.conf and of the copies that writes wait for. Its directory stays as it is, as a copy of
what there was until now; nothing of it is ever taken for new. Remove the directory yourself when you are sure.

Exit code 0: it is out. 3: refused: too few complete mirrors would be left for the policy.

  holdfast mirror remove attic --data /srv/holdfast`
}

// Run removes the mirror.
func (c *mirrorRemove) Run(s *streams) error {
	var a server.MirrorAnswer
	conn, err := c.connect(s, false)
	if err != nil {
		return err
	}
	if err := errors.Join(conn.Call(s.ctx, "mirror/remove", server.MirrorRequest{Name: c.Name}, &a), conn.Close()); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Mirror %s is out. Its directory was not touched.\n", c.Name)
	printPolicy(s.out, &a.Status)
	return nil
}
