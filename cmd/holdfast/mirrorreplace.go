package main

import "holdfast/internal/server"

type mirrorReplace struct {
	dataFlag
	Name string `arg:"" help:"The mirror whose place is taken."`
	Dir  string `arg:"" placeholder:"DIR3" help:"The new directory, new or empty."`
	Yes  bool   `help:"Yes, the old mirror is lost: take its place at once. What only it knew is lost with it."`
}

// Help teaches.
func (mirrorReplace) Help() string {
	return `Makes a mirror in DIR3, writes it into holdfast.conf in the place of NAME, and copies everything into it. While the old
one can be read it counts until the new one is complete: so a mirror moves to a larger disk while the server serves.

When the old disk is dead, first think: can it come back? Then bring it back instead; it gets what it lacks by itself. If it
cannot, say --yes. The server compares its store with every mirror that is left and with every other witness, then goes on
with the new one. If the dead one was the only mirror, the store is the only copy until that is done: copy the data directory
somewhere safe first if you can. The old directory is never touched.

Exit code 0: the new mirror counts. 1: an error, and it is not complete. 3: refused, nothing was changed.

  holdfast mirror replace usb /mnt/usb2/holdfast-mirror --data /srv/holdfast
  holdfast mirror replace usb /mnt/usb2/holdfast-mirror --yes --data /srv/holdfast`
}

// Run replaces the mirror.
func (c *mirrorReplace) Run(s *streams) error {
	path, err := newPlace(c.Dir)
	if err != nil {
		return err
	}
	return c.changeMirrors(s, c.Name, "mirror/replace", server.MirrorRequest{Name: c.Name, Path: path, GiveUp: c.Yes})
}
