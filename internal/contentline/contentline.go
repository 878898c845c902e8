// Package contentline reads the content lines of vCard and iCalendar without losing a byte.
//
// Format: RFC 5545, 3.1 and RFC 6350, 3.2-3.3; vCard 2.1 is tolerated (quoted-printable soft line
// breaks, parameters without a name, no escapes). Lines end with LF or CRLF, are folded with space
// or tab, may follow a byte order mark and may hold NUL or broken UTF-8.
//
// Invariant: the Raw fields of all lines of an input, one after the other, are the input. Reading
// never fails, never panics, and takes time and memory in proportion to the input; what is not a
// content line is a Line without a colon. Nothing is copied unless a line is folded.
//
// The package also holds the text matching that CardDAV and CalDAV queries share (TextMatch).
package contentline

import (
	"bytes"
)

// Line is one logical content line. All slices point into the input, or into a private copy where
// the line was folded inside them; do not change them.
type Line struct {
	Start, End int    // byte range of the line in the input, folds and line ending included
	Raw        []byte // input[Start:End]
	Group      []byte // "item1" of "item1.TEL"; nil without one
	Name       []byte // as written; compare with Is; empty for a blank line
	HasColon   bool   // false: not a content line; Name is then all of it

	params []byte // what stands between name and colon, from the first ';' on, unfolded
	value  []byte // as in the input, without the line ending
	folded bool   // value has folds or soft breaks
	soft   bool   // the line is quoted-printable
}

// Reader yields the lines of an input. Copying a Reader copies the position.
type Reader struct {
	data []byte
	pos  int
}

// NewReader reads data, which must not change while lines of it are in use.
func NewReader(data []byte) Reader { return Reader{data: data} }

var (
	bom             = []byte("\xef\xbb\xbf")
	quotedPrintable = []byte("QUOTED-PRINTABLE")
	endWord         = []byte("END:")
)

// Next sets l to the next logical line and reports whether there was one.
func (r *Reader) Next(l *Line) bool {
	if r.pos >= len(r.data) {
		return false
	}
	start := r.pos
	text := start // where the text begins
	if start == 0 && bytes.HasPrefix(r.data, bom) {
		text = len(bom)
	}
	stop, next := r.physical(text) // text of the first physical line, start of the next
	folded := false
	for next < len(r.data) && (r.data[next] == ' ' || r.data[next] == '\t') {
		folded = true
		stop, next = r.physical(next)
	}
	l.split(r.data[text:stop], folded, false)
	ends := stop > text && r.data[stop-1] == '='
	if (ends || folded) && containsFold(l.params, quotedPrintable) {
		if ends {
			stop, next = r.softBreaks(stop, next)
		}
		l.split(r.data[text:stop], true, true)
	}
	l.Start, l.End, l.Raw = start, next, r.data[start:next:next]
	r.pos = next
	return true
}

// physical finds the end of the text of the physical line at pos and the start of the one after.
func (r *Reader) physical(pos int) (stop, next int) {
	i := bytes.IndexByte(r.data[pos:], '\n')
	if i < 0 {
		return trimCR(r.data, pos, len(r.data)), len(r.data)
	}
	return trimCR(r.data, pos, pos+i), pos + i + 1
}

func trimCR(data []byte, pos, stop int) int {
	for stop > pos && data[stop-1] == '\r' {
		stop--
	}
	return stop
}

// softBreaks takes in the physical lines that continue a quoted-printable value (RFC 2045, 6.7,
// rule 5): while the text ends with '=', whatever follows belongs to it. A line that ends the
// component is never swallowed.
func (r *Reader) softBreaks(stop, next int) (int, int) {
	for next < len(r.data) && r.data[stop-1] == '=' {
		if len(r.data)-next >= len(endWord) && EqualFold(r.data[next:next+len(endWord)], endWord) {
			return stop, next
		}
		s, n := r.physical(next)
		if s == next { // an empty line ends the value
			return s, n
		}
		stop, next = s, n
	}
	return stop, next
}

// split takes a logical line apart. The text may still hold folds, and soft breaks too.
func (l *Line) split(text []byte, folded, soft bool) {
	*l = Line{soft: soft}
	nl := len(text)
	if folded {
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			nl = i
		}
	}
	head, colon := text, colonIndex(text[:nl])
	if colon < 0 && nl < len(text) { // folded before the colon: unfold all of it once
		head = l.unfold(text)
		folded = false
		colon = colonIndex(head)
	}
	if colon < 0 {
		colon = bytes.IndexByte(head, ':') // an unbalanced quote hid it
	}
	if colon < 0 {
		l.Name = head
		return
	}
	l.HasColon = true
	l.value = head[colon+1:]
	l.folded = folded
	head = head[:colon]
	if i := bytes.IndexByte(head, ';'); i >= 0 {
		head, l.params = head[:i], head[i:]
	}
	l.Name = head
	if i := bytes.IndexByte(head, '.'); i >= 0 {
		l.Group, l.Name = head[:i], head[i+1:]
	}
}

// colonIndex finds the colon before the value: the first one outside quotes.
func colonIndex(b []byte) int {
	from, colon := 0, bytes.IndexByte(b, ':')
	for colon >= 0 {
		q := bytes.IndexByte(b[from:colon], '"')
		if q < 0 {
			return colon
		}
		from += q + 1
		closing := bytes.IndexByte(b[from:], '"')
		if closing < 0 {
			return -1
		}
		from += closing + 1
		if colon < from { // it was inside the quotes
			if colon = bytes.IndexByte(b[from:], ':'); colon >= 0 {
				colon += from
			}
		}
	}
	return -1
}

// unfold removes folds (a line ending and one space or tab; RFC 5545, 3.1) into a new slice. In a
// quoted-printable line the soft breaks stay, as "=\r\n", for DecodeQuotedPrintable.
func (l *Line) unfold(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return append(out, b...)
		}
		end := trimCR(b, 0, i)
		if i+1 < len(b) && (b[i+1] == ' ' || b[i+1] == '\t') && !(l.soft && end > 0 && b[end-1] == '=') {
			out = append(out, b[:end]...)
			b = b[i+2:]
			continue
		}
		out = append(out, b[:i+1]...)
		b = b[i+1:]
	}
}

// Is reports whether the line is a property of that name, whatever its group and case.
func (l *Line) Is(name string) bool { return l.HasColon && EqualFoldString(l.Name, name) }

// Value returns the value, unfolded but otherwise as written.
func (l *Line) Value() []byte {
	if l.folded {
		return l.unfold(l.value)
	}
	return l.value
}

// ValueSize returns an upper bound of the bytes of Value without making it.
func (l *Line) ValueSize() int { return len(l.value) }

// Params returns an iterator over the parameters.
func (l *Line) Params() Params { return Params{rest: l.params} }

// EqualFold compares bytes, ASCII letters without case.
func EqualFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// EqualFoldString is EqualFold with a string.
func EqualFoldString(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// containsFold reports whether b holds the word, ASCII letters without case. For short words only.
func containsFold(b, word []byte) bool {
	for i := 0; i+len(word) <= len(b); i++ {
		if EqualFold(b[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// Head returns group, name and parameters as written but unfolded: what stands before the colon.
func (l *Line) Head() []byte {
	var out []byte
	if l.Group != nil {
		out = append(append(out, l.Group...), '.')
	}
	out = append(out, l.Name...)
	for _, c := range l.params {
		if c != '\r' && c != '\n' { // of a soft break in a broken head
			out = append(out, c)
		}
	}
	return out
}
