package setup

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is how many white modules a code needs around it (ISO/IEC 18004).
const quiet = 4

// encode makes the code; M survives a smudged print.
func encode(text string) (*qr.Code, error) {
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("make QR code: %w", err)
	}
	return c, nil
}

// QRPath returns the black modules of a code as the path of an SVG picture, and how wide and high that is.
func QRPath(text string) (path string, size int, err error) {
	c, err := encode(text)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			n := 0
			for x+n < c.Size && c.Black(x+n, y) {
				n++
			}
			if n > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, n, n)
				x += n
			}
		}
	}
	return b.String(), c.Size + 2*quiet, nil
}

// QRText returns a code in half blocks, two rows of modules a line. light is for a terminal that writes
// dark letters on light paper; a code with its colours turned is not read by every camera.
func QRText(text string, light bool) (string, error) {
	c, err := encode(text)
	if err != nil {
		return "", err
	}
	inked := func(x, y int) bool { return c.Black(x, y) == light } // outside of it Black is false
	blocks := map[[2]bool]string{{true, true}: "█", {true, false}: "▀", {false, true}: "▄", {false, false}: " "}
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		for x := -quiet; x < c.Size+quiet; x++ {
			b.WriteString(blocks[[2]bool{inked(x, y), inked(x, y+1)}])
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
